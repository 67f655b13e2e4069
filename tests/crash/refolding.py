"""Folds random histories in every way there is. Run as `python -m tests.crash.refolding DIRECTORY SEED HISTORIES PARTS PART`.

Each history is folded live, batch by batch, as a journal does; then its log is replayed in pages of another size, up to some moment
only, and from a stored state on. All must agree. What follows from it is printed as a hash, one line per history, so that another
process can be compared. The histories of this PART go through real logs, the others through the same code without a database.
"""

import hashlib
import random
import shutil
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from llmux.actors.facts import EMPTY, evolve, load
from llmux.actors.replaying import replay
from llmux.actors.snapshots import encoded, take
from llmux.config import Limits
from llmux.events import NewEvent, RecordedEvent
from llmux.eventstore import Append, Appended, Store, open_store
from llmux.eventstore.append import Plan, prepared
from llmux.eventstore.chain import EMPTY as NO_HEAD
from llmux.migrations import upgrade
from tests.crash.histories import Times, history

LOGGED_TOGETHER = 10
"""histories that share a log, one after the other: opening one takes longer than folding one"""

AppendBatch = Callable[[Sequence[NewEvent]], Awaitable[Sequence[RecordedEvent]]]


class Past:
    """What happened in a log so far, folded live."""

    def __init__(self, append: AppendBatch, store: Store | None):
        self._append, self._store = append, store
        self._recorded: list[RecordedEvent] = []
        self._moments = [EMPTY]

    async def go_on(self, seed: int) -> bytes:
        """Appends a history. Returns the facts as canonical JSON; raises AssertionError where two ways to them do not agree."""
        events, chance, where = history(seed), random.Random(-seed), f"seed {seed}"
        facts = self._moments[-1]
        while events:
            count = chance.randint(1, 12)
            batch = await self._append(events[:count])
            del events[:count]
            self._recorded += batch
            facts = evolve(facts, batch)
            self._moments.append(facts)
        told, moment = encoded(facts), chance.choice(self._moments)
        assert told == encoded(evolve(EMPTY, self._recorded)), f"in one go, {where}"
        stored = load(msgspec.json.decode(encoded(moment)))
        assert stored == moment, f"stored and loaded, {where}"
        assert told == encoded(evolve(stored, self._recorded[moment.position :])), f"from a stored state on, {where}"
        if self._store is not None:
            page = chance.randint(20, 400)
            assert told == encoded(await replay(self._store, page=page, snapshots=False)), f"replayed, {where}"
        return told

    async def end(self, seed: int) -> None:
        """Compares what the log says of some moment, and what it says from a snapshot on, with what was so."""
        if self._store is None:
            return
        moment = random.Random(seed).choice(self._moments[1:])
        until = moment.position
        assert encoded(moment) == encoded(await replay(self._store, until=until)), f"up to {until}, seed {seed}"
        taken = await take(moment, self._store.path.parent)
        id = "01a0c450-0000-7000-8000-000000000001"
        recorded = await self._append([NewEvent("log-snapshots", taken, id, "gateway", "", "")])
        facts = evolve(self._moments[-1], recorded)
        assert encoded(facts) == encoded(await replay(self._store)), f"from a snapshot on, seed {seed}"


def without_database(seed: int) -> AppendBatch:
    """Records as the store does, in memory."""
    clock, head, versions = Times(seed), NO_HEAD, {}

    async def append(events: Sequence[NewEvent]) -> Sequence[RecordedEvent]:
        nonlocal head
        plan = Plan(head, versions, (), clock.now()).decide([prepared(Append(tuple(events)))])
        head = plan.head
        versions.update((event.stream, event.version) for event in plan.events)
        return plan.events

    return append


@asynccontextmanager
async def real_log(directory: Path, seed: int) -> AsyncGenerator[tuple[AppendBatch, Store], None]:
    async with open_store(directory, clock=Times(seed), limits=Limits()) as store:

        async def hurry() -> None:  # what a power failure would do is not the question here
            await (await store._writer._connected()).execute_fetchall("PRAGMA synchronous = OFF")

        await store._thread.run(hurry)

        async def append(events: Sequence[NewEvent]) -> Sequence[RecordedEvent]:
            (outcome,) = await store.append([Append(tuple(events))])
            assert isinstance(outcome, Appended), outcome
            return outcome.events

        yield append, store


async def main(directory: Path, seed: int, histories: int, parts: int, part: int) -> None:
    upgrade(directory / "empty.db")
    empty = (directory / "empty.db").read_bytes()
    for first in range(seed, seed + histories, LOGGED_TOGETHER):
        seeds = range(first, min(first + LOGGED_TOGETHER, seed + histories))
        if (first - seed) // LOGGED_TOGETHER % parts == part:
            log = directory / f"{first}"
            log.mkdir()
            (log / "events.db").write_bytes(empty)
            async with real_log(log, first) as (append, store):
                await tell(Past(append, store), seeds)
            shutil.rmtree(log)
        else:
            await tell(Past(without_database(first), None), seeds)


async def tell(past: Past, seeds: range) -> None:
    for seed in seeds:
        print(hashlib.sha256(await past.go_on(seed)).hexdigest())
    await past.end(seeds.stop)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), *map(int, sys.argv[2:]))
