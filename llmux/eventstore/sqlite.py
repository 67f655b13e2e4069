"""SQLite's own words: how its files are opened, what is set on a connection, and what its errors mean.

Nothing else in this package is particular to SQLite.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiosqlite
from sqlalchemy import URL, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from llmux.config import Limits
from llmux.eventstore.chain import EMPTY, Head
from llmux.eventstore.table import EVENTS, packed, packed_stream, unpacked_stream
from llmux.failures import LogDamaged, StoreFailure, StoreFull

FILE = "events.db"
READERS = 2
"""connections that read while one writes"""

STATEMENTS = 32
"""that a connection keeps prepared: one that inserts a hundred rows takes 0.4 ms to prepare, and 150 kB"""

BEGIN = "BEGIN IMMEDIATE"  # takes the write lock at once: what is looked up next cannot change before the commit

_EVERYWHERE = ("foreign_keys = ON", "trusted_schema = OFF", "mmap_size = 0", "recursive_triggers = ON")
_WRITING = ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 1000", "journal_size_limit = 67108864")
_READING = ("query_only = ON",)


def engine_for(path: Path, limits: Limits, *, write: bool) -> AsyncEngine:
    """An engine for the file at `path`, which must exist: one writing connection, or `READERS` that only read.

    Connections are in autocommit mode, so that a transaction begins and ends exactly where the code says so.
    """
    url = URL.create(
        "sqlite+aiosqlite",
        database=f"file:{quote(str(path))}",
        query={"mode": "rw" if write else "ro", "uri": "true"},
    )
    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=1 if write else READERS,
        max_overflow=0,
        pool_timeout=max(1, limits.busy_ms_max / 1000),
        connect_args={"timeout": limits.busy_ms_max / 1000, "cached_statements": STATEMENTS},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def settle(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        for setting in (f"busy_timeout = {limits.busy_ms_max}", *_EVERYWHERE, *(_WRITING if write else _READING)):
            cursor.execute(f"PRAGMA {setting}")
        cursor.close()

    return engine


async def head_of(connection: AsyncConnection) -> Head:
    """The head of the log on disk."""
    found = await connection.exec_driver_sql("SELECT position, hash FROM events ORDER BY position DESC LIMIT 1")
    row: Any = found.first()
    return Head(row.position, row.hash) if row is not None else EMPTY


async def rows_of(connection: AsyncConnection, statement: str, parameters: tuple[Any, ...]) -> Sequence[Any]:
    """All rows of a statement, in one call of the driver: large pages cost twice as much through SQLAlchemy's own rows."""
    driver = (await connection.get_raw_connection()).driver_connection
    if not isinstance(driver, aiosqlite.Connection):
        raise TypeError("the engine of the event log is not one of aiosqlite")
    return list(await driver.execute_fetchall(statement, parameters))


async def ends(connection: AsyncConnection) -> tuple[int, int]:
    """The last position there is, and the last position there ever was (SQLite keeps count), seen at one moment."""
    found = await connection.exec_driver_sql(
        "SELECT coalesce(max(position), 0), "
        "coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0) FROM events"
    )
    row: Any = found.one()
    return int(row[0]), int(row[1])


_VERSION_GAPS = """
SELECT position, version, before, stream FROM (
    SELECT position, version, stream, lag(version) OVER same AS before, lag(position) OVER same AS earlier
    FROM events WINDOW same AS (PARTITION BY stream ORDER BY version)
) WHERE position > ? AND position <= ? AND CASE WHEN before IS NULL THEN version <> 0
    ELSE version <> before + 1 OR earlier > position END
ORDER BY position
"""


async def version_gap(
    connection: AsyncConnection, after: int, until: int, went_before: Mapping[str, int]
) -> int | None:
    """The first position in `after` < position <= `until` that does not follow its stream's version before, or None.

    `went_before` holds the last versions of streams whose earlier events are not in the table.
    """
    found: Iterable[Any] = await connection.exec_driver_sql(_VERSION_GAPS, (after, until))
    for position, version, before, stream in found:
        if before is not None or went_before.get(unpacked_stream(stream)) != version - 1:
            return int(position)
    return None


async def used_bytes(connection: AsyncConnection) -> int:
    """How large the database is without its free pages."""
    found = await connection.exec_driver_sql(
        "SELECT (page_count - freelist_count) * page_size "
        "FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
    )
    return int(found.scalar_one())


_SPAN = """
SELECT count(*), min(recorded_at), max(recorded_at), (SELECT hash FROM events WHERE position = ?)
FROM events WHERE position > ? AND position <= ?
"""


