"""`llmux replay`: the state at any moment."""

import re
from datetime import UTC, datetime
from functools import partial

import click

from llmux.actors import facts as fold
from llmux.actors.opening import replay as fold_log
from llmux.cli.command import Command, print_json, read_log
from llmux.eventstore import Reader


@click.command(cls=Command)
@click.option(
    "--at", "moment", help="A position, or a time such as 2026-11-22T18:30:00Z; the end of the log by default."
)
def replay(moment: str | None) -> None:
    """Fold the log and print the facts of every actor as JSON."""
    read_log(partial(_print_facts, moment=moment))


async def _print_facts(reader: Reader, *, moment: str | None) -> None:
    until = None if moment is None else await _position_at(reader, moment)
    facts = await fold_log(reader, reader.limits.read_rows_max, until=until)
    if until is not None and facts.position < until:
        raise click.BadParameter(f"the log ends at position {facts.position}", param_hint="--at")
    print_json(fold.plain(facts))


async def _position_at(reader: Reader, moment: str) -> int:
    """The position that `moment` names: itself, or the last one before the first event that is recorded later."""
    if re.fullmatch(r"[0-9]{1,18}", moment):
        return int(moment)
    try:
        limit_ms = datetime.fromisoformat(moment).astimezone(UTC).timestamp() * 1000
    except (ValueError, OverflowError):
        raise click.BadParameter(
            "write a position such as 120, or a time such as 2026-11-22T18:30:00Z", param_hint="--at"
        ) from None
    position, page = 0, reader.limits.read_rows_max
    while recorded := await reader.read(after=position, limit=page):
        for event in recorded:
            if event.recorded_at > limit_ms:
                return position
            position = event.position
    return position
