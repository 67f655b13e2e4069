"""Whatever single call of the store fails, and however: a typed failure, no wrong state, and everything goes on."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import trio

from llmux.actors.facts import plain
from llmux.actors.journal import Journal
from llmux.actors.replaying import replay
from llmux.clock import SeededClock
from llmux.events import NewEvent, RecordedEvent
from llmux.eventstore import NO_STREAM, Store, verify
from llmux.failures import LLMuxError, OutcomeUnknown, WrongExpectedVersion
from llmux.migrations import upgrade
from tests.crash.faults import CODES, WHEN, Call, Faults
from tests.crash.journals import new, running

ALL = bool(os.environ.get("LLMUX_TEST_ALL_FAULTS"))
HANG_S = 20
AT_ONCE = 3
"""appends that wait at the same time, and can fail together"""


class Told(msgspec.Struct):
    """What the callers of the journal were told."""

    acknowledged: dict[str, RecordedEvent] = {}
    refused: set[str] = set()
    failures: list[LLMuxError] = []


async def story(store: Store, journal: Journal, told: Told) -> None:
    """Appends that succeed and that do not, one by one and at once, repeated ones, and all kinds of reading."""
    ids = SeededClock(11)

    async def append(*events: NewEvent, **expected: int) -> None:
        names = {stream.replace("_", "-"): version for stream, version in expected.items()}
        try:
            recorded = await journal.append(*events, expected=names)
        except LLMuxError as failure:
            told.failures.append(failure)
            if not isinstance(failure, OutcomeUnknown):
                told.refused.update(event.event_id for event in events)
        else:
            assert [event.event_id for event in recorded] == [event.event_id for event in events]
            told.acknowledged.update((event.event_id, event) for event in recorded)
            told.refused -= told.acknowledged.keys()  # it may have been refused the first time

    async def ask(question: Callable[[], object]) -> None:
        try:
            await question()
        except LLMuxError as failure:
            told.failures.append(failure)

    first = (new("key-a", 1, ids), new("cache", 1, ids))
    await append(*first)
    await append(new("key-a", 2, ids), key_a=0)
    await append(*first)  # again: nothing new
    await append(new("key-b", 3, ids), key_b=7)  # wrong
    async with trio.open_nursery() as nursery:
        nursery.start_soon(append, new("key-b", 4, ids))
        nursery.start_soon(append, new("cache", 5, ids), new("key-c", 5, ids))
        nursery.start_soon(lambda: append(new("key-a", 6, ids), key_a=NO_STREAM))
    await ask(lambda: store.read(limit=100))
    await ask(lambda: store.version("key-a"))
    await ask(store.head_on_disk)
    await ask(lambda: verify(store))
    await append(new("key-d", 7, ids))


async def judge(directory: Path, told: Told, where: str) -> None:
    """Opens the log anew: what was acknowledged is there once, what was refused is not, and the chain holds."""
    async with running(directory) as (store, journal):
        assert (await verify(store)).head == store.head, where
        found = {event.event_id: event for event in await store.read(limit=1000)}
        assert len(found) == store.head.position, where
        for id, event in told.acknowledged.items():
            assert found[id] == event, where
        assert not told.refused & found.keys(), where
        await journal.append(new("cache", 99, SeededClock(99)))
        assert plain(journal.facts) == plain(await replay(store, snapshots=False)), where


async def told_under(faults: Faults, directory: Path) -> Told:
    """The story with that fault, and what holds at its end within the same process."""
    told, where = Told(), repr(faults)
    with faults.installed(), trio.fail_after(HANG_S):
        try:
            async with running(directory) as (store, journal):
                await story(store, journal, told)
                where, faults.over = repr(faults), True
                assert plain(journal.facts) == plain(await replay(store, snapshots=False)), where
                assert await store.head_on_disk() == store.head, where
        except LLMuxError as failure:  # it could not even be opened
            told.failures.append(failure)
    return told


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log without events, whose tables are there."""
    directory = tmp_path_factory.mktemp("empty")
    upgrade(directory / "events.db")
    return directory


def cases(calls: list[Call], when: str) -> Iterator[tuple[int, str]]:
    """Which call fails with which code. Calls that only read, or open, take turns with the codes unless ALL is set."""
    for nth, call in enumerate(calls, 1):
        if when in call.endings:
            writes = call.commits or call.name.startswith(("BEGIN", "INSERT", "many", "rollback"))
            yield from ((nth, code) for code in (CODES if writes or ALL else (CODES[nth % len(CODES)],)))


@pytest.mark.parametrize("when", WHEN)
async def test_every_single_fault_is_told_and_leaves_a_log_that_is_whole(
    tmp_path: Path, empty: Path, when: str
) -> None:
    well = Faults()
    told = await told_under(well, shutil.copytree(empty, tmp_path / "well"))
    assert [type(failure) for failure in told.failures] == [WrongExpectedVersion] * 2
    fired: Counter[str] = Counter()
    for nth, code in cases(well.calls, when):
        faults, directory = Faults(nth, code, when), shutil.copytree(empty, tmp_path / f"{nth}-{code}")
        told = await told_under(faults, directory)
        if (
            faults.fired
        ):  # the three that append at once can be grouped otherwise this time, and then a call is another one
            fired[faults.fired] += 1
            await judge(directory, told, repr(faults))
            surplus = [failure for failure in told.failures if not isinstance(failure, WrongExpectedVersion)]
            assert len(surplus) <= AT_ONCE, f"{faults}: one call fails, and the next one goes through: {surplus}"
        shutil.rmtree(directory)
    print(f"{when}: {fired.total()} faults at {len(well.calls)} calls: {dict(fired)}")
    assert fired.total() > 10
