"""Goes through archive files as an auditor would: every hash, every link, every version, and what the log says of each file."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
import trio

from llmux.events import Line, LogArchived, fact_of
from llmux.eventstore.archive import MALFORMED, Ending, Row, row_of
from llmux.eventstore.archives import FOLDER, Archive, Place, damaged
from llmux.eventstore.chain import EMPTY, NO_KEYS, Head, Keys
from llmux.eventstore.origin import Origin
from llmux.eventstore.reader import Reader
from llmux.eventstore.verify import Walk
from llmux.eventstore.vouching import archived_facts, has_sealed, is_sealed, vouched_ending
from llmux.failures import LogDamaged

PAGE = 5_000

Progress = Callable[[int, int], object]
"""Is told (position, last position) after each page."""


class Walked(msgspec.Struct, frozen=True):
    """An archive file that is whole. It leads from the hash `before` to `head`."""

    archive: Archive
    before: Head
    head: Head
    ending: Ending
    file_bytes: int
    sha256: str

    def agrees(self, fact: LogArchived) -> bool:
        """Whether the log says the same of this file."""
        return (
            (fact.first, fact.through, fact.file) == (self.archive.first, self.archive.through, file_of(self.archive))
            and (fact.file_bytes, fact.sha256) == (self.file_bytes, self.sha256)
            and fact.head == self.head.hash.hex()
            and is_sealed(fact, self.ending.state, self.ending.state_schema)
            and has_sealed(fact, self.ending.streams)
        )


def file_of(archive: Archive) -> str:
    """The file as the log names it: its path in the data directory."""
    return f"{FOLDER}/{archive.path.name}"


async def walk_archive(
    archive: Archive, walk: Walk, versions: Mapping[str, int], *, each: Callable[[Sequence[Row]], object] | None = None
) -> Walked:
    """Checks a whole file: its form, its chain from `walk.head` on, and the versions, which follow `versions`.

    `each` is given the rows, page by page. Raises LogDamaged with the first position that is wrong, and ArchiveMissing.
    """
    before = walk.head
    place = await trio.to_thread.run_sync(_opened, archive)
    with place:
        if (place.beginning.prev_hash, place.beginning.first) != (before.hash.hex(), before.position + 1):
            raise LogDamaged(f"The archive {archive.path} does not follow position {before.position}.", archive.first)
        reached = dict(versions)
        while place.position < archive.through:
            rows = await trio.to_thread.run_sync(_checked, place, walk, reached)
            if each is not None:
                each(rows)
        if place.beginning.hash != walk.head.hash.hex():
            raise LogDamaged(f"The archive {archive.path} ends with another event than it says.", archive.through)
        ending = await trio.to_thread.run_sync(place.ending)
        if any(reached.get(stream) != version for stream, version in ending.streams.items()):
            raise LogDamaged(f"The archive {archive.path} ends with other versions than it says.", archive.through)
        sha256 = await trio.to_thread.run_sync(lambda: place.sha256)
    return Walked(archive, before, walk.head, ending, archive.path.stat().st_size, sha256)


def _opened(archive: Archive) -> Place:
    return Place(archive, hashing=True)


def _checked(place: Place, walk: Walk, versions: dict[str, int]) -> list[tuple[Any, ...]]:
    """The next rows of the file, which fit."""
    rows: list[tuple[Any, ...]] = []
    try:
        rows.extend(row_of(line) for line in islice(place.lines(place.archive.through), PAGE))
    except MALFORMED as error:
        walk.take(rows)
        raise damaged(place.archive, place.position - 1) from error
    gap = None
    for row in rows:
        if row[2] != versions.get(row[1], -1) + 1:
            gap = row[0]
            break
        versions[row[1]] = row[2]
    walk.take(rows, gap)
    return rows


class Auditor:
    """What is told of the archives as they are walked. Both may raise LogDamaged."""

    def begin(self, through: int, ending: Ending) -> None:
        """The walk begins after position `through`, where the archive before ends like this. (Not told at the log's beginning.)"""

    def take(self, lines: Sequence[Line]) -> None:
        """The next events, all of which fit."""

    def end(self, archive: Archive, ending: Ending) -> None:
        """A whole archive has been taken; this is its last line."""


async def walk_archives(
    reader: Reader, auditor: Auditor, *, first: int = 1, keys: Keys = NO_KEYS, progress: Progress | None = None
) -> tuple[Walk, int]:
    """Checks the archives, from the one with the position `first` to where the database goes on, and what the log says of them.

    Returns how far the walk has come, for `verify` to go on with, and how many files it were. What comes before them is
    trusted. Raises LogDamaged, ArchiveMissing.
    """
    origin = await reader.origin()
    walk, versions = await _before(reader, auditor, origin, first, keys)
    walked: list[Walked] = []
    said: list[LogArchived] = []
    first = walk.head.position + 1

    def each(rows: Sequence[Row]) -> None:
        lines = [Line(row[0], row[1], row[3], row[4], row[6], row[7], row[8], row[10]) for row in rows]
        said.extend(_archived(lines))
        auditor.take(lines)
        if progress is not None:
            progress(lines[-1].position, origin.head.position)

    while walk.head.position < origin.head.position:
        archive = reader.archives.holding(walk.head.position + 1, origin.head.position)
        found = await walk_archive(archive, walk, versions, each=each)
        auditor.end(archive, found.ending)
        walked.append(found)
        versions = found.ending.streams
    said += await archived_facts(reader, origin.head.position)
    _compare(walked, [fact for fact in said if first <= fact.first and fact.through <= origin.head.position])
    if walked:
        _same_as(origin, walked[-1])
    return walk, len(walked)


async def _before(
    reader: Reader, auditor: Auditor, origin: Origin, first: int, keys: Keys
) -> tuple[Walk, Mapping[str, int]]:
    """Where to begin, and the versions there."""
    last = origin.head.position
    begins = reader.archives.holding(first, last).first if first <= last else 1
    if begins == 1:
        return Walk(EMPTY, keys), {}
    archive = reader.archives.holding(begins - 1, last)
    place = await trio.to_thread.run_sync(Place, archive)
    with place:
        head = Head(archive.through, bytes.fromhex(place.beginning.hash))
    ending = await vouched_ending(reader, archive.through, last)
    auditor.begin(archive.through, ending)
    return Walk(head, keys), ending.streams


def _archived(lines: Iterable[Line]) -> list[LogArchived]:
    facts = [fact_of(line) for line in lines if line.type == "LogArchived"]
    return [fact for fact in facts if isinstance(fact, LogArchived)]


def _compare(walked: Sequence[Walked], said: Sequence[LogArchived]) -> None:
    """Raises LogDamaged unless the log vouches for every file, and for nothing else."""
    facts = {fact.through: fact for fact in said}
    for each in walked:
        fact = facts.pop(each.archive.through, None)
        if fact is None:
            raise LogDamaged(f"The log does not know the archive {each.archive.path}.", each.archive.first)
        if not each.agrees(fact):
            raise LogDamaged(f"The archive {each.archive.path} is not the file that the log says.", each.archive.first)
    for fact in facts.values():
        raise LogDamaged(f"The log says that {fact.file} was sealed, and no such file is a part of it.", fact.first)


def _same_as(origin: Origin, last: Walked) -> None:
    """Raises LogDamaged unless the database goes on from what the last archive says."""
    same = (
        (origin.head, origin.state_schema) == (last.head, last.ending.state_schema)
        and origin.state == bytes(last.ending.state)
        and dict(origin.streams) == dict(last.ending.streams)
    )
    if not same:
        raise LogDamaged(f"The state that the log goes on from is not the one in {last.archive.path}.")
