"""Folds a log: the state at its end or at any moment before, from the nearest stored state on."""

from collections.abc import Collection

import msgspec
import trio

from llmux.actors.facts import EMPTY, SCHEMA, Facts, evolve, load
from llmux.actors.snapshots import latest
from llmux.events import EventSkipped, can_read
from llmux.eventstore import Origin, Reader, vouched_ending, vouched_origin
from llmux.failures import LogDamaged

PAGE = 10_000
"""events that are folded at one go"""


async def replay(
    reader: Reader,
    *,
    until: int | None = None,
    page: int = PAGE,
    snapshots: bool = True,
    skipping: Collection[int] = (),
) -> Facts:
    """The facts that follow from the log, up to and including position `until` (its end by default).

    It starts from the newest snapshot that is not later, from the state that archiving left, or from nothing; without
    `snapshots` it folds every event that the file holds. A moment in an archive is folded from the state at the end of the
    archive before. A stored state counts only when the log names its hash. Events at the positions `skipping`, and at those
    that the log says are skipped, mean nothing where they are unknown. Raises UnknownEvent, StoreFailure (LogDamaged and
    ArchiveMissing among them).
    """
    facts = await _before(reader, until, snapshots=snapshots)
    skipped = {*skipping, *await skips(reader, after=facts.position)}
    while until is None or facts.position < until:
        lines = await reader.lines(after=facts.position, until=until, limit=page)
        if not lines:
            break
        facts = evolve(facts, lines, skipped)
    return facts


async def skips(reader: Reader, *, after: int = 0) -> Collection[int]:
    """The positions after `after` that somebody has declared to mean nothing, wherever in the log that was said.

    (It is always said later in the log than where that event stands.)
    """
    positions: set[int] = set()
    page = reader.limits.read_rows_max
    while events := await reader.read(stream="log-skips", after=after, limit=page):
        facts = [event.fact for event in events if can_read(event)]
        positions |= {fact.skipped for fact in facts if isinstance(fact, EventSkipped)}
        after = events[-1].position
    return positions


async def _before(reader: Reader, until: int | None, *, snapshots: bool) -> Facts:
    """The newest stored state up to `until`, or nothing: then all events before are read, from the archives where they are."""
    if snapshots and (facts := await latest(reader, until)) is not None:
        return facts
    origin = await vouched_origin(reader)
    last = origin.head.position
    if until is None or until >= last:
        return await sealed(origin)
    archive = reader.archives.holding(until, last) if until else None
    through = (
        archive.through if archive is not None and archive.through == until else archive.first - 1 if archive else 0
    )
    if not through:
        return EMPTY
    ending = await vouched_ending(reader, through, last)
    return await trio.to_thread.run_sync(loaded, bytes(ending.state), ending.state_schema, through)


async def sealed(origin: Origin) -> Facts:
    """The state that archiving left, or EMPTY. Raises LogDamaged when it is no state that this version can read."""
    if not origin.head.position:
        return EMPTY
    return await trio.to_thread.run_sync(loaded, origin.state, origin.state_schema, origin.head.position)


def loaded(state: bytes, state_schema: int, position: int) -> Facts:
    """A state that archiving stored, or EMPTY when it was stored by an older version: then all events before are folded anew.

    Raises LogDamaged when it is no state that this version can read.
    """
    if state_schema > SCHEMA:
        raise LogDamaged("The state that the log goes on from was written by a newer LLMux. Start that one.")
    if state_schema < SCHEMA:
        return EMPTY
    try:
        facts = load(msgspec.json.decode(state))
    except (ValueError, msgspec.DecodeError):
        raise LogDamaged("The state that the log goes on from cannot be read. Restore the log from a backup.") from None
    if facts.position != position:
        raise LogDamaged("The state that the log goes on from is that of another position.")
    return facts
