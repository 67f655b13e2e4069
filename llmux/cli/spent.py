"""Usage as a table: a row for each group, and their total."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from llmux.actors.estimates import Estimate
from llmux.actors.usage import UsageRow, total
from llmux.failures import printable

SHOWN = (
    "requests", "cached", "joined", "failed", "cancelled", "abandoned", "attempts",
    "input_tokens", "cached_input_tokens", "output_tokens",
)  # fmt: skip
"""the figures of the table; JSON has all of them"""
ALWAYS_SHOWN = ("requests", "attempts", "input_tokens", "output_tokens")
ESTIMATE = "~USD is an estimate of what the same tokens would have cost at the vendors' APIs; nothing was billed."


def usage_table(found: Sequence[UsageRow], by: Sequence[str]) -> Table:
    """A row for each group, and their total. Columns that say nothing are left out."""
    totals = total(found)
    figures = [name for name in SHOWN if totals[name] or name in ALWAYS_SHOWN]
    table = Table(box=None, pad_edge=False, show_footer=len(found) > 1, footer_style="bold")
    for number, name in enumerate(by):
        table.add_column(name, "" if number else "total", overflow="fold")
    for name in figures:
        table.add_column(name.replace("_", " "), f"{totals[name]:,}", justify="right")
    whole = sum((row.estimate for row in found), Estimate())
    if whole.prices_date is not None:
        table.add_column("~USD", _dollars(whole), justify="right")
    for row in found:
        names = [printable(_shown(row, name), 100) for name in by]
        estimated = () if whole.prices_date is None else (_dollars(row.estimate),)
        table.add_row(*map(Text, names), *(f"{row.figures[name]:,}" for name in figures), *estimated)
    return table


def left_out(estimate: Estimate) -> str:
    """A sentence on the tokens that an estimate leaves out, "" when there are none."""
    if not estimate.unpriced_tokens:
        return ""
    return f" No price is known for {estimate.unpriced_tokens:,} of the tokens; these are left out (+?)."


def _dollars(estimate: Estimate) -> str:
    if estimate.usd is None:
        return "?"
    return f"{estimate.usd:,.4f}{' +?' if estimate.unpriced_tokens else ''}"


def _shown(row: UsageRow, dimension: str) -> str:
    name = row.group[dimension]
    if name is not None:
        return name
    return f"({row.principal})" if dimension in ("user", "project") else "-"