async def span(connection: AsyncConnection, after: int, until: int) -> tuple[bytes, int, int] | None:
    """Hash of the last, and earliest and latest time, of the events after `after` up to `until`; None unless all are there."""
    row: Any = (await connection.exec_driver_sql(_SPAN, (until, after, until))).one()
    return (row[3], row[1], row[2]) if row[0] == until - after and row[0] else None


async def integrity(connection: AsyncConnection) -> str:
    """What SQLite's own check of the whole file finds first; "ok" when there is nothing."""
    found = await connection.exec_driver_sql("PRAGMA integrity_check(1)")
    return str(found.scalar_one())


_LOOK_UP = """
SELECT 'head', position, hash FROM (SELECT position, hash FROM events ORDER BY position DESC LIMIT 1)
UNION ALL
SELECT 'stream', (SELECT max(version) FROM events WHERE stream = wanted.column1), wanted.column1 FROM (VALUES {names}) AS wanted
UNION ALL
SELECT 'repeated', position, NULL FROM events WHERE event_id IN ({ids})
"""


@lru_cache(maxsize=128)
def _look_up(streams: int, ids: int) -> str:
    return _LOOK_UP.format(names=", ".join(["(?)"] * streams), ids=", ".join("?" * ids))


_PREV_HASH = EVENTS.columns.keys().index("prev_hash")
_ROW = f"({', '.join('?' * len(EVENTS.columns))})"
_HASH_BEFORE = "(SELECT hash FROM events WHERE position = ? AND hash = ?)"
_ROW_AFTER = _ROW.removesuffix("?, ?)") + f"{_HASH_BEFORE}, ?)"
_INSERT = "INSERT INTO events VALUES {rows}"


@lru_cache(maxsize=STATEMENTS)
def _insert_after(rows: int) -> str:
    return _INSERT.format(rows=", ".join([_ROW_AFTER, *[_ROW] * (rows - 1)]))


def insert_after(head: Head, rows: Sequence[tuple[Any, ...]]) -> tuple[str, list[Any]]:
    """A statement, and its parameters, that inserts all rows if the log ends with `head`, and breaks a constraint otherwise.

    The first row takes the hash before it from the log itself: there is none at another position or with another value. And
    the table takes no row that does not follow its last one.
    """
    parameters = list(chain.from_iterable(rows))
    parameters[_PREV_HASH : _PREV_HASH + 1] = (head.position, head.hash)
    return _insert_after(len(rows)), parameters


async def look_up(
    connection: aiosqlite.Connection, streams: Collection[str], ids: Collection[str]
) -> tuple[Head, dict[str, int], list[int]]:
    """All that an append has to know, in one statement: the head, the versions of the streams that exist, and the
    positions of the events that have one of `ids`.
    """
    names = list(streams) or [""]
    parameters = (*map(packed_stream, names), *map(packed, ids))
    head, versions, positions = EMPTY, {}, []
    for what, number, value in await connection.execute_fetchall(_look_up(len(names), len(ids)), parameters):
        if what == "head":
            head = Head(number, value)
        elif what == "repeated":
            positions.append(number)
        elif number is not None:
            versions[unpacked_stream(value)] = number
    return head, versions, positions


def failure_of(error: Exception) -> StoreFailure:
    """What an error of the database means to us. The database's own text stays out of it."""
    if isinstance(error, StoreFailure):
        return error
    if isinstance(error, PoolTimeout):
        return StoreFailure("The event log is busy: all connections that read it are in use.")
    original = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(original, "sqlite_errorname", type(original).__name__)
    match getattr(original, "sqlite_errorcode", 0) & 0xFF:  # the primary code
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            failure = StoreFailure(f"The event log is busy: another program holds its lock ({name}).")
            failure.code = "store_busy"
            return failure
        case sqlite3.SQLITE_FULL:
            return StoreFull("The event log cannot grow: the disk, or the room it may take, is full.")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return LogDamaged(f"The file of the event log is damaged ({name}). Restore it from a backup.")
        case sqlite3.SQLITE_CANTOPEN:
            return StoreFailure("The file of the event log cannot be opened: it is missing, or may not be read here.")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return StoreFailure(f"The file of the event log may not be written here ({name}).")
    if isinstance(original, sqlite3.OperationalError) and "no such table" in str(original):
        return StoreFailure("The file of the event log has no table of events yet; `llmux serve` makes it.")
    return StoreFailure(f"The event log failed ({name}).")


DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error, ValueError)
"""What SQLAlchemy, sqlite3 and aiosqlite raise (the last says ValueError when its connection is closed)."""
