"""Copies the archives of a log, each checked with the hash that the log says of it.

What the database does not say of an earlier archive, a later one does: so they are taken from the last to the first, and every
one is believed only when its SHA-256 is the one that was recorded.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import trio

from llmux.events import LogArchived
from llmux.eventstore.archive import event_in, name_of
from llmux.eventstore.archives import Archive, Place
from llmux.eventstore.backup import claimed, discard, named
from llmux.eventstore.reader import Reader
from llmux.eventstore.vouching import archived_facts
from llmux.failures import ArchiveMissing, ConfigurationWrong, LogDamaged, StoreFailure

_READ_BYTES = 1024 * 1024


async def copy_archives(reader: Reader, source: Path, target: Path, *, replace: bool = False) -> int:
    """Copies all archives of the log from the folder `source` to `target`, durably; returns how many were not there yet.

    A file that is in `target` with the right content is left alone; another one of that name is replaced only with `replace`
    (else ConfigurationWrong). Raises ArchiveMissing, LogDamaged for a file that is not the one of the log, StoreFailure.
    """
    through = (await reader.origin()).head.position
    facts = await archived_facts(reader, through)
    return await trio.to_thread.run_sync(_copy_all, facts, through, source, target, replace)


def _copy_all(facts: Iterable[LogArchived], through: int, source: Path, target: Path, replace: bool) -> int:
    known = {fact.through: fact for fact in facts}
    copied = 0
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        while through:
            fact = known.get(through)
            if fact is None or not 1 <= fact.first <= through:
                raise LogDamaged(f"The log does not say which archive ends with position {through}.", through)
            name = name_of(fact.first, through)
            copied += _copy(fact, source / name, target / name, replace)
            for other in _said_in(Archive(fact.first, through, target / name)):
                known.setdefault(other.through, other)
            through = fact.first - 1
    except OSError as error:
        raise StoreFailure(f"{error.filename or target} cannot be used: {error.strerror}.") from error
    return copied


def _said_in(archive: Archive) -> Iterator[LogArchived]:
    """What the events of this archive say of archives."""
    with Place(archive) as place:
        for line in place.lines(archive.through):
            if b'"LogArchived"' in line and isinstance(fact := event_in(line).fact, LogArchived):
                yield fact


def _copy(fact: LogArchived, source: Path, there: Path, replace: bool) -> bool:
    if there.is_file() and _sha256(there) == fact.sha256:
        return False
    if os.path.lexists(there) and not replace:
        raise ConfigurationWrong(
            f"{there} is not the archive of this log that has its name. Move it away, or name another folder."
        )
    part = claimed(there)
    try:
        with open(source, "rb") as reading, open(part, "wb") as writing:
            shutil.copyfileobj(reading, writing, _READ_BYTES)
            writing.flush()
            os.fsync(writing.fileno())
        if _sha256(part) != fact.sha256:
            raise LogDamaged(f"The archive {source} is damaged: it is not the file that the log says.", fact.first)
        named(part, there, replace=replace)
    except FileNotFoundError:
        raise ArchiveMissing(
            f"The archive {source} with the positions {fact.first} to {fact.through} is not there. Put it back, or leave "
            "--archives away."
        ) from None
    finally:
        discard(part)
    return True


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
