"""Appending through the journal, as everything in a gateway does: 64 at once, and one alone."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from benchmarks import raw
from benchmarks.figures import SHORT_ROUNDS, Figure, at_most, compared
from benchmarks.story import Story
from benchmarks.timing import Stopwatch, spread
from llmux.actors.facts import EMPTY
from llmux.actors.journal import Journal
from llmux.clock import SystemClock
from llmux.config import Limits
from llmux.events import NewEvent
from llmux.eventstore import FILE, open_store
from llmux.metrics import Metrics
from llmux.migrations import upgrade

APPENDERS = 64
REQUESTS = 16
"""of each appender in a round, four events each, appended one by one"""
ALONE = 160
"""events that the appender alone appends in a round"""
ABOVE_FSYNC_MS = 0.5


def measured(directory: Path) -> list[Figure]:
    """Rounds of ours and of the raw limit by turns."""
    many: list[tuple[float, float]] = []
    alone: list[tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = []
    for number in range(SHORT_ROUNDS):
        ours, theirs = directory / f"ours-{number}", directory / f"raw-{number}"
        rate = trio.run(together, ours)
        rows = raw.rows(ours)
        many.append((rate, len(rows) / sum(raw.insert(theirs, rows, APPENDERS))))
        fsync = raw.fsync(directory)
        seconds = trio.run(_alone, directory / f"alone-{number}")
        single = raw.insert(directory / f"single-{number}", rows[:ALONE], 1)
        alone.append((spread(seconds), fsync, spread(single)))
    middle = sorted(fsync[0] * 1000 for _, fsync, _ in alone)[SHORT_ROUNDS // 2]
    limit = round(middle + ABOVE_FSYNC_MS, 3)
    return [
        compared(
            "append", f"{APPENDERS} appenders", "events/s", many,
            against=f"raw, batches of {APPENDERS}", at_least=0.5,
        ),
        at_most(
            "append", "one appender, p50", "ms", [ours[0] * 1000 for ours, _, _ in alone], limit,
            beside=("fsync p50", middle),
        ),
        compared(
            "append", "one appender, p50", "ms", [(ours[0] * 1000, raw[0] * 1000) for ours, _, raw in alone],
            against="raw, one by one",
        ),
        compared(
            "append", "one appender, p99", "ms", [(ours[1] * 1000, raw[1] * 1000) for ours, _, raw in alone],
            against="raw, one by one",
        ),
    ]  # fmt: skip


@asynccontextmanager
async def journal_in(directory: Path) -> AsyncGenerator[Journal, None]:
    """A journal at work over a new log."""
    directory.mkdir(parents=True)
    upgrade(directory / FILE)
    limits = Limits()
    async with open_store(directory, clock=SystemClock(), limits=limits) as store:
        journal = Journal(store, EMPTY, limits, Metrics(frozenset()).observe)
        async with trio.open_nursery() as nursery:
            await nursery.start(journal.run)
            yield journal
            nursery.cancel_scope.cancel()


def events_of(requests: int) -> list[NewEvent]:
    """The events of so many direct requests, in the order in which one appender appends them."""
    story = Story()
    return [event for _ in range(requests) for group in story.direct() for event in group]


async def together(directory: Path) -> float:
    """Events a second of all appenders together."""
    events = events_of(APPENDERS * REQUESTS)
    share = len(events) // APPENDERS

    async def append(mine: list[NewEvent]) -> None:
        for event in mine:
            await journal.append(event)

    async with journal_in(directory) as journal:
        with Stopwatch() as watch:
            async with trio.open_nursery() as nursery:
                for number in range(APPENDERS):
                    nursery.start_soon(append, events[number * share : (number + 1) * share])
    return len(events) / watch.seconds


async def _alone(directory: Path) -> list[float]:
    """Seconds of each append."""
    seconds = []
    async with journal_in(directory) as journal:
        for event in events_of(ALONE // 4):
            with Stopwatch() as watch:
                await journal.append(event)
            seconds.append(watch.seconds)
    return seconds
