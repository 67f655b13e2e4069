"""How long a start takes until the first event can be appended: without a snapshot, and with one at the end of the log."""

from pathlib import Path

import trio

from benchmarks import raw
from benchmarks.figures import ROUNDS, Figure, at_most
from benchmarks.timing import Stopwatch, elapsed
from llmux.actors import snapshots
from llmux.actors.opening import open_journal
from llmux.clock import SystemClock
from llmux.config import Settings
from llmux.events import NewEvent

WANTED_S = {"without": 5.0, "with": 1.0}
WANTED_EVENTS = 1_000_000
"""what is wanted is said of a log of so many events; a shorter one has a share of the time, at least a tenth"""


def measured(log: Path) -> list[Figure]:
    """Adds a snapshot to the log that was made."""
    count = raw.select(log)
    fetch = sorted(elapsed(lambda: raw.select(log)) for _ in range(ROUNDS))[ROUNDS // 2]
    share = max(0.1, min(1.0, count / WANTED_EVENTS))
    figures = []
    for kind, wanted in WANTED_S.items():
        if kind == "with":
            trio.run(_snapshot, log)
        seconds = [trio.run(_started, log) for _ in range(ROUNDS)]
        name = f"{kind} a snapshot, {count:,} events"
        figures.append(at_most("start", name, "s", seconds, round(wanted * share, 2), beside=("raw SELECT", fetch)))
    return figures


async def _started(log: Path) -> float:
    watch = Stopwatch()
    with watch:
        opening = open_journal(Settings(data_dir=log), SystemClock())
        journal = await opening.__aenter__()
    position = journal.facts.position
    await opening.__aexit__(None, None, None)
    if position < 1:
        raise AssertionError("the log was not read")
    return watch.seconds


async def _snapshot(log: Path) -> None:
    clock = SystemClock()
    async with open_journal(Settings(data_dir=log), clock) as journal:
        taken = await snapshots.take(journal.facts, log)
        await journal.append(NewEvent(snapshots.STREAM, taken, clock.new_id()))
