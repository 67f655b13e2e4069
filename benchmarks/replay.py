"""Folding the whole log and walking its chain, beside fetching its rows and doing nothing with them."""

from pathlib import Path

import trio

from benchmarks import raw
from benchmarks.figures import ROUNDS, Figure, compared
from benchmarks.timing import Stopwatch, elapsed
from llmux.actors.replaying import replay
from llmux.config import Limits
from llmux.eventstore import open_reader, verify


def measured(log: Path) -> list[Figure]:
    """Rounds of fetching, folding and verifying by turns, over a log that has been made."""
    count = raw.select(log)  # and once for the page cache
    fold: list[tuple[float, float]] = []
    walk: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        fetched = count / elapsed(lambda: raw.select(log))
        fold.append((count / trio.run(replayed_in, log, count), fetched))
        walk.append((count / trio.run(_verified, log, count), fetched))
    against = "raw SELECT"
    return [
        compared("replay", f"fold of {count:,} events", "events/s", fold, against=against, at_least=1 / 4),
        compared("replay", f"verify of {count:,} events", "events/s", walk, against=against, at_least=1 / 6),
    ]


async def replayed_in(log: Path, count: int) -> float:
    """Seconds to fold a log of so many events."""
    async with open_reader(log, Limits()) as reader:
        with Stopwatch() as watch:
            facts = await replay(reader, snapshots=False)
    if facts.position != count:
        raise AssertionError(f"folded up to {facts.position} instead of {count}")
    return watch.seconds


async def _verified(log: Path, count: int) -> float:
    async with open_reader(log, Limits()) as reader:
        with Stopwatch() as watch:
            verified = await verify(reader)
    if verified.events != count:
        raise AssertionError(f"verified {verified.events} events instead of {count}")
    return watch.seconds
