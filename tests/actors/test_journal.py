"""The journal: one transaction for all who wait, facts before replies, failures told one by one."""

import pytest
import trio

from llmux.actors.facts import plain
from llmux.actors.opening import open_system
from llmux.actors.replaying import replay
from llmux.clock import SeededClock
from llmux.config import Limits
from llmux.events import CacheCleared, NewEvent
from llmux.eventstore import NO_STREAM
from llmux.failures import (
    OutcomeUnknown,
    Overloaded,
    ShuttingDown,
    StoreFailure,
    StoreFull,
    WrongExpectedVersion,
)
from tests.actors.house import house_settings, types_of


def open_house(tmp_path, **changes):
    return open_system(house_settings(tmp_path, **changes), SeededClock(), environ={})


def cleared(system, entries: int = 1, stream: str = "cache") -> NewEvent:
    return NewEvent(stream, CacheCleared(entries=entries), system.clock.new_id())


async def test_everybody_who_waits_shares_one_commit(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        before = system.journal.counts()
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(system.journal.append, cleared(system))
        after = system.journal.counts()
        assert after.events - before.events == 100
        assert after.commits - before.commits <= 2


async def test_a_reply_means_that_every_reader_sees_the_fact(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        (recorded,) = await system.journal.append(cleared(system))
        assert system.facts.position == recorded.position
        assert system.facts.cache.cleared_at == recorded.recorded_at


async def test_one_bad_append_fails_alone(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        failed = []

        async def append(*events, expected=None):
            try:
                await system.journal.append(*events, expected=expected)
            except WrongExpectedVersion as failure:
                failed.append((failure.expected, failure.actual))

        await append(cleared(system))
        async with trio.open_nursery() as nursery:
            for index in range(5):
                expected = {"cache": NO_STREAM} if index == 2 else None
                nursery.start_soon(lambda expected=expected: append(cleared(system), expected=expected))
        assert len(failed) == 1
        assert failed[0][0] == NO_STREAM
        assert len(await types_of(system)) == 5
        assert system.journal.counts().refused == 1


async def test_appending_the_same_event_again_changes_nothing(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        event = cleared(system)
        first = await system.journal.append(event)
        position = system.facts.position
        assert await system.journal.append(event) == first
        assert system.facts.position == position


async def test_an_outcome_that_is_unknown_is_found_out_by_appending_again(tmp_path, virtual_time, monkeypatch):
    async with open_house(tmp_path) as system:
        real = system.journal._store.append

        async def committed_but_unheard(batch):
            await real(batch)
            raise OutcomeUnknown("lost")

        event = cleared(system, entries=7)
        with monkeypatch.context() as broken:
            broken.setattr(system.journal._store, "append", committed_but_unheard)
            with pytest.raises(OutcomeUnknown):
                await system.journal.append(event)
        await system.journal.append(event)
        assert await types_of(system) == ["CacheCleared"]
        assert system.facts.position == 2


async def test_a_refusal_after_an_unknown_outcome_tells_nothing_of_the_first_time(tmp_path, virtual_time, monkeypatch):
    async with open_house(tmp_path) as system:
        real, tries = system.journal._store.append, 0

        async def committed_but_unheard_and_then_busy(batch):
            nonlocal tries
            tries += 1
            if tries > 1:
                raise StoreFailure("busy")
            await real(batch)
            raise OutcomeUnknown("lost")

        with monkeypatch.context() as broken:
            broken.setattr(system.journal._store, "append", committed_but_unheard_and_then_busy)
            with pytest.raises(OutcomeUnknown):
                await system.journal.append(cleared(system, entries=7))
        assert tries == 2
        assert await types_of(system) == ["CacheCleared"]


async def test_what_was_committed_unheard_is_folded_before_the_next_append_of_anybody(
    tmp_path, virtual_time, monkeypatch
):
    async with open_house(tmp_path) as system:
        journal = system.journal
        real = journal._store.append

        async def committed_but_unheard(batch):
            return [OutcomeUnknown("lost") for _ in await real(batch)]

        with monkeypatch.context() as broken:
            broken.setattr(journal._store, "append", committed_but_unheard)
            with pytest.raises(OutcomeUnknown):
                await journal.append(cleared(system, entries=7))
        (recorded,) = await journal.append(cleared(system, entries=8))
        assert await types_of(system) == ["CacheCleared", "CacheCleared"]
        assert journal.facts.position == recorded.position == 3
        assert plain(journal.facts) == plain(await replay(journal.store))


async def test_a_full_store_refuses_and_goes_on_when_there_is_room(tmp_path, virtual_time, monkeypatch):
    async with open_house(tmp_path) as system:

        async def full(batch):
            raise StoreFull("The disk is full.")

        with monkeypatch.context() as broken:
            broken.setattr(system.journal._store, "append", full)
            with pytest.raises(StoreFull):
                await system.journal.append(cleared(system))
        await system.journal.append(cleared(system))
        assert await types_of(system) == ["CacheCleared"]


async def test_a_store_that_does_not_answer_is_waited_for_as_long_as_agreed(tmp_path, virtual_time, monkeypatch):
    async with open_house(tmp_path, limits=Limits(append_ms_max=1_000)) as system:
        told = []

        async def append(event, after_s):
            await trio.sleep(after_s)
            began = trio.current_time()
            with pytest.raises(StoreFailure) as raised:
                await system.journal.append(event)
            told.append((raised.value.code, round(trio.current_time() - began, 3)))

        async def silent(batch):
            await trio.sleep_forever()

        with monkeypatch.context() as broken:
            broken.setattr(system.journal._store, "append", silent)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(append, cleared(system), 0)
                nursery.start_soon(append, cleared(system), 0.5)
        assert sorted(told) == [("outcome_unknown", 2.0), ("store_busy", 0.5)]
        await system.journal.append(cleared(system, entries=3))
        assert await types_of(system) == ["CacheCleared"]
        assert system.facts.cache.cleared_at is not None


async def test_how_long_an_append_takes_is_told(tmp_path, virtual_time, monkeypatch):
    async with open_house(tmp_path) as system:
        real = system.journal._store.append

        async def slow(batch):
            await trio.sleep(0.25)
            return await real(batch)

        with monkeypatch.context() as broken:
            broken.setattr(system.journal._store, "append", slow)
            began = trio.current_time()
            await system.journal.append(cleared(system))
            took_ms = (trio.current_time() - began) * 1000
        counts = system.journal.counts()
        assert took_ms - 50 < counts.append_ms_last <= took_ms
        assert counts.append_ms_last >= 249
        assert 0 < counts.append_ms_mean <= counts.append_ms_last


async def test_cancelling_an_appender_does_not_take_its_event_back(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(system.journal.append, cleared(system))
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                scope.cancel()
        await system.journal.append(cleared(system))
        assert len(await types_of(system)) == 2
        assert system.facts.position == 3


async def test_a_full_mailbox_is_refused(tmp_path, virtual_time):
    async with open_house(tmp_path, limits=Limits(mailbox_max=3)) as system:
        refused = []

        async def append():
            try:
                await system.journal.append(cleared(system))
            except Overloaded:
                refused.append(1)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(append)
        assert len(refused) + len(await types_of(system)) == 50
        assert refused


async def test_after_the_stop_nobody_waits(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        pass
    with pytest.raises(ShuttingDown):
        await system.journal.append(cleared(system))
