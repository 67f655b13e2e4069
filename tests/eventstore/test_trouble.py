"""A store in trouble: locks, full disks, failing commits, impatient callers. Nothing acknowledged is lost, and it goes on."""

import gc
import random
import sqlite3
from functools import partial
from pathlib import Path

import aiosqlite
import pytest
import trio

from llmux.clock import SeededClock
from llmux.config import Limits
from llmux.eventstore import Appended, Store, open_store, verify
from llmux.failures import LogDamaged, OutcomeUnknown, SchemaUnknown, StoreFailure, StoreFull
from llmux.migrations import upgrade
from tests.eventstore.logs import foreign, one, opened, tampered, whole, written


async def settled(store: Store) -> None:
    """The store still appends, is at the head that the file has, and the log is whole."""
    (outcome,) = await store.append([one("settled")])
    assert isinstance(outcome, Appended), outcome
    assert await store.head_on_disk() == store.head
    assert (await verify(store)).head == store.head


async def test_a_foreign_lock_makes_appends_wait_and_then_fail_and_the_next_one_goes_through(tmp_path: Path) -> None:
    async with opened(tmp_path, Limits(busy_ms_max=50)) as store:
        await store.append([one("a", 1)])
        connection = foreign(tmp_path)
        connection.execute("BEGIN IMMEDIATE")
        first, second = await store.append([one("a", 2), one("b", 3)])
        for outcome in (first, second):
            assert isinstance(outcome, StoreFailure)
            assert (outcome.code, outcome.status) == ("store_busy", 503)
            assert outcome.retry_after_ms
        assert first is not second, "each who waits raises an exception of its own"
        assert store.head.position == 1
        assert len(await whole(store)) == 1, "readers are not held up"
        connection.execute("ROLLBACK")
        connection.close()
        assert store.statistics().failed == 1
        await settled(store)


