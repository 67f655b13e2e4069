"""What a direct request costs on disk: its events with all indices, in a file without free pages or a write-ahead log."""

from pathlib import Path

import trio

from benchmarks import raw
from benchmarks.figures import Figure, at_most
from benchmarks.story import Story, recorded
from llmux.config import Limits
from llmux.eventstore import FILE, Append, open_store
from llmux.migrations import upgrade

REQUESTS = 5_000
AT_ONCE = 16
"""requests under way at the same time, so that their events mix"""
WANTED_BYTES = 2_000
WANTED_EVENTS = 4


def measured(directory: Path) -> list[Figure]:
    """Writes a log of direct requests, each with four candidates."""
    directory.mkdir(parents=True)
    upgrade(directory / FILE)
    empty = (directory / FILE).stat().st_size
    trio.run(_requests, directory)
    size = (directory / FILE).stat().st_size - empty
    with raw.opened(directory) as connection:
        events, data = connection.execute("SELECT count(*), sum(length(CAST(data AS BLOB))) FROM events").fetchone()
    return [
        at_most("space", "events of a direct request", "events", [events / REQUESTS], WANTED_EVENTS),
        at_most(
            "space", "bytes of a direct request", "bytes", [size / REQUESTS], WANTED_BYTES,
            beside=("in the facts alone", data / REQUESTS),
        ),
    ]  # fmt: skip


async def _requests(directory: Path) -> None:
    story = Story()
    async with open_store(directory, clock=story.clock, limits=Limits()) as store:
        for _ in range(0, REQUESTS, AT_ONCE):
            count = min(AT_ONCE, REQUESTS - store.head.position // WANTED_EVENTS)
            begins, ends = zip(*(story.direct() for _ in range(count)), strict=True)
            await recorded(store, [Append(group) for group in begins])
            await recorded(store, [Append(group) for group in ends])
            story.clock.shift(5_000)
