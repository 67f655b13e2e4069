"""Copies of a log as one file, and putting such a copy in the place of a log. Blocking: for commands, not for the gateway."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from urllib.parse import quote

from llmux.eventstore.sqlite import FILE, failure_of
from llmux.eventstore.witness import sync_directory
from llmux.failures import ConfigurationWrong, LogDamaged, StoreFailure, StoreFull

PAGES_AT_ONCE = 1_000
WAIT_SECONDS_MAX = 10

_TABLES = {"events", "alembic_version", "origin", "sqlite_sequence"}
_HAS_EVENTS = "SELECT EXISTS (SELECT 1 FROM events), EXISTS (SELECT 1 FROM alembic_version)"

Progress = Callable[[int, int], object]
"""Called with (done, all), in pages."""


def claimed(target: Path) -> Path:
    """A new, empty file (mode 0600) beside `target`, under a name that nobody has. Raises StoreFailure."""
    with _translated(target):
        for part in (_beside(target, f".{os.getpid()}-{number}.part") for number in count(1)):
            with suppress(FileExistsError):
                os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
                return part
    raise AssertionError("there is always another number")


def named(part: Path, target: Path, *, replace: bool) -> None:
    """Gives the whole file its name, durably. Raises ConfigurationWrong for a name that is taken, unless `replace`; StoreFailure."""
    with _translated(target):
        if replace:
            os.replace(part, target)
        else:
            _linked(part, target)
        sync_directory(target.parent)


def _linked(part: Path, target: Path) -> None:
    """In one step, so that nobody's file is lost, where the file system has second names."""
    taken = ConfigurationWrong(f"{target} exists by now: somebody else has just written it.")
    try:
        os.link(part, target)
    except FileExistsError:
        raise taken from None
    except OSError:
        if os.path.lexists(target):
            raise taken from None
        os.replace(part, target)
    else:
        part.unlink()


def back_up(database: Path, copy: Path, progress: Progress | None = None) -> None:
    """Copies the log at `database`, as it is at one moment, into the file `copy` (mode 0600), durably.

    A gateway may go on writing meanwhile: a read transaction keeps that moment, so no step has to begin again. The copy is a
    file by itself (no write-ahead log). What was there before is overwritten. Raises StoreFailure, which names the file.
    """
    with _translated(copy):
        os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        copy.chmod(0o600)
        try:
            with closing(_reading(database)) as reading, closing(_connected(str(copy))) as writing:
                writing.execute("PRAGMA synchronous = OFF")  # the whole file is brought to the disk below
                reading.execute("BEGIN")
                reading.execute("SELECT count(*) FROM sqlite_master").fetchone()  # only a read begins the transaction
                reading.backup(
                    writing,
                    pages=PAGES_AT_ONCE,
                    progress=None if progress is None else lambda _, left, pages: progress(pages - left, pages),
                )
                writing.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.Error as error:
            raise _failure(error, database, copy) from error
        _to_disk(copy)


def check_is_log(file: Path) -> None:
    """Raises ConfigurationWrong unless the file is a log with at least one event, and LogDamaged when it cannot be read."""
    try:
        with closing(_reading(file)) as reading:
            found = reading.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
            is_log = {"events", "alembic_version"} <= {name for (name,) in found} <= _TABLES
            is_log = is_log and reading.execute(_HAS_EVENTS).fetchone() == (1, 1)
    except sqlite3.Error as error:
        raise _failure(error, file, None) from error
    if not is_log:
        raise ConfigurationWrong(f"{file} is no backup of a log: it holds no events, or something else.")


def check_tables(database: Path, pattern: Path) -> None:
    """Raises LogDamaged unless both have the same tables, indices and triggers."""
    with closing(_reading(database)) as reading, closing(_reading(pattern)) as right:
        asked = "SELECT type, name, tbl_name, sql FROM sqlite_master"
        if set(reading.execute(asked)) != set(right.execute(asked)):
            raise LogDamaged("Its tables or triggers are not those of a log: somebody has changed them.")


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


def forget_lost_positions(directory: Path) -> None:
    """The last position that the log ever had is the one that it has now. Raises StoreFailure."""
    database = directory / FILE
    with _translated(database), closing(_connected(str(database))) as connection:
        connection.execute(
            "UPDATE sqlite_sequence SET seq = (SELECT max(position) FROM events) WHERE name = 'events' "
            "AND EXISTS (SELECT 1 FROM events)"
        )


def _connected(database: str) -> sqlite3.Connection:
    return sqlite3.connect(database, uri=database.startswith("file:"), isolation_level=None, timeout=WAIT_SECONDS_MAX)


def _reading(database: Path) -> sqlite3.Connection:
    return _connected(f"file:{quote(str(database))}?mode=ro")


def _failure(error: sqlite3.Error, database: Path, copy: Path | None) -> StoreFailure:
    """What went wrong while `database` was read, or `copy` written: the sentence says which file it is."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the primary code
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return LogDamaged(f"{database} is no whole log: it is damaged, or something else ({name}).")
        case sqlite3.SQLITE_FULL:
            return StoreFull(f"There is no room for {copy}.")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return failure_of(error)
    return StoreFailure(f"{database} cannot be read{f', or {copy} not written' if copy else ''} ({name}).")


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
