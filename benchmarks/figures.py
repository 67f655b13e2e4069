"""What a benchmark finds: figures, each beside what it is measured against."""

import statistics
from collections.abc import Iterable, Sequence

import msgspec
from rich.console import Console
from rich.table import Table

ROUNDS = 3
SHORT_ROUNDS = 9
"""where a round takes a second or less, and the machine's other work would show in a single one"""


class Figure(msgspec.Struct, frozen=True):
    """One figure: the medians of all rounds.

    `ours` and `theirs` are in `unit`; `against` says what theirs is. The ratio is that of two figures of the same round, and
    of it the median is taken too. `wanted` is the ratio, or the figure itself, that is to be reached (None: for information).
    """

    subject: str
    name: str
    unit: str
    ours: float
    theirs: float | None = None
    against: str = ""
    ratio: float | None = None
    wanted: str = ""
    met: bool | None = None
    missed_by: float = 0.0
    """how far the ratio, or the figure, is from what is wanted; 0 when that is reached"""


def compared(
    subject: str,
    name: str,
    unit: str,
    pairs: Iterable[tuple[float, float]],
    *,
    against: str,
    at_least: float | None = None,
    wanted: str = "",
) -> Figure:
    """A figure of rounds that measured both sides. `at_least`: the ratio ours / theirs that is wanted."""
    ours, theirs = zip(*pairs, strict=True)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    met = None if at_least is None else ratio >= at_least
    if at_least is not None:
        wanted = wanted or f"at least {at_least:.2f} of it"
    missed_by = 0.0 if at_least is None else max(0.0, at_least - ratio)
    middle = statistics.median(ours), statistics.median(theirs)
    return Figure(subject, name, unit, *middle, against, ratio, wanted, met, missed_by)


def at_most(
    subject: str, name: str, unit: str, ours: Sequence[float], limit: float, *, beside: tuple[str, float] | None = None
) -> Figure:
    """A figure that is to stay below a limit."""
    value = statistics.median(ours)
    against, theirs = beside or ("", None)
    ratio = value / theirs if theirs else None
    wanted = f"at most {limit:g} {unit}"
    return Figure(subject, name, unit, value, theirs, against, ratio, wanted, value <= limit, max(0.0, value - limit))


def shown(figures: Sequence[Figure], console: Console) -> None:
    """Prints the figures as a table."""
    table = Table("", "figure", "ours", "", "beside", "ratio", "wanted", "", box=None, pad_edge=False)
    for column in (2, 4, 5):
        table.columns[column].justify = "right"
    before = ""
    for each in figures:
        table.add_row(
            each.subject if each.subject != before else "",
            each.name,
            _number(each.ours),
            each.unit,
            f"{_number(each.theirs)} {each.against}" if each.theirs is not None else "",
            f"{each.ratio:.2f}" if each.ratio is not None else "",
            each.wanted,
            {None: "", True: "reached", False: f"missed by {_number(each.missed_by)}"}[each.met],
        )
        before = each.subject
    console.print(table)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
