"""The file of kept texts as SQLite sees it: how it is made and opened, how it is wiped, and what its errors mean.

`secure_delete` writes zeros over what is deleted, but not over the copies that rebalancing a B-tree leaves behind in the free
room of its pages: of short texts, some could still be read in the file. So every text begins with a page of zeros. SQLite keeps
less than a page of a row inside the tree and the rest in pages of that row alone, which are never copied, and are zeroed as a
whole when the row is deleted. Nothing of a text is in an index.
"""

import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiosqlite

from llmux.failures import SchemaUnknown, StoreFailure, StoreFull

CONTENT_FILE = "content.db"
SCHEMA = 1
PAGE_BYTES = 1024
ZEROS = bytes(PAGE_BYTES)

_OF_A_NEW_FILE = (f"page_size = {PAGE_BYTES}", "auto_vacuum = INCREMENTAL")
_SETTINGS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
    "mmap_size = 0",
)
_TABLES = (
    "CREATE TABLE kept (request TEXT PRIMARY KEY, key TEXT NOT NULL, recorded_at INTEGER NOT NULL, until INTEGER NOT NULL,"
    " finish TEXT NOT NULL, code TEXT NOT NULL, text BLOB NOT NULL)",
    "CREATE INDEX kept_key ON kept (key)",
    "CREATE INDEX kept_recorded_at ON kept (recorded_at)",
    "CREATE INDEX kept_until ON kept (until)",
    "CREATE TABLE forgetting (event_id TEXT PRIMARY KEY, principal TEXT NOT NULL, fact TEXT NOT NULL)",
)

ERRORS = (sqlite3.Error, ValueError)
"""What sqlite3 and aiosqlite raise (the last says ValueError when its connection is closed)."""


async def connected(path: Path, busy_ms_max: int) -> aiosqlite.Connection:
    """A connection to the file at `path`, which is made (mode 0600) when there is none. Raises StoreFailure."""
    connection = None
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite would let everybody read it
        opening = aiosqlite.connect(
            f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None, timeout=busy_ms_max / 1000
        )
        opening._thread.daemon = True  # a process whose trio side has died is not kept alive
        connection = await opening
        new = await _number(connection, "PRAGMA page_count") == 0
        for setting in (*(_OF_A_NEW_FILE if new else ()), *_SETTINGS):
            await connection.execute_fetchall(f"PRAGMA {setting}")
        await _make_tables(connection, path)
    except (*ERRORS, OSError, StoreFailure) as error:
        if connection is not None:
            await connection.close()
        raise failure_of(error) from error
    return connection


async def _make_tables(connection: aiosqlite.Connection, path: Path) -> None:
    await connection.execute_fetchall("BEGIN IMMEDIATE")
    try:
        found = await _number(connection, "PRAGMA user_version")
        if found > SCHEMA:
            raise SchemaUnknown(
                f"{path} was written by a newer LLMux: its tables are of version {found}, and this program knows versions "
                f"up to {SCHEMA}. Start the newer LLMux again."
            )
        if found == 0:
            for table in _TABLES:
                await connection.execute_fetchall(table)
            await connection.execute_fetchall(f"PRAGMA user_version = {SCHEMA}")
        await connection.commit()
    except BaseException:
        await connection.rollback()
        raise


async def wipe(connection: aiosqlite.Connection) -> None:
    """Gives free pages back to the file system, and empties the write-ahead log, which may hold what they were before."""
    await connection.executescript("PRAGMA incremental_vacuum")  # a page a step; `execute` would take only one step
    rows: Any = await connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
    if rows[0][0]:
        failure = StoreFailure(
            "The texts are deleted, but the write-ahead log cannot be emptied of them while another program reads "
            f"{CONTENT_FILE}. Close it, and forget again."
        )
        failure.code = "store_busy"
        raise failure


async def used_bytes(connection: aiosqlite.Connection) -> int:
    pages = await _number(connection, "PRAGMA page_count") - await _number(connection, "PRAGMA freelist_count")
    return pages * PAGE_BYTES


async def _number(connection: aiosqlite.Connection, question: str) -> int:
    rows: Any = await connection.execute_fetchall(question)
    return int(rows[0][0])


def failure_of(error: Exception) -> StoreFailure:
    """What an error means to us. The database's own text stays out of it."""
    if isinstance(error, StoreFailure):
        return error
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the primary code
        case sqlite3.SQLITE_FULL:
            return StoreFull("The file of kept texts cannot grow: the disk is full.")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreFailure(f"The file of kept texts is locked by another program ({name}).")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreFailure(
                f"The file of kept texts is damaged ({name}). Move {CONTENT_FILE} away to begin a new one."
            )
    if isinstance(error, OSError):
        return StoreFailure(f"The file of kept texts cannot be opened: {error.strerror}.")
    return StoreFailure(f"The file of kept texts failed ({name}).")
