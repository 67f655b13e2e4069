"""The writer's short way (one statement, resting on what it remembers and guesses) comes to what the careful way comes to."""

import random
import sqlite3
from collections import Counter
from pathlib import Path

import aiosqlite
import pytest
import trio

from llmux.clock import SeededClock
from llmux.config import Limits
from llmux.events import CacheCleared, NewEvent
from llmux.eventstore import ANY, NO_STREAM, Append, Appended, Store, open_store, verify, versions, writer
from llmux.failures import LLMuxError, WrongExpectedVersion
from llmux.migrations import upgrade
from tests.eventstore.archived import archive
from tests.eventstore.logs import foreign, new, one, opened, tampered, whole

SEED = 20_261_123


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts what is asked of the driver, by method."""
    counted: Counter = Counter()

    def counting(name, real):
        def call(self, *args):
            counted[name] += 1
            return real(self, *args)

        return call

    for name in ("execute", "executemany", "execute_fetchall", "commit", "rollback"):
        monkeypatch.setattr(aiosqlite.Connection, name, counting(name, getattr(aiosqlite.Connection, name)))
    return counted


def failing(monkeypatch: pytest.MonkeyPatch, *, written: bool, code: int = sqlite3.SQLITE_IOERR) -> None:
    """The next statement that inserts at once fails, before or after it is carried out."""
    real = writer.Writer._write

    def write(self, statement, parameters):
        monkeypatch.setattr(writer.Writer, "_write", real)
        if written:
            real(self, statement, parameters)
        error = sqlite3.OperationalError("as asked for")
        error.sqlite_errorcode, error.sqlite_errorname = code, "SQLITE_IOERR"
        raise error

    monkeypatch.setattr(writer.Writer, "_write", write)


async def test_new_events_need_no_step_of_the_careful_way(tmp_path: Path, calls: Counter) -> None:
    async with opened(tmp_path) as store:
        await store.append([one("a")])
        calls.clear()
        await store.append([one("a"), one("b"), Append((new("a"), new("c")), {"a": 1, "c": NO_STREAM})])
        await store.append([one("b", expected=0)])
        assert calls == {}
        assert store.statistics().transactions == 3
        assert [event.version for event in await whole(store)] == [0, 1, 0, 2, 0, 1]


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 16, 100, writer.AT_ONCE_ROWS_MAX, writer.AT_ONCE_ROWS_MAX + 1])
async def test_batches_of_every_size_are_recorded_whole(tmp_path: Path, rows: int) -> None:
    async with opened(tmp_path) as store:
        await store.append([one("a")])
        outcomes = await store.append([one("a", n) for n in range(rows)])
        assert all(isinstance(outcome, Appended) for outcome in outcomes)
        assert [event.fact.entries for event in (await whole(store))[1:]] == list(range(rows))
        assert store.statistics().transactions == 2


async def test_a_stream_that_is_forgotten_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "REMEMBERED", 2)
    async with opened(tmp_path) as store:
        for n in range(3):
            for stream in "abcdefgh":
                (outcome,) = await store.append([one(stream, expected=n - 1 if n else NO_STREAM)])
                assert isinstance(outcome, Appended), outcome
    async with opened(tmp_path) as store:
        good, bad = await store.append([one("a"), one("b", expected=NO_STREAM)])
        assert good.events[0].version == 3
        assert isinstance(bad, WrongExpectedVersion)
        assert (bad.stream, bad.expected, bad.actual) == ("b", NO_STREAM, 2)
        assert "b" in str(bad)
        assert "2" in str(bad)


async def test_a_stream_that_is_only_expected_is_never_guessed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.append([one("a")])
    async with opened(tmp_path) as store:
        good, bad = await store.append([one("b"), Append((new("c"),), {"a": NO_STREAM})])
        assert isinstance(good, Appended)
        assert isinstance(bad, WrongExpectedVersion)
        assert (bad.stream, bad.actual) == ("a", 0)


@pytest.mark.parametrize("written", [False, True])
async def test_a_statement_that_fails_is_decided_the_careful_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """Also when it was carried out all the same: then its events are found, and not recorded twice."""
    async with opened(tmp_path) as store:
        await store.append([one("a", 1)])
        failing(monkeypatch, written=written)
        good, bad = await store.append([one("a", 2), one("b", 3, expected=NO_STREAM)])
        assert isinstance(good, Appended)
        assert isinstance(bad, Appended)
        await store.append([one("a", 4), one("b", 5, expected=0)])
        events = await whole(store)
        assert [(event.stream, event.version, event.fact.entries) for event in events] == [
            ("a", 0, 1), ("a", 1, 2), ("b", 0, 3), ("a", 2, 4), ("b", 1, 5),
        ]  # fmt: skip
        assert store.head.hash == events[-1].hash
        assert store.statistics().failed == 1


async def test_a_store_that_is_busy_is_waited_for_once(
    tmp_path: Path, calls: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as store:
        await store.append([one("a", 1)])
        failing(monkeypatch, written=False, code=sqlite3.SQLITE_BUSY)
        calls.clear()
        (outcome,) = await store.append([one("a", 2)])
        assert outcome.code == "store_busy"
        assert calls == {}, "nothing else was tried"
        assert isinstance((await store.append([one("a", 2)]))[0], Appended)


async def test_another_programs_event_is_noticed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.append([one("a"), one("a")])
        connection = foreign(tmp_path)
        connection.execute(
            "INSERT INTO events SELECT 3, 'z', 0, type, schema, x'00', recorded_at, principal, '', '', data, hash, x'11' "
            "FROM events WHERE position = 2"
        )
        connection.close()
        (outcome,) = await store.append([one("a")])
        assert isinstance(outcome, LLMuxError)
        assert "something else has changed it" in str(outcome)


async def test_a_log_whose_beginning_is_archived_goes_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.append([one("a"), one("gone"), one("a"), one("b")])
        head = store.head
    origin = f"INSERT INTO origin VALUES (1, 4, x'{head.hash.hex()}', x'', 1, '{{\"a\": 1, \"b\": 0}}')"
    tampered(tmp_path, "DELETE FROM events", origin, "UPDATE origin SET state = x'789c030000000001'")
    async with opened(tmp_path) as store:
        assert store.head == head
        first, bad = await store.append([one("b", expected=0), one("a", expected=NO_STREAM)])
        second, third = await store.append([one("a", expected=1), one("b", expected=ANY)])
        assert isinstance(bad, WrongExpectedVersion)
        assert bad.actual == 1
        written = [event for outcome in (first, second, third) for event in outcome.events]
        assert [(event.position, event.stream, event.version) for event in written] == [
            (5, "b", 1), (6, "a", 2), (7, "b", 2),
        ]  # fmt: skip
        assert written[0].prev_hash == head.hash


async def test_a_stream_that_went_on_after_archiving_and_is_forgotten_is_never_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "REMEMBERED", 20)
    async with opened(tmp_path) as store:
        await store.append([one("gate", n) for n in range(3)])
        await archive(store, 3)
        await store.append([one("gate", 9)])
        for turn in range(3):
            await store.append([one(f"other-{turn}-{n}") for n in range(25)])
        (outcome,) = await store.append([Append((new("another"),), {"gate": 2})])
        assert isinstance(outcome, WrongExpectedVersion)
        assert (outcome.expected, outcome.actual) == (2, 3)


async def test_both_ways_at_the_same_time_never_meet(tmp_path: Path) -> None:
    """Appends that are guessed, appends that are refused and looked up, and other work on the connection, all at once."""
    chance = random.Random(SEED)
    async with opened(tmp_path, Limits(busy_ms_max=0)) as store:
        await store.append([one("a")])
        recorded: list[int] = []

        async def work(task: int) -> None:
            for n in range(25):
                kind = chance.random()
                if kind < 0.1:
                    await store.give_back(10)
                expected = {f"unknown-{n}": NO_STREAM} if kind < 0.4 else {"a": 10**6} if kind < 0.5 else {}
                (outcome,) = await store.append([Append((new(f"task-{task}", n), new("a", n)), expected)])
                if kind < 0.4 or kind >= 0.5:
                    recorded.extend(event.position for event in outcome.events)
                else:
                    assert isinstance(outcome, WrongExpectedVersion)

        async with trio.open_nursery() as nursery:
            for task in range(8):
                nursery.start_soon(work, task)
        assert sorted(recorded) == list(range(2, store.head.position + 1)), f"seed {SEED}"
        assert (await verify(store)).head == store.head
        assert store.statistics().failed == 0


async def test_an_append_whose_caller_has_left_is_made_before_the_log_closes(tmp_path: Path) -> None:
    """Also one that the short way hands on to the careful way after the caller has left."""
    async with opened(tmp_path) as store:
        await store.append([one("a")])
        for expected in ({}, {"unknown": NO_STREAM}) * 20:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.append, [Append((new("a"),), expected)])
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
    assert not (tmp_path / "events.db-wal").exists(), "every connection was closed in order"
    async with opened(tmp_path) as store:
        assert store.head.position == 41


class StoppedClock(SeededClock):
    """Time stands still, so that two logs of the same events are equal to the last byte."""

    def now(self) -> int:
        return 1_790_000_000_000


def batches(chance: random.Random, clock: SeededClock) -> list[list[Append]]:
    """Appends to few streams: fresh ones, repeated ones, contradictory ones, with right and wrong expectations."""
    made: list[Append] = []
    result = []
    for _ in range(60):
        batch = []
        for _ in range(chance.choice([1, 1, 2, 5])):
            kind = chance.random()
            if made and kind < 0.1:
                append = chance.choice(made)
            elif made and kind < 0.15:
                known = chance.choice(chance.choice(made).events)
                append = Append((new("a", chance.randrange(5), event_id=known.event_id), new("b", clock=clock)))
            elif kind < 0.2:
                append = Append((NewEvent("a\ud800", CacheCleared(entries=1), clock.new_id()),))
            else:
                streams = [chance.choice("abcdefg") for _ in range(chance.randint(1, 3))]
                named = chance.sample("abcdefg", chance.choice([0, 0, 1, 2]))
                expected = {stream: chance.choice([ANY, ANY, NO_STREAM, 0, 1, 2, 5, 9]) for stream in named}
                append = Append(tuple(new(stream, n, clock=clock) for n, stream in enumerate(streams)), expected)
                made.append(append)
            batch.append(append)
        result.append(batch)
    return result


async def recorded(directory: Path, parts: list[list[list[Append]]], clock: SeededClock) -> list[object]:
    """What all the batches came to, with the store opened anew for each part."""
    directory.mkdir()
    upgrade(directory / "events.db")
    outcomes: list[object] = []
    for part in parts:
        async with open_store(directory, clock=clock, limits=Limits()) as store:
            for batch in part:
                for outcome in await store.append(batch):
                    told = outcome if isinstance(outcome, Appended) else (type(outcome), str(outcome))
                    outcomes.append(told)
            events = await all_of(store)
    return [*outcomes, *events]


async def all_of(store: Store) -> list[object]:
    return list(await store.read(limit=1000))


@pytest.mark.parametrize("number", range(12))
async def test_both_ways_make_the_same_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    clock = StoppedClock(SEED + number)
    chance = random.Random(SEED + number)
    parts = [batches(chance, clock) for _ in range(2)]
    monkeypatch.setattr(versions, "REMEMBERED", 3)
    short = await recorded(tmp_path / "short", parts, clock)
    monkeypatch.setattr(writer, "AT_ONCE_ROWS_MAX", 0)
    careful = await recorded(tmp_path / "careful", parts, clock)
    assert short == careful, f"seed {SEED + number}"
