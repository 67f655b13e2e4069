"""`llmux events skip`: somebody decides that an event which this version cannot read means nothing."""

from collections.abc import Collection

import click
import trio

from llmux import config
from llmux.actors.opening import open_journal
from llmux.actors.replaying import skips
from llmux.cli.command import Command
from llmux.clock import SystemClock
from llmux.config import Settings
from llmux.events import EventSkipped, Line, NewEvent, fact_of
from llmux.eventstore import Reader, open_reader
from llmux.failures import LLMuxError, UnknownEvent, printable

STREAM = "log-skips"
REASON_CHARS_MAX = 500
PAGE = 10_000


class NothingToSkip(LLMuxError):
    """There is no event at that position, or it is one that can be read."""

    status = 409
    code = "nothing_to_skip"


@click.command(cls=Command)
@click.argument("position", type=click.IntRange(1, 2**63 - 1))
@click.option("--reason", required=True, help="Why it does not matter; it is recorded.")
def skip(position: int, reason: str) -> None:
    """Declare that the event at POSITION, which this version cannot read, means nothing. The gateway must be stopped."""
    reason = reason.strip()
    if not reason or len(reason) > REASON_CHARS_MAX:
        raise click.BadParameter(f"say why, in at most {REASON_CHARS_MAX} characters", param_hint="--reason")
    for sentence in trio.run(_skip, config.from_environment(), position, reason):
        click.echo(sentence)


async def _skip(settings: Settings, position: int, reason: str) -> list[str]:
    """Records the skip, and says what it did. Raises NothingToSkip, DirectoryInUse while a gateway runs, StoreFailure."""
    async with open_reader(settings.data_dir, settings.limits) as reader:
        unreadable = await _unreadable(reader)
        if position not in unreadable:
            raise await _nothing_to_skip(reader, position)
    clock = SystemClock()
    # With more than one of them each is skipped by itself, so the others must not stop this one.
    async with open_journal(settings, clock, skipping=unreadable) as journal:
        fact = EventSkipped(skipped=position, reason=reason)
        (recorded,) = await journal.append(NewEvent(STREAM, fact, clock.new_id(), principal="admin"))
    line = unreadable.pop(position)
    said = [
        f"Position {position} (a {printable(line.type, 60)} of schema {line.schema}) is skipped from now on: "
        f"position {recorded.position} of the log says so, and why."
    ]
    if unreadable:
        said.append(f"This version cannot read {_listed(unreadable)} either.")
    return said


async def _unreadable(reader: Reader) -> dict[int, Line]:
    """The events that this version cannot read and nobody has skipped, by position. What is archived was read once."""
    found: dict[int, Line] = {}
    origin = after = (await reader.origin()).head.position
    while lines := await reader.lines(after=after, limit=PAGE):
        found |= {line.position: line for line in lines if not _can_be_read(line)}
        after = lines[-1].position
    for position in await skips(reader, after=origin):
        found.pop(position, None)
    return found


def _can_be_read(line: Line) -> bool:
    try:
        fact_of(line)
    except UnknownEvent:
        return False
    return True


async def _nothing_to_skip(reader: Reader, position: int) -> NothingToSkip:
    head = (await reader.head_on_disk()).position
    if position > head:
        return NothingToSkip(f"There is no event at position {position}: the log ends at {head}.")
    origin = (await reader.origin()).head.position
    if position <= origin:
        return NothingToSkip(
            f"Position {position} is archived: the state goes on from position {origin}, and needs nothing before it."
        )
    if position in await skips(reader, after=origin):
        return NothingToSkip(f"Position {position} is skipped already.")
    return NothingToSkip(f"The event at position {position} can be read, so there is nothing to skip.")


def _listed(positions: Collection[int]) -> str:
    numbers = sorted(positions)
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return f"position{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:10]))}{more}"
