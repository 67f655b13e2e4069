"""The limit: the same rows in the same tables, through plain `sqlite3` with the same settings and nothing around it; and the disk."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.timing import elapsed, spread
from llmux.eventstore import FILE
from llmux.migrations import upgrade

PAGE_BYTES = 4_096
PAGES = 256
SELECT = "SELECT * FROM events WHERE position > ? ORDER BY position LIMIT 10000"

Row = tuple[Any, ...]


@contextmanager
def opened(directory: Path) -> Iterator[sqlite3.Connection]:
    """A connection with the settings that the log's own writer has."""
    with closing(sqlite3.connect(directory / FILE, isolation_level=None)) as connection:
        for setting in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 1000"):
            connection.execute(f"PRAGMA {setting}")
        yield connection


def rows(directory: Path, count: int = -1) -> list[Row]:
    """The rows of a log as they are stored."""
    with opened(directory) as connection:
        return connection.execute("SELECT * FROM events ORDER BY position LIMIT ?", (count,)).fetchall()


def insert(directory: Path, rows: Sequence[Row], batch: int) -> list[float]:
    """Writes the rows into a new log, so many in each transaction; returns the seconds that each transaction took."""
    directory.mkdir(parents=True)
    upgrade(directory / FILE)
    statement = f"INSERT INTO events VALUES ({', '.join('?' * len(rows[0]))})"
    with opened(directory) as connection:

        def write(part: Sequence[Row]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(statement, part)
            connection.execute("COMMIT")

        return [elapsed(lambda at=at: write(rows[at : at + batch])) for at in range(0, len(rows), batch)]


def select(directory: Path) -> int:
    """Fetches every row of the log, page by page; returns how many there are."""
    count = position = 0
    with opened(directory) as connection:
        while page := connection.execute(SELECT, (position,)).fetchall():
            position, count = page[-1][0], count + len(page)
    return count


def fsync(directory: Path, times: int = 200) -> tuple[float, float]:
    """Seconds (p50, p99) to write one page into a file that has room for it, and to wait for the disk."""
    path = directory / "fsync"
    page = os.urandom(PAGE_BYTES)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(file, bytes(PAGE_BYTES * PAGES), 0)
        os.fsync(file)

        def write(number: int) -> None:
            os.pwrite(file, page, PAGE_BYTES * (number % PAGES))
            os.fdatasync(file)

        return spread([elapsed(lambda number=number: write(number)) for number in range(times)])
    finally:
        os.close(file)
        path.unlink()
