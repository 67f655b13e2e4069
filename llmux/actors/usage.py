"""What was spent, and by whom: the rows of the usage fold, put together by key, user, project, provider, model or day. Pure."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from operator import add, attrgetter
from typing import Any

import msgspec

from llmux.actors.estimates import Estimate, Prices, estimate
from llmux.actors.facts import Facts
from llmux.actors.facts.usage import DAY_MS, Spent
from llmux.failures import ClientFailure, printable

DIMENSIONS = ("day", "key", "user", "project", "provider", "account", "model")
FIGURES = tuple(
    name for name in Spent.__struct_fields__ if name not in ("day", "principal", "provider", "account", "model")
)
"""The names of what is counted; `Spent` says what each of them means."""

_EPOCH = date(1970, 1, 1)
_LAST = date.max - _EPOCH
_DAYS_AGO = re.compile(r"([0-9]{1,5})d")


class UsageRow(msgspec.Struct, frozen=True):
    """What one group spent.

    `group` maps each dimension that was asked for to a name. None stands for what there is not: the route of a request whose
    end names none, the user and project of a principal that is no key ("local", "api-key", "admin", "gateway"). Such
    principals have rows of their own, and `principal` says which one it is; else it is "".
    `figures` maps each of FIGURES to a number; `estimate` is what the tokens would have cost at the vendors' APIs, where
    prices were given.
    """

    group: dict[str, str | None]
    principal: str
    figures: dict[str, int]
    estimate: Estimate = Estimate(None)


def rows(
    facts: Facts,
    *,
    by: Sequence[str] = (),
    first_day: int | None = None,
    last_day: int | None = None,
    only: str | None = None,
    prices: Prices | None = None,
) -> list[UsageRow]:
    """What was spent from `first_day` to `last_day` (both included, counted from 1970-01-01 UTC), one row per group.

    `by` holds some of DIMENSIONS; without any there is one row, of everything. Rows are sorted by their groups in that order,
    what has no name last (those by their principals). `only` is the one principal that counts, where it is given.
    Raises ValueError for an unknown dimension.
    """
    for name in by:
        if name not in DIMENSIONS:
            raise ValueError(f"usage is not known by {name}")
    sums: dict[tuple[Any, ...], tuple[UsageRow, dict[tuple[str, str], tuple[int, ...]]]] = {}
    for spent in facts.usage.values():
        if (first_day is not None and spent.day < first_day) or (last_day is not None and spent.day > last_day):
            continue
        if only is not None and spent.principal != only:
            continue
        group = {name: _name(facts, spent, name) for name in by}
        keyless = spent.principal not in facts.keys and any(name in ("user", "project") for name in by)
        principal = spent.principal if keyless else ""
        place = (*group.values(), principal)
        if place not in sums:
            sums[place] = UsageRow(group, principal, {}), {}
        by_model, model = sums[place][1], (spent.provider, spent.model)
        figures = _figures(spent)
        by_model[model] = tuple(map(add, by_model[model], figures)) if model in by_model else figures
    if not by and not sums:
        sums[()] = UsageRow({}, "", {}), {}
    return sorted((_summed(row, by_model, prices) for row, by_model in sums.values()), key=_order)


_figures = attrgetter(*FIGURES)


def _summed(row: UsageRow, by_model: dict[tuple[str, str], tuple[int, ...]], prices: Prices | None) -> UsageRow:
    """The row with its figures, and with the estimate for the sum of each model: so there are few of these to make."""
    figures = dict(zip(FIGURES, map(sum, zip((0,) * len(FIGURES), *by_model.values(), strict=True)), strict=True))
    estimated = row.estimate
    if prices is not None:
        of_models = (
            estimate(provider, model, dict(zip(FIGURES, counted, strict=True)), prices)
            for (provider, model), counted in by_model.items()
        )
        estimated = sum(of_models, Estimate())
    return UsageRow(row.group, row.principal, figures, estimated)


def total(rows: Sequence[UsageRow]) -> dict[str, int]:
    """The sum of every figure over all rows."""
    return {figure: sum(row.figures[figure] for row in rows) for figure in FIGURES}


def _name(facts: Facts, spent: Spent, dimension: str) -> str | None:
    match dimension:
        case "day":
            return day_text(spent.day)
        case "key":
            return spent.principal
        case "user" | "project":
            key = facts.keys.get(spent.principal)
            return None if key is None else str(getattr(key, dimension))
    return getattr(spent, dimension) or None


def _order(row: UsageRow) -> tuple[Any, ...]:
    return tuple((name is None, row.principal if name is None else name) for name in row.group.values())


# --- days -----------------------------------------------------------------------------------------------------------


def day_of(text: str, now: int, param: str) -> int:
    """The day that people write as `2026-11-22`, or as `7d`: so many days before the day of `now` (wall time in ms).

    Days are UTC days, counted from 1970-01-01. Raises ClientFailure, which names `param`.
    """
    ago = _DAYS_AGO.fullmatch(text)
    if ago is not None:
        return max(0, now // DAY_MS - int(ago[1]))
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            return (date.fromisoformat(text) - _EPOCH).days
    except ValueError:
        pass
    raise ClientFailure(
        f"{param}: '{printable(text, 60)}' is no day. Write one such as "
        f"{datetime.fromtimestamp(now / 1000, UTC):%Y-%m-%d}, or 7d for seven days ago.",
        param=param,
    )


def day_text(day: int) -> str:
    """A day as people write it: 2026-11-22."""
    return (_EPOCH + min(timedelta(days=day), _LAST)).isoformat()
