"""`llmux replay`: the state at any moment."""

from functools import partial

import click

from llmux.actors import facts as fold
from llmux.actors.replaying import replay as fold_log
from llmux.cli.command import Command, print_json, read_log
from llmux.cli.moments import moment_of, position_at
from llmux.eventstore import Reader


@click.command(cls=Command)
@click.option(
    "--at", "moment", help="A position, or a time such as 2026-11-22T18:30:00Z; the end of the log by default."
)
def replay(moment: str | None) -> None:
    """Fold the log and print the facts of every actor as JSON."""
    read_log(partial(_print_facts, moment=moment))


async def _print_facts(reader: Reader, *, moment: str | None) -> None:
    until = None if moment is None else await position_at(reader, moment_of(moment, "--at"))
    facts = await fold_log(reader, until=until)
    if until is not None and facts.position < until:
        raise click.BadParameter(f"the log ends at position {facts.position}", param_hint="--at")
    print_json(fold.plain(facts))
