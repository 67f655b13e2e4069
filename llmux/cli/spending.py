"""`llmux usage`: what was spent, by whom and on what, at any moment of the log."""

from functools import partial

import click
import msgspec

from llmux.actors.usage import DIMENSIONS, day_of, day_text, rows, total
from llmux.cli.command import Command, print_json, read_log
from llmux.cli.replaying import facts_at
from llmux.cli.spent import usage_table
from llmux.cli.tables import wide_console
from llmux.clock import SystemClock
from llmux.eventstore import Reader
from llmux.failures import ClientFailure, printable


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
        names = tuple(value.split(",")) if isinstance(value, str) else value
        for name in names:
            if name not in DIMENSIONS:
                self.fail(f"usage is not known by '{printable(name, 40)}', but by {', '.join(DIMENSIONS)}", param, ctx)
        return names


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
    """Print what was spent: requests and tokens, by provider unless --by says otherwise."""
    if first_day is not None and last_day is not None and first_day > last_day:
        raise click.UsageError("--from is later than --to.")
    dimensions = tuple(dict.fromkeys(name for names in by for name in names)) or ("provider",)
    read_log(
        partial(_print_usage, by=dimensions, first_day=first_day, last_day=last_day, moment=moment, as_json=as_json)
    )


async def _print_usage(
    reader: Reader,
    *,
    by: tuple[str, ...],
    first_day: int | None,
    last_day: int | None,
    moment: str | None,
    as_json: bool,
) -> None:
    facts = await facts_at(reader, moment, "--at")
    found = rows(facts, by=by, first_day=first_day, last_day=last_day)
    if as_json:
        days = {name: None if day is None else day_text(day) for name, day in (("from", first_day), ("to", last_day))}
        print_json(
            {
                "position": facts.position,
                **days,
                "by": by,
                "rows": [msgspec.to_builtins(row) for row in found],
                "total": total(found),
            }
        )
    elif found:
        wide_console().print(usage_table(found, by))
    else:
        click.echo("Nothing was spent in that time.")
