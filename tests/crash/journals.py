"""A log with a journal at work, for tests that put it in trouble."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from llmux.actors.journal import Journal
from llmux.actors.replaying import replay
from llmux.clock import SeededClock
from llmux.config import Limits
from llmux.events import CacheCleared, KeyIssued, NewEvent
from llmux.eventstore import Store, open_store, own_directory
from llmux.migrations import upgrade


@asynccontextmanager
async def running(directory: Path, busy_ms_max: int = 0) -> AsyncGenerator[tuple[Store, Journal], None]:
    """The log in `directory` with a journal at work."""
    with own_directory(directory):
        upgrade(directory / "events.db")
        async with open_store(directory, clock=SeededClock(3), limits=Limits(busy_ms_max=busy_ms_max)) as store:
            journal = Journal(store, await replay(store), store.limits, lambda recorded: None)
            async with trio.open_nursery() as nursery:
                await nursery.start(journal.run)
                try:
                    yield store, journal
                finally:
                    nursery.cancel_scope.cancel()


def new(stream: str, number: int, ids: SeededClock) -> NewEvent:
    """An event that can be told from others by its number."""
    fact = CacheCleared(entries=number)
    if stream.startswith("key"):
        fact = KeyIssued(key_id=stream, secret_sha256="0", user="u", project=f"{number}")
    return NewEvent(stream, fact, ids.new_id(), "local", "", "")
