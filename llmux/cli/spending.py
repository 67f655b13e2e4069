"""`llmux usage`: what was spent, by whom and on what, at any moment of the log."""

from functools import partial

import click
import msgspec

from llmux.actors.estimates import Prices
from llmux.actors.usage import DIMENSIONS, day_of
from llmux.actors.usage_report import Question, dimensions_of, found_rows, report, sum_of
from llmux.cli.command import Command, print_json, read_log
from llmux.cli.replaying import facts_at
from llmux.cli.spent import ESTIMATE, left_out, usage_table
from llmux.cli.tables import wide_console
from llmux.clock import SystemClock
from llmux.config import from_environment
from llmux.eventstore import Reader
from llmux.failures import ClientFailure


class _Day(click.ParamType[int]):
    """A UTC day, counted from 1970-01-01."""

    name = "date"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else day_of(value, SystemClock().now(), "date")
        except ClientFailure as failure:
            self.fail(str(failure).removeprefix("date: "), param, ctx)


class _Dimensions(click.ParamType[tuple[str, ...]]):
    """Names of dimensions, separated by commas."""

    name = "|".join(DIMENSIONS)

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        try:
            return dimensions_of(value) if isinstance(value, str) else value
        except ClientFailure as failure:
            self.fail(str(failure).removeprefix("by: "), param, ctx)


@click.command(cls=Command)
@click.option("--by", type=_Dimensions(), multiple=True, help="Group by this; may be given more than once.")
@click.option(
    "--from", "first_day", type=_Day(), help="From this UTC day on, such as 2026-11-22, or 7d for 7 days ago."
)
@click.option("--to", "last_day", type=_Day(), help="Up to this UTC day, and including it.")
@click.option("--at", "moment", help="As it was known at this position or time of the log.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def usage(
    by: tuple[tuple[str, ...], ...],
    first_day: int | None,
    last_day: int | None,
    moment: str | None,
    as_json: bool,
) -> None:
    """Print what was spent: requests, tokens and what these would have cost (an estimate), by provider unless --by says otherwise."""
    if first_day is not None and last_day is not None and first_day > last_day:
        raise click.UsageError("--from is later than --to.")
    dimensions = tuple(dict.fromkeys(name for names in by for name in names)) or ("provider",)
    question, prices = Question(dimensions, first_day, last_day), Prices(from_environment())
    read_log(partial(_print_usage, question=question, prices=prices, moment=moment, as_json=as_json))


async def _print_usage(
    reader: Reader, *, question: Question, prices: Prices, moment: str | None, as_json: bool
) -> None:
    facts = await facts_at(reader, moment, "--at")
    if as_json:
        print_json(msgspec.to_builtins(report(facts, question, prices)))
    elif found := found_rows(facts, question, prices):
        wide_console().print(usage_table(found, question.by))
        whole = sum_of(found)
        if whole.prices_date is not None:
            click.echo(f"\n{ESTIMATE} Prices of {whole.prices_date} or later.{left_out(whole)}")
    else:
        click.echo("Nothing was spent in that time.")
