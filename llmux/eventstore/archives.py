"""Reads events that have moved into archive files. In threads of their own: decompressing must hold up nobody else.

Pages that follow each other read a file once: the place where one ended is kept open for the next. Whoever asks for the newest
first has the file read anew for every page, because a compressed file can only be read forwards.
"""

import gzip
import hashlib
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import trio

from llmux.eventstore.archive import (
    EVERYTHING,
    MALFORMED,
    Asked,
    Beginning,
    Build,
    Ending,
    beginning_in,
    ending_in,
    name_of,
    range_of,
)
from llmux.failures import ArchiveMissing, LogDamaged, StoreFailure

FOLDER = "archives"
PLACES_MAX = 4
"""open files: the places of so many readers are kept"""
_BROKEN = (OSError, EOFError, zlib.error)


class Archive(msgspec.Struct, frozen=True, order=True):
    """A file with the positions `first` to `through`, as its name says."""

    first: int
    through: int
    path: Path


class Archives:
    """The archive files in a folder, which need not exist."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._places: dict[tuple[Path, int], Place] = {}
        self._lock = threading.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Archives {self.folder} with {len(self.files())} files>"

    def close(self) -> None:
        """Closes the files that are open; none is kept open from now on."""
        with self._lock:
            self._closed = True
            while self._places:
                self._places.popitem()[1].close()

    def files(self) -> list[Archive]:
        """What lies there, in the order of positions. Files of other names do not count."""
        try:
            names = [path.name for path in self.folder.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreFailure(f"The archives in {self.folder} cannot be read: {error.strerror}.") from None
        return sorted(Archive(*found, self.folder / name) for name in names if (found := range_of(name)))

    def holding(self, position: int, origin: int) -> Archive:
        """The file with this position, of those that end at `origin` or before. Raises ArchiveMissing."""
        files = [file for file in self.files() if file.through <= origin]
        for file in files:
            if file.first <= position <= file.through:
                return file
        low = max((file.through for file in files if file.through < position), default=0) + 1
        high = min((file.first for file in files if file.first > position), default=origin + 1) - 1
        raise missing(low, high)

    def check(self, origin: int) -> None:
        """Raises ArchiveMissing unless all files up to `origin` are there."""
        position = 0
        while position < origin:
            position = self.holding(position + 1, origin).through

    async def page(self, asked: Asked, build: Build, *, after: int, until: int, limit: int, origin: int) -> list[Any]:
        """The next events with `after` < position <= `until` <= `origin` that match, at most `limit`, as `build` makes them.

        Fewer than `limit` mean that there are no more up to `until`. Raises ArchiveMissing, LogDamaged.
        """
        return await trio.to_thread.run_sync(self._page, asked, build, after, until, limit, origin)

    async def newest(self, asked: Asked, build: Build, *, after: int, until: int, limit: int, origin: int) -> list[Any]:
        """The last ones of the same events, in falling order."""
        return await trio.to_thread.run_sync(self._newest, asked, build, after, until, limit, origin)

    async def ending(self, through: int, origin: int) -> Ending:
        """The state at the end of the file that ends with `through`. Reads the whole file. Raises ArchiveMissing, LogDamaged."""
        return await trio.to_thread.run_sync(self._ending, self.holding(through, origin))

    def _page(self, asked: Asked, build: Build, after: int, until: int, limit: int, origin: int) -> list[Any]:
        found: list[Any] = []
        position, every = after, asked == EVERYTHING
        while position < until and len(found) < limit:
            place, kept = self._place(position, origin), False
            try:
                end = min(until, place.archive.through)
                if not asked.may_be_in(place.beginning):
                    position = end
                    continue
                for line in place.lines(end):
                    if every or asked.matches(line):
                        found.append(build(line))
                        if len(found) == limit:
                            break
                position = place.position
                if position == place.archive.through:
                    place.ending()  # only at its very end a compressed file shows that it is whole
                kept = self._keep(place)
            except MALFORMED as error:
                raise damaged(place.archive, place.position - 1) from error
            finally:
                if not kept:
                    place.close()
        return found

    def _newest(self, asked: Asked, build: Build, after: int, until: int, limit: int, origin: int) -> list[Any]:
        found: list[Any] = []
        while after < until and len(found) < limit:
            archive = self.holding(until, origin)
            low = max(after, archive.first - 1)
            with Place(archive) as place:
                if asked.may_be_in(place.beginning):
                    try:
                        place.skip(low)
                        matching = (line for line in place.lines(until) if asked.matches(line))
                        found += map(build, reversed(deque(matching, maxlen=limit - len(found))))
                    except MALFORMED as error:
                        raise damaged(archive, place.position - 1) from error
            until = low
        return found

    def _ending(self, archive: Archive) -> Ending:
        with Place(archive) as place:
            place.skip(archive.through)
            return place.ending()

    def _place(self, after: int, origin: int) -> "Place":
        """Where the position after `after` is read: a place that was kept, or a new one."""
        archive = self.holding(after + 1, origin)
        with self._lock:
            kept = self._places.pop((archive.path, after), None)
        if kept is not None:
            return kept
        place = Place(archive)
        try:
            place.skip(after)
        except BaseException:
            place.close()
            raise
        return place

    def _keep(self, place: "Place") -> bool:
        """Keeps the place for the next page, and returns whether it did: not at the end of the file."""
        where = (place.archive.path, place.position)
        with self._lock:
            if self._closed or place.position == place.archive.through or where in self._places:
                return False
            while len(self._places) >= PLACES_MAX:
                self._places.pop(next(iter(self._places))).close()
            self._places[where] = place
            return True


class Place:
    """A place in an archive file: its first line has been read, and the events up to `position`.

    With `hashing`, `sha256` is the hash of the whole file once `ending` has been read. Raises ArchiveMissing when the file is
    not there, LogDamaged for anything that cannot be read or is not what the file's name says.
    """

    def __init__(self, archive: Archive, *, hashing: bool = False):
        self.archive = archive
        self.position = archive.first - 1
        try:
            self._file: Any = open(archive.path, "rb")  # noqa: SIM115 - closed in `close`
        except FileNotFoundError:
            raise missing(archive.first, archive.through) from None
        except OSError as error:
            raise StoreFailure(f"The archive {archive.path} cannot be read: {error.strerror}.") from None
        self._hashed = _Hashed(self._file) if hashing else None
        source: Any = self._hashed or self._file
        self._lines = gzip.GzipFile(fileobj=source, mode="rb")
        try:
            self.beginning = self._begin()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()
        self._file.close()

    def _begin(self) -> Beginning:
        try:
            beginning = beginning_in(self._next())
        except MALFORMED:
            raise damaged(self.archive, self.position) from None
        if (beginning.first, beginning.through) != (self.archive.first, self.archive.through):
            raise LogDamaged(f"The archive {self.archive.path} does not hold what its name says.", self.archive.first)
        return beginning

    def _next(self) -> bytes:
        try:
            line = self._lines.readline()
        except _BROKEN as error:
            raise damaged(self.archive, self.position) from error
        if not line.endswith(b"\n"):
            raise damaged(self.archive, self.position)
        return line

    def lines(self, until: int) -> Iterator[bytes]:
        """The lines of the next events, up to position `until`."""
        while self.position < min(until, self.archive.through):
            line = self._next()
            self.position += 1
            yield line

    def skip(self, until: int) -> None:
        """Goes on to the place after `until`."""
        for _ in self.lines(until):
            pass

    def ending(self) -> Ending:
        """The last line, at the end of the events; nothing may follow it."""
        try:
            ending = ending_in(self._next())
            if ending.through != self.archive.through or self._lines.read(1):
                raise ValueError("another ending")
        except (*MALFORMED, *_BROKEN):
            raise damaged(self.archive, self.position) from None
        return ending

    @property
    def sha256(self) -> str:
        assert self._hashed is not None
        return self._hashed.digest()


class _Hashed:
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]):
        self._file, self._hash = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._hash.update(content)
        return content

    def digest(self) -> str:
        while self.read(1 << 16):
            pass
        return self._hash.hexdigest()


def missing(first: int, through: int) -> ArchiveMissing:
    """What is said where nobody has the file with these positions."""
    shown = f"{FOLDER}/{name_of(first, through)}"
    return ArchiveMissing(
        f"The positions {first} to {through} are in {shown}, which is not there. Put it back, or begin after {through}."
    )


def damaged(archive: Archive, position: int) -> LogDamaged:
    """What is said of a file that cannot be read on after `position`."""
    return LogDamaged(f"The archive {archive.path} is damaged: position {position + 1} cannot be read.", position + 1)
