"""Folds a log: the state at its end or at any moment before, from the nearest stored state on."""

from collections.abc import Collection

import msgspec

from llmux.actors.facts import EMPTY, SCHEMA, Facts, evolve, load
from llmux.actors.snapshots import latest
from llmux.events import EventSkipped
from llmux.eventstore import Origin, Reader
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
    `snapshots` it folds every event that the file holds. Events at the positions `skipping`, and at those that the log says
    are skipped, mean nothing where they are unknown. Raises UnknownEvent, StoreFailure.
    """
    facts = await _before(reader, until, snapshots=snapshots)
    skipped = {*skipping, *await skips(reader)}
    while until is None or facts.position < until:
        lines = await reader.lines(after=facts.position, until=until, limit=page)
        if not lines:
            break
        facts = evolve(facts, lines, skipped)
    return facts


async def skips(reader: Reader) -> Collection[int]:
    """The positions that somebody has declared to mean nothing, wherever in the log that was said."""
    positions: set[int] = set()
    after, page = 0, reader.limits.read_rows_max
    while events := await reader.read(stream="log-skips", after=after, limit=page):
        positions |= {fact.skipped for event in events if isinstance(fact := event.fact, EventSkipped)}
        after = events[-1].position
    return positions


async def _before(reader: Reader, until: int | None, *, snapshots: bool) -> Facts:
    """The newest stored state up to `until`."""
    if snapshots and (facts := await latest(reader, until)) is not None:
        return facts
    origin = await reader.origin()
    if not origin.head.position or (until is not None and until < origin.head.position):
        return EMPTY  # the events themselves are read, from the archives where they are there
    return sealed(origin)


def sealed(origin: Origin) -> Facts:
    """The state that archiving left. Raises LogDamaged when it is no state that this version can read."""
    if origin.state_schema > SCHEMA:
        raise LogDamaged("The state that the log goes on from was written by a newer LLMux. Start that one.")
    try:
        facts = load(msgspec.json.decode(origin.state))
    except (ValueError, msgspec.DecodeError):
        raise LogDamaged("The state that the log goes on from cannot be read. Restore the log from a backup.") from None
    if facts.position != origin.head.position:
        raise LogDamaged("The state that the log goes on from is that of another position.")
    return facts
