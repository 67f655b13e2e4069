"""What the log itself says of its archives: the database must go on from the end of the last of them, and no stored state may
be used that the log does not name."""

import hashlib
from collections.abc import Mapping

import msgspec
import trio

from llmux.events import LogArchived
from llmux.eventstore.archive import Ending
from llmux.eventstore.chain import EMPTY
from llmux.eventstore.origin import Origin, canonical
from llmux.eventstore.reader import Reader
from llmux.failures import LogDamaged

STREAM = "log-archives"


async def vouched_origin(reader: Reader) -> Origin:
    """What the events of the file follow, as the log itself says. Raises LogDamaged when it says something else."""
    while True:
        origin = await reader.origin()
        try:
            await check_origin(reader, origin)
            return origin
        except LogDamaged:
            if (await reader.origin()).head == origin.head:
                raise  # else events moved into archives meanwhile


async def check_origin(reader: Reader, origin: Origin) -> None:
    """Raises LogDamaged unless the log says what it goes on from: the end of its last archive, the hash of the state there, how
    to read it, and the versions of the streams that go on. Reads one event, by an index.
    """
    if origin.head == EMPTY:
        return
    first = origin.head.position + 1
    last = await reader.last(STREAM)
    fact = last.fact if last is not None else None
    if not isinstance(fact, LogArchived) or fact.through != origin.head.position:
        raise LogDamaged(
            f"The log goes on from position {first}, and does not say that what came before is archived.", first
        )
    if fact.head != origin.head.hash.hex():
        raise LogDamaged("The hash that the log goes on from is not the one of its last archive.", first)
    where, way_on = "that the log goes on from", "Restore the log from a backup."
    await trio.to_thread.run_sync(_compare, fact, where, way_on, origin.state, origin.state_schema, origin.streams)


async def vouched_ending(reader: Reader, through: int, last: int) -> Ending:
    """The state at the end of the archive that ends with `through`; the database begins after `last`.

    Raises ArchiveMissing, and LogDamaged unless the log says the same of that state.
    """
    archive = reader.archives.holding(through, last)
    ending = await reader.archives.ending(through, last)
    fact = await _sealing(reader, through, last)
    if fact is None:
        raise LogDamaged(f"The log does not know the archive {archive.path}.", archive.first)
    where, way_on = f"in {archive.path}", "Put the right file back."
    await trio.to_thread.run_sync(_compare, fact, where, way_on, ending.state, ending.state_schema, ending.streams)
    return ending


async def archived_facts(reader: Reader, after: int) -> list[LogArchived]:
    """What the database says of archives after this position, in order."""
    facts: list[LogArchived] = []
    page = reader.limits.read_rows_max
    while events := await reader.read(stream=STREAM, after=after, limit=page, archived=False):
        facts += [fact for event in events if isinstance(fact := event.fact, LogArchived)]
        after = events[-1].position
    return facts


async def _sealing(reader: Reader, through: int, last: int) -> LogArchived | None:
    """What the log says of the archive that ends with `through`. The database is asked first, then the archives after it, too."""
    for fact in await archived_facts(reader, last):
        if fact.through == through:
            return fact
    after = through
    while events := await reader.read(stream=STREAM, after=after, limit=1):
        said = events[0].fact
        if isinstance(said, LogArchived) and said.through == through:
            return said
        after = events[0].position
    return None


def is_sealed(fact: LogArchived, state: bytes | msgspec.Raw, state_schema: int) -> bool:
    """Whether this is the state that was sealed."""
    return (fact.state_schema, fact.state_sha256) == (state_schema, hashlib.sha256(state).hexdigest())


def has_sealed(fact: LogArchived, streams: Mapping[str, int]) -> bool:
    """Whether these are the last versions of streams that were sealed; also where they were not recorded yet."""
    return fact.streams_sha256 in ("", streams_sha256(streams))


def streams_sha256(streams: Mapping[str, int]) -> str:
    """The hash of last versions of streams, as LogArchived holds it."""
    return hashlib.sha256(canonical(streams)).hexdigest()


def _compare(
    fact: LogArchived,
    where: str,
    way_on: str,
    state: bytes | msgspec.Raw,
    state_schema: int,
    streams: Mapping[str, int],
) -> None:
    if not is_sealed(fact, state, state_schema):
        raise LogDamaged(f"The state {where} is not the one that was sealed. {way_on}", fact.through)
    if not has_sealed(fact, streams):
        raise LogDamaged(f"The versions of the streams {where} are not those that were sealed. {way_on}", fact.through)