async def test_an_append_goes_through_as_soon_as_a_foreign_lock_is_gone(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        connection = foreign(tmp_path)
        connection.execute("BEGIN IMMEDIATE")
        outcomes: list[object] = []

        async def append() -> None:
            outcomes.extend(await store.append([one("a")]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(append)
            await trio.sleep(0.05)  # a real lock: the wait is SQLite's own
            assert outcomes == []
            connection.execute("ROLLBACK")
        connection.close()
        assert isinstance(outcomes[0], Appended)
        await settled(store)


async def limit_pages(store: Store, pages: int) -> None:
    """The writer's connection may not let the file grow beyond `pages` (or its present size)."""

    async def work() -> None:
        driver = await store._writer._connected()
        await driver.execute_fetchall(f"PRAGMA max_page_count = {pages}")

    await store._thread.run(work)


async def test_a_full_disk_is_told_loses_nothing_and_is_over_when_there_is_room(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await limit_pages(store, 1)
        acknowledged, failures = 0, []
        for n in range(2000):
            (outcome,) = await store.append([one(f"stream-{n}", n)])
            if isinstance(outcome, StoreFailure):
                failures.append(outcome)
                if len(failures) == 3:
                    break
            else:
                acknowledged += 1
        assert [type(failure) for failure in failures] == [StoreFull] * 3
        assert failures[0].status == 507
        assert store.head.position == acknowledged == len(await whole(store))
        assert (await verify(store)).events == acknowledged
        await limit_pages(store, 1_000_000)
        await settled(store)


@pytest.mark.parametrize("written_before_the_error", [False, True])
async def test_a_commit_that_may_have_happened_is_said_to_be_unknown_and_its_repetition_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written_before_the_error: bool
) -> None:
    async with opened(tmp_path) as store:
        await store.append([one("a", 1)])
        commit = aiosqlite.Connection.commit

        async def failing(self: aiosqlite.Connection) -> None:
            if written_before_the_error:
                await commit(self)
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"
            raise error

        append, refused = one("a", 2), one("a", 3, expected=-1)
        with monkeypatch.context() as patch:
            patch.setattr(aiosqlite.Connection, "commit", failing)
            outcomes = await store.append([append, refused])
        assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown, OutcomeUnknown]
        assert store.head.position == 1, "the head moves only when it is known to"
        (again,) = await store.append([append])
        assert isinstance(again, Appended)
        assert again.repeated is written_before_the_error
        assert [event.fact.entries for event in await whole(store)] == [1, 2]
        await settled(store)


async def test_a_connection_that_dies_is_replaced(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.append([one("a", 1)])

        async def kill() -> None:
            await (await store._writer._connected()).close()

        await store._thread.run(kill)
        (outcome,) = await store.append([one("a", 2)])
        assert isinstance(outcome, StoreFailure)
        assert not isinstance(outcome, OutcomeUnknown), "nothing can have been committed"
        await settled(store)


async def test_a_caller_that_is_cancelled_never_reaches_the_transaction(tmp_path: Path) -> None:
    """200 appends, each cancelled after a random number of steps: all are recorded or not at all, and no lock stays."""
    seed = 20_261_122
    chance = random.Random(seed)
    heard, handed_over = 0, 0
    async with opened(tmp_path, Limits(busy_ms_max=0)) as store:
        for n in range(200):
            async with trio.open_nursery() as nursery:

                async def append(n: int = n) -> None:
                    nonlocal heard, handed_over
                    handed_over += 1
                    outcomes = await store.append([one("a", n), one("b", n)])
                    assert all(isinstance(outcome, Appended) for outcome in outcomes)
                    heard += 1

                nursery.start_soon(append)
                for _ in range(chance.randrange(40)):
                    await trio.sleep(0)
                nursery.cancel_scope.cancel()
        await settled(store)
        assert store.head.position == 2 * handed_over + 1, f"seed {seed}"
        assert handed_over > heard >= 0
        connection = foreign(tmp_path)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
        connection.close()


async def test_closing_waits_for_the_append_of_a_caller_that_has_left(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.append, [one("a", n) for n in range(500)])
                await trio.sleep(0)
                await trio.sleep(0)
                scope.cancel()
    async with opened(tmp_path) as store:
        assert store.head.position == 500
        await settled(store)


async def test_a_block_that_is_cancelled_closes_the_log_all_the_same(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with opened(tmp_path) as store:
            await store.append([one("a")])
            scope.cancel()
            await trio.sleep_forever()
    assert not (tmp_path / "events.db-wal").exists(), "SQLite removes it when the last connection is closed in order"
    with pytest.raises(StoreFailure, match="closed"):
        await store.append([one("a")])
    with pytest.raises(StoreFailure, match="closed"):
        await store.read(limit=1)


async def test_an_exception_of_the_block_arrives_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with opened(tmp_path):
            raise ZeroDivisionError


async def test_a_log_that_is_changed_behind_our_back_is_not_continued(tmp_path: Path) -> None:
    await written(tmp_path, 10)
    async with opened(tmp_path) as store:
        tampered(tmp_path, "DELETE FROM events WHERE position > 8")
        for _ in range(2):
            (outcome,) = await store.append([one("a")])
            assert isinstance(outcome, LogDamaged)
            assert outcome.position == 9
        assert store.head.position == 10


async def test_a_store_without_its_tables_says_so(tmp_path: Path) -> None:
    (tmp_path / "events.db").touch()
    with pytest.raises(StoreFailure, match="no table of events"):
        async with open_store(tmp_path, clock=SeededClock(), limits=Limits()):
            pass


async def test_a_store_of_another_schema_says_so(tmp_path: Path) -> None:
    upgrade(tmp_path / "events.db")
    connection = foreign(tmp_path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(SchemaUnknown, match="9999"):
        async with open_store(tmp_path, clock=SeededClock(), limits=Limits()):
            pass


async def test_time_is_taken_from_the_clock_and_order_from_the_position(tmp_path: Path) -> None:
    upgrade(tmp_path / "events.db")
    clock = SeededClock(1, start_ms=1_000_000)
    async with open_store(tmp_path, clock=clock, limits=Limits()) as store:
        for shift in (0, -500_000, 400_000_000_000):
            clock.shift(shift)
            await store.append([one("a")])
        first, second, third = await whole(store)
        assert first.recorded_at > second.recorded_at < third.recorded_at
        assert [event.position for event in (first, second, third)] == [1, 2, 3]
        await settled(store)


async def test_a_reader_that_is_cancelled_at_the_end_leaves_no_connection_open(tmp_path: Path) -> None:
    """aiosqlite warns of a connection that is thrown away unclosed, and warnings are errors here."""
    upgrade(tmp_path / "events.db")
    for _ in range(20):
        async with open_store(tmp_path, clock=SeededClock(), limits=Limits()) as store, trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(partial(store.read, limit=10))
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        gc.collect()
