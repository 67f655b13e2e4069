"""What was spent, as it is told: the same document from the terminal and over HTTP."""

from decimal import Decimal
from typing import Any

import msgspec

from llmux.actors.estimates import Estimate, Prices
from llmux.actors.facts import Facts
from llmux.actors.usage import DIMENSIONS, UsageRow, day_of, day_text, rows, total
from llmux.config.prices import CURRENCY
from llmux.failures import ClientFailure, printable


class Question(msgspec.Struct, frozen=True):
    """What somebody wants to know: grouped by these dimensions, from one day to another (both included, counted from
    1970-01-01 UTC), of one principal or of all.
    """

    by: tuple[str, ...] = ()
    first_day: int | None = None
    last_day: int | None = None
    only: str | None = None


class Figures(msgspec.Struct, frozen=True, rename="camel"):
    """What is counted. `requests` are all that ended; `failed`, `cancelled` and `abandoned` those without a whole answer,
    `cached` and `joined` those whose answer cost nothing. `inputTokens` includes the cached and the written ones,
    `outputTokens` those of reasoning.
    """

    requests: int
    failed: int
    cancelled: int
    abandoned: int
    cached: int
    joined: int
    attempts: int
    attempts_failed: int
    attempts_cancelled: int
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    cache_write_input_tokens: int
    reasoning_tokens: int
    duration_ms: int


class Total(msgspec.Struct, frozen=True, rename="camel"):
    """Sums. `estimatedUsd` is an estimate of what the tokens would have cost at the vendors' APIs, in USD with six decimals;
    `unpricedTokens` are those that it leaves out, because no price of their model is known (null: of none). `pricesDate` is
    the day of the oldest price in it.
    """

    figures: Figures
    estimated_usd: Decimal | None
    unpriced_tokens: int
    prices_date: str | None


class Row(Total, frozen=True, rename="camel"):
    """What one group spent. `group` maps each dimension to a name, or to null where there is none; `principal` says who it
    was where that is no key.
    """

    group: dict[str, str | None]
    principal: str


class UsageReport(msgspec.Struct, frozen=True, rename="camel"):
    """What was spent, as the log knew it at `position`. Days are UTC days, both included; null = without a bound."""

    position: int
    from_: str | None = msgspec.field(name="from")
    to: str | None
    by: tuple[str, ...]
    currency: str
    rows: list[Row]
    total: Total


def report(facts: Facts, question: Question, prices: Prices) -> UsageReport:
    """The answer to a question. Without `by` there is one row, of everything."""
    found = found_rows(facts, question, prices)
    figures, whole = total(found), sum_of(found)
    return UsageReport(
        position=facts.position,
        from_=None if question.first_day is None else day_text(question.first_day),
        to=None if question.last_day is None else day_text(question.last_day),
        by=question.by,
        currency=CURRENCY,
        rows=[Row(**_sums(row.figures, row.estimate), group=row.group, principal=row.principal) for row in found],
        total=Total(**_sums(figures, whole)),
    )


def found_rows(facts: Facts, question: Question, prices: Prices) -> list[UsageRow]:
    """The rows that answer a question."""
    return rows(
        facts,
        by=question.by,
        first_day=question.first_day,
        last_day=question.last_day,
        only=question.only,
        prices=prices,
    )


def sum_of(found: list[UsageRow]) -> Estimate:
    """The estimate over all rows."""
    return sum((row.estimate for row in found), Estimate())


def _sums(figures: dict[str, int], estimate: Estimate) -> dict[str, Any]:
    return {
        "figures": Figures(**figures),
        "estimated_usd": estimate.usd,
        "unpriced_tokens": estimate.unpriced_tokens,
        "prices_date": estimate.prices_date,
    }


# --- questions that people write ------------------------------------------------------------------------------------


def question_of(*, by: str | None, since: str | None, to: str | None, now: int, only: str | None = None) -> Question:
    """The question of a query: dimensions with commas between them, and days such as 2026-11-22 or 7d (before `now`, wall time
    in ms). Raises ClientFailure, which names the parameter.
    """
    first = None if since is None else day_of(since, now, "from")
    last = None if to is None else day_of(to, now, "to")
    if first is not None and last is not None and first > last:
        raise ClientFailure("from: it is later than to.", param="from")
    return Question(() if by is None else dimensions_of(by), first, last, only)


def dimensions_of(text: str) -> tuple[str, ...]:
    """The dimensions in a text such as `user,model`, each once. Raises ClientFailure."""
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in DIMENSIONS:
            raise ClientFailure(
                f"by: usage is not known by '{printable(name, 40)}', but by {', '.join(DIMENSIONS)}.", param="by"
            )
    return names
