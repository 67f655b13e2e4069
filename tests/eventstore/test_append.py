"""What an append promises, against a real file."""

import struct
from pathlib import Path

import pytest
import trio

from llmux.events import CacheCleared, Event, NewEvent
from llmux.eventstore import ANY, NO_STREAM, Append, Appended
from llmux.failures import EventIdReused, EventMalformed, WrongExpectedVersion
from tests.eventstore.logs import CLOCK, changed, foreign, new, one, opened, whole


async def test_positions_and_versions_have_no_gaps(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        outcomes = await store.append([one("a"), one("b"), one("a")])
        outcomes += await store.append([one("b"), Append((new("a"), new("c")))])
        assert all(isinstance(outcome, Appended) for outcome in outcomes)
        events = await whole(store)
        assert [(event.position, event.stream, event.version) for event in events] == [
            (1, "a", 0), (2, "b", 0), (3, "a", 1), (4, "b", 1), (5, "a", 2), (6, "c", 0),
        ]  # fmt: skip
        assert [event for outcome in outcomes for event in outcome.events] == events
        assert store.head.position == 6
        assert store.head.hash == events[-1].hash
        assert await store.version("a") == 2
        assert await store.version("nothing") == NO_STREAM


async def test_every_field_comes_back_as_it_was_given(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        uuid, other = CLOCK.new_id(), "not-a-uuid é\u0000"
        event = NewEvent("cache-ü", CacheCleared(entries=2**53), uuid, "key é", other, uuid.upper())
        (outcome,) = await store.append([Append((event,))])
        (read,) = await whole(store)
        assert read == outcome.events[0]
        assert (read.stream, read.principal, read.correlation_id) == ("cache-ü", "key é", other)
        assert (read.event_id, read.causation_id) == (uuid, uuid.upper())
        assert (read.type, read.schema, read.fact) == ("CacheCleared", 1, CacheCleared(entries=2**53))
        assert abs(read.recorded_at - CLOCK.now()) < 60_000


@pytest.mark.parametrize("expected", [NO_STREAM, 0, 1, 3])
async def test_another_version_than_the_expected_one_is_refused(tmp_path: Path, expected: int) -> None:
    async with opened(tmp_path) as store:
        await store.append([one("a"), one("a"), one("a")])
        (outcome,) = await store.append([one("a", expected=expected)])
        assert isinstance(outcome, WrongExpectedVersion)
        assert (outcome.stream, outcome.expected, outcome.actual) == ("a", expected, 2)
        assert store.head.position == 3


async def test_the_expected_version_lets_the_append_through(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for expected in (NO_STREAM, 0, ANY, 2):
            (outcome,) = await store.append([one("a", expected=expected)])
            assert isinstance(outcome, Appended), outcome


async def test_an_append_may_expect_the_version_of_a_stream_that_it_does_not_write_to(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.append([one("a")])
        good, bad = await store.append([Append((new("b"),), {"a": 0}), Append((new("b"),), {"a": NO_STREAM})])
        assert isinstance(good, Appended)
        assert isinstance(bad, WrongExpectedVersion)


async def test_the_versions_that_a_batch_expects_are_those_that_its_earlier_appends_make(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first, second, third = await store.append(
            [one("a", expected=NO_STREAM), one("a", expected=0), one("a", expected=NO_STREAM)]
        )
        assert isinstance(first, Appended)
        assert isinstance(second, Appended)
        assert isinstance(third, WrongExpectedVersion)


async def test_a_bad_append_never_fails_its_neighbours(tmp_path: Path) -> None:
    class Unregistered(Event, frozen=True):
        pass

    async with opened(tmp_path) as store:
        known = new("a", 1)
        await store.append([Append((known,))])
        outcomes = await store.append(
            [
                one("a", 2),
                one("a", expected=NO_STREAM),
                Append((new("a", 3), NewEvent("a", Unregistered(), CLOCK.new_id()))),
                Append((new("a", 99, event_id=known.event_id),)),
                Append((NewEvent("a\ud800", CacheCleared(entries=1), CLOCK.new_id()),)),
                one("a", 4),
            ]
        )
        assert [type(outcome) for outcome in outcomes] == [
            Appended, WrongExpectedVersion, EventMalformed, EventIdReused, EventMalformed, Appended,
        ]  # fmt: skip
        assert [event.fact for event in await whole(store)] == [CacheCleared(entries=n) for n in (1, 2, 4)]
        assert [event.version for event in await whole(store)] == [0, 1, 2]


async def test_all_events_of_an_append_are_recorded_or_none(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.append([one("b")])
        (outcome,) = await store.append([Append((new("a"), new("b")), {"b": NO_STREAM})])
        assert isinstance(outcome, WrongExpectedVersion)
        assert await store.version("a") == NO_STREAM


async def test_an_append_that_is_repeated_changes_nothing_and_returns_what_was_recorded(tmp_path: Path) -> None:
    """Also when its expected version no longer holds, after other events, and after the log was opened anew."""
    append = Append((new("a", 1), new("b", 2)), {"a": NO_STREAM})
    async with opened(tmp_path) as store:
        (first,) = await store.append([append])
        await store.append([one("a"), one("b")])
        (again,) = await store.append([append])
        assert again == Appended(first.events, repeated=True)
        assert store.head.position == 4
    async with opened(tmp_path) as store:
        (again,) = await store.append([append])
        assert again == Appended(first.events, repeated=True)
        assert len(await whole(store)) == 4


async def test_an_append_may_be_repeated_within_one_batch(tmp_path: Path) -> None:
    append = one("a", 1, NO_STREAM)
    async with opened(tmp_path) as store:
        first, again = await store.append([append, append])
        assert again == Appended(first.events, repeated=True)
        assert len(await whole(store)) == 1


@pytest.mark.parametrize("field", ["stream", "principal", "correlation_id", "causation_id", "fact"])
async def test_an_event_id_with_other_content_is_refused(tmp_path: Path, field: str) -> None:
    event = new("a", 1)
    async with opened(tmp_path) as store:
        await store.append([Append((event,))])
        other = changed(event, **{field: CacheCleared(entries=2) if field == "fact" else "other"})
        (outcome,) = await store.append([Append((other,))])
        assert isinstance(outcome, EventIdReused)
        assert len(await whole(store)) == 1


async def test_an_append_that_is_only_partly_recorded_is_refused(tmp_path: Path) -> None:
    event = new("a", 1)
    async with opened(tmp_path) as store:
        await store.append([Append((event,))])
        mixed, twice = await store.append([Append((event, new("a", 2))), Append((same := new("b"), same))])
        assert isinstance(mixed, EventIdReused)
        assert isinstance(twice, EventIdReused)
        assert len(await whole(store)) == 1


async def test_an_append_without_events_only_checks_versions(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        good, bad = await store.append([Append((), {"a": NO_STREAM}), Append((), {"a": 0})])
        assert good == Appended(())
        assert isinstance(bad, WrongExpectedVersion)
        assert store.statistics().transactions == 0


async def test_a_batch_is_one_transaction(tmp_path: Path) -> None:
    """Counted in the write-ahead log itself, where exactly the last frame of a transaction carries the file's size."""

    def commits() -> int:
        wal = (tmp_path / "events.db-wal").read_bytes()
        if not wal:
            return 0
        page_size = struct.unpack_from(">I", wal, 8)[0]
        frames = range(32, len(wal) - page_size - 23, 24 + page_size)
        return sum(struct.unpack_from(">I", wal, frame + 4)[0] != 0 for frame in frames)

    async with opened(tmp_path) as store:
        before = commits()
        outcomes = await store.append([one(f"s-{n}") for n in range(100)])
        assert len(outcomes) == 100
        assert commits() - before == 1
        for _ in range(3):
            await store.append([one("x")])
        await store.append([one("x", expected=NO_STREAM)])
        assert commits() - before == 4
        statistics = store.statistics()
        assert (statistics.transactions, statistics.events, statistics.refused) == (4, 103, 1)
        assert statistics.wal_bytes > 0
        assert "at 103" in repr(store)


async def test_appends_from_many_tasks_all_find_their_place(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        outcomes: list[Appended] = []

        async def work(task: int) -> None:
            for n in range(10):
                outcomes.extend(await store.append([one(f"task-{task}", n, n - 1)]))

        async with trio.open_nursery() as nursery:
            for task in range(8):
                nursery.start_soon(work, task)
        positions = [event.position for outcome in outcomes for event in outcome.events]
        assert sorted(positions) == list(range(1, 81))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET principal = 'me'",
        "DELETE FROM events",
        "DELETE FROM events WHERE position = 1",
        "INSERT OR REPLACE INTO events SELECT * FROM events WHERE position = 1",
        "INSERT INTO events SELECT 7, 'z', 0, type, schema, x'00', recorded_at, principal, '', '', data, prev_hash, hash "
        "FROM events WHERE position = 1",
    ],
)
async def test_the_database_itself_refuses_to_change_remove_or_leave_a_gap(tmp_path: Path, statement: str) -> None:
    async with opened(tmp_path) as store:
        await store.append([one("a"), one("b")])
    connection = foreign(tmp_path)
    with pytest.raises(Exception, match=r"an event (is never|takes the next)"):
        connection.execute(statement)
    assert connection.execute("SELECT count(*) FROM events").fetchone() == (2,)
    connection.close()
