"""Copies of a log as one file, and putting such a copy in the place of a log. Blocking: for commands, not for the gateway."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from llmux.eventstore.sqlite import FILE, failure_of
from llmux.eventstore.witness import sync_directory
from llmux.failures import LogDamaged, StoreFailure, StoreFull

PAGES_AT_ONCE = 1_000
WAIT_SECONDS_MAX = 10

Progress = Callable[[int, int], object]
"""Called with (done, all), in pages."""


def back_up(database: Path, copy: Path, progress: Progress | None = None) -> None:
    """Copies the log at `database`, as it is at one moment, into the file `copy` (mode 0600), durably.

    A gateway may go on writing meanwhile: a read transaction keeps that moment, so no step has to begin again. The copy is a
    file by itself (no write-ahead log). What was there before is overwritten. Raises StoreFailure.
    """
    with _translated(copy):
        os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        copy.chmod(0o600)
        source = f"file:{quote(str(database))}?mode=ro"
        with closing(_connected(source)) as reading, closing(_connected(str(copy))) as writing:
            writing.execute("PRAGMA synchronous = OFF")  # the whole file is brought to the disk below
            reading.execute("BEGIN")
            reading.execute("SELECT count(*) FROM sqlite_master").fetchone()  # only a read begins the transaction
            reading.backup(
                writing,
                pages=PAGES_AT_ONCE,
                progress=None if progress is None else lambda _, left, pages: progress(pages - left, pages),
            )
            writing.execute("PRAGMA journal_mode = DELETE")
        _to_disk(copy)


def settle(database: Path) -> None:
    """Brings all that was written into the file itself, so that it can be moved. Raises StoreFailure while somebody reads it."""
    with _translated(database), closing(_connected(str(database))) as connection:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreFailure(
                f"Another program has {database} open. End it (such as `llmux events --follow`), and try again."
            )


def install(staged: Path, database: Path, aside: Path) -> None:
    """Puts the log in the file `staged` in the place of `database`, in one moment. What was there is kept as `aside`.

    Whenever this is interrupted, `database` is the old log or the new one, whole. Raises StoreFailure.
    """
    settle(staged)
    with _translated(database):
        _to_disk(staged)
        if database.exists():
            with suppress(LogDamaged):  # then it is kept as it is, with its write-ahead log
                settle(database)
            _kept(database, aside)
            for suffix in ("-wal", "-shm"):  # of another file they would be poison; an empty one may be left
                with suppress(FileNotFoundError):
                    os.replace(_beside(database, suffix), _beside(aside, suffix))
        sync_directory(database.parent)
        os.replace(staged, database)
        sync_directory(database.parent)


def discard(copy: Path) -> None:
    """Removes a copy that nobody wants, with what SQLite left beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        _beside(copy, suffix).unlink(missing_ok=True)


def copy_folder(source: Path, target: Path, pattern: str) -> int:
    """Copies the files that match, durably, and returns how many; those that are in `target` already, as large, are left alone.

    They are files that never change once they have their name. Raises StoreFailure.
    """
    copied = 0
    with _translated(target):
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(source.glob(pattern)):
            there = target / path.name
            if there.exists() and there.stat().st_size == path.stat().st_size:
                continue
            part = there.with_name(f"{there.name}.part")
            with open(path, "rb") as reading, open(os.open(part, _NEW, 0o600), "wb") as writing:
                shutil.copyfileobj(reading, writing, 1024 * 1024)
                writing.flush()
                os.fsync(writing.fileno())
            os.replace(part, there)
            copied += 1
        sync_directory(target)
    return copied


def forget_lost_positions(directory: Path) -> None:
    """The last position that the log ever had is the one that it has now. Raises StoreFailure."""
    database = directory / FILE
    with _translated(database), closing(_connected(str(database))) as connection:
        connection.execute(
            "UPDATE sqlite_sequence SET seq = (SELECT max(position) FROM events) WHERE name = 'events' "
            "AND EXISTS (SELECT 1 FROM events)"
        )


_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


def _connected(database: str) -> sqlite3.Connection:
    return sqlite3.connect(database, uri=database.startswith("file:"), isolation_level=None, timeout=WAIT_SECONDS_MAX)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}{suffix}")


def _kept(path: Path, aside: Path) -> None:
    """A second name for the file, or a copy of it where the file system has no second names."""
    try:
        os.link(path, aside)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(path, aside)
        aside.chmod(0o600)
        _to_disk(aside)


def _to_disk(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Errors of the database and of the file system as failures of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise failure_of(error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreFull(f"There is no room for {path}.") from error
        raise StoreFailure(f"{error.filename or path} cannot be used: {error.strerror}.") from error
