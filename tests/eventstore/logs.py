"""Logs for tests: real files, real threads, events that mean little."""

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from llmux.clock import SeededClock
from llmux.config import Limits
from llmux.events import CacheCleared, NewEvent, RecordedEvent
from llmux.eventstore import Append, Store, open_store
from llmux.migrations import upgrade

CLOCK = SeededClock(7)


def new(stream: str = "cache", entries: int = 0, *, event_id: str = "", clock: SeededClock = CLOCK) -> NewEvent:
    """An event that can be told from others by its number of entries."""
    return NewEvent(stream, CacheCleared(entries=entries), event_id or clock.new_id(), "local", "", "")


def one(stream: str = "cache", entries: int = 0, expected: int | None = None) -> Append:
    """An append of one event."""
    return Append((new(stream, entries),), {} if expected is None else {stream: expected})


@asynccontextmanager
async def opened(directory: Path, limits: Limits | None = None) -> AsyncGenerator[Store, None]:
    """The log in `directory`, made when there is none."""
    upgrade(directory / "events.db")
    async with open_store(directory, clock=CLOCK, limits=limits or Limits()) as store:
        yield store


async def whole(store: Store) -> list[RecordedEvent]:
    """Every event of a small log."""
    return await store.read(limit=1000)


async def written(directory: Path, events: int, batch: int = 16) -> None:
    """Makes a log of that many events over a few streams."""
    async with opened(directory) as store:
        for first in range(0, events, batch):
            count = min(batch, events - first)
            await store.append([one(f"stream-{n % 5}", n) for n in range(first, first + count)])


def foreign(directory: Path) -> sqlite3.Connection:
    """The database as any other program would open it."""
    return sqlite3.connect(directory / "events.db", isolation_level=None, timeout=0)


def tampered(directory: Path, *statements: str) -> None:
    """Runs SQL as someone would who has the file and knows of the triggers."""
    connection = foreign(directory)
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    for _, sql in triggers:
        connection.execute(sql)
    connection.close()


def changed(event: RecordedEvent, **fields: object) -> RecordedEvent:
    """The event with other fields."""
    return msgspec.structs.replace(event, **fields)
