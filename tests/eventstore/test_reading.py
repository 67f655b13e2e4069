"""Reading: pages and filters, beside a writer and without one."""

import sqlite3
from pathlib import Path

import pytest
import trio

from llmux.clock import SeededClock
from llmux.config import Limits
from llmux.events import CacheCleared, KeyRevoked, NewEvent
from llmux.eventstore import EMPTY, Append, open_reader, open_store, verify
from llmux.eventstore.chain import hash_of
from llmux.failures import LogDamaged, SchemaUnknown, StoreFailure, UnknownEvent
from llmux.migrations import upgrade
from tests.eventstore.logs import CLOCK, foreign, one, opened, whole, written


async def test_pages_follow_each_other_until_they_are_not_full(tmp_path: Path) -> None:
    await written(tmp_path, 25)
    async with opened(tmp_path) as store:
        assert [event.position for event in await store.read(limit=10)] == list(range(1, 11))
        assert [event.position for event in await store.read(limit=10, after=20)] == list(range(21, 26))
        assert await store.read(limit=10, after=25) == []
        assert [event.position for event in await store.read(limit=10, after=3, until=5)] == [4, 5]


async def test_filters_are_all_to_match(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        request = CLOCK.new_id()
        await store.append(
            [
                one("cache"),
                Append((NewEvent("key-1", KeyRevoked(key_id="1"), CLOCK.new_id(), "admin", request),)),
                Append((NewEvent("key-2", KeyRevoked(key_id="2"), CLOCK.new_id(), "admin", "free text"),)),
                Append((NewEvent("key-1", KeyRevoked(key_id="1"), CLOCK.new_id(), "local", request),)),
            ]
        )

        async def found(**filters: object) -> list[int]:
            return [event.position for event in await store.read(limit=100, **filters)]

        assert await found(stream="key-1") == [2, 4]
        assert await found(stream="key-1", after=2) == [4]
        assert await found(types={"KeyRevoked"}) == [2, 3, 4]
        assert await found(types=["CacheCleared", "KeyRevoked"]) == [1, 2, 3, 4]
        assert await found(principal="admin") == [2, 3]
        assert await found(correlation_id=request) == [2, 4]
        assert await found(correlation_id="free text") == [3]
        assert await found(correlation_id=request, principal="admin", stream="key-1", types=["KeyRevoked"]) == [2]
        assert await found(principal="nobody") == []
        assert await found(until=3, types={"KeyRevoked"}) == [2, 3]


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_page_is_bounded(tmp_path: Path, limit: int) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(ValueError, match="1 to 1000"):
            await store.read(limit=limit)


async def test_what_a_filter_says_is_never_sql(tmp_path: Path) -> None:
    await written(tmp_path, 3)
    async with opened(tmp_path) as store:
        hostile = "'; DROP TABLE events; --"
        assert (
            await store.read(limit=5, stream=hostile, types=[hostile], principal=hostile, correlation_id=hostile) == []
        )
        assert await store.version(hostile) == -1
        assert len(await whole(store)) == 3


async def test_an_event_of_an_unknown_type_is_read_and_verified_but_not_understood(tmp_path: Path) -> None:
    await written(tmp_path, 2)
    connection = foreign(tmp_path)
    async with opened(tmp_path) as store:
        (last,) = await store.read(limit=1, after=1)
        rewritten = {"position": 3, "stream": "s", "version": 0, "type": "FromTheFuture", "event_id": "next"}
        event = last.__class__(
            **{**{f: getattr(last, f) for f in last.__struct_fields__}, **rewritten, "prev_hash": last.hash}
        )
        connection.execute(
            "INSERT INTO events VALUES (3, 's', 0, 'FromTheFuture', 1, 'next', ?, ?, ?, ?, ?, ?, ?)",
            (event.recorded_at, event.principal, "", "", event.data.decode(), event.prev_hash, hash_of(event)),
        )
    connection.close()
    async with opened(tmp_path) as store:
        (event,) = await store.read(limit=1, after=2)
        assert event.type == "FromTheFuture"
        with pytest.raises(UnknownEvent):
            _ = event.fact
        assert (await verify(store)).events == 3


async def test_a_reader_sees_what_is_committed_while_a_writer_goes_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as store, open_reader(tmp_path, Limits()) as reader:
        assert await reader.head_on_disk() == EMPTY
        done = False

        async def write() -> None:
            nonlocal done
            for n in range(60):
                await store.append([one("a", n), one("b", n)])
            done = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            seen = 0
            while not done:
                events = await reader.read(limit=1000)
                assert [event.position for event in events] == list(range(1, len(events) + 1))
                assert len(events) % 2 == 0, "half a transaction was seen"
                assert len(events) >= seen
                seen = len(events)
        assert await reader.head_on_disk() == store.head
        assert (await verify(reader)).head == store.head


async def test_a_reader_needs_no_gateway_and_takes_no_lock(tmp_path: Path) -> None:
    await written(tmp_path, 5)
    async with open_reader(tmp_path, Limits()) as reader:
        connection = foreign(tmp_path)
        connection.execute("BEGIN IMMEDIATE")
        assert len(await reader.read(limit=10)) == 5
        connection.execute("ROLLBACK")
        connection.close()


async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    await written(tmp_path, 1)
    async with open_reader(tmp_path, Limits()) as reader:
        with pytest.raises(StoreFailure, match="may not be written"):
            await reader._ask(lambda connection: connection.exec_driver_sql("CREATE TABLE x (y)"))


async def test_a_reader_of_a_log_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreFailure, match=f"no event log at {tmp_path}.*LLMUX_DATA_DIR"):
        async with open_reader(tmp_path, Limits()):
            pass
    assert list(tmp_path.iterdir()) == []


async def test_a_log_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """(root may read everything, so that the answer of the system is replaced)"""
    await written(tmp_path, 1)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(StoreFailure, match=f"{tmp_path}/events.db cannot be read: Permission denied. .*LLMUX_DATA_DIR"):
        async with open_reader(tmp_path, Limits()):
            pass


async def test_a_reader_of_another_schema_says_so(tmp_path: Path) -> None:
    await written(tmp_path, 1)
    connection = foreign(tmp_path)
    connection.execute("UPDATE alembic_version SET version_num = '0999'")
    connection.close()
    with pytest.raises(SchemaUnknown, match="0999"):
        async with open_reader(tmp_path, Limits()):
            pass


async def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_bytes(b"not a database " * 1000)
    with pytest.raises(LogDamaged, match="damaged"):
        async with open_reader(tmp_path, Limits()):
            pass


async def test_a_database_without_our_table_says_so(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "events.db")
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    with pytest.raises(StoreFailure, match="no table of events"):
        async with open_reader(tmp_path, Limits()):
            pass


async def test_a_path_may_hold_any_character(tmp_path: Path) -> None:
    directory = tmp_path / "a b%3f?mode=memory#c&ü"
    directory.mkdir()
    await written(directory, 3)
    assert {path.name for path in directory.iterdir()} >= {"events.db"}
    assert {path.name for path in tmp_path.iterdir()} == {directory.name}
    async with open_reader(directory, Limits()) as reader:
        assert len(await reader.read(limit=10)) == 3


async def test_the_facts_of_the_log_come_back(tmp_path: Path) -> None:
    await written(tmp_path, 20)
    async with opened(tmp_path) as store:
        assert [event.fact for event in await whole(store)] == [CacheCleared(entries=n) for n in range(20)]


async def test_several_streams_and_times_are_filters_too_and_the_newest_may_come_first(tmp_path: Path) -> None:
    clock = SeededClock(3)
    request, flight = f"request-{clock.new_id()}", f"flight-{clock.new_id()}"
    upgrade(tmp_path / "events.db")
    async with open_store(tmp_path, clock=clock, limits=Limits()) as store:
        for stream in (request, "cache", flight, request):
            await store.append([one(stream)])
            clock.shift(1000)
        times = [event.recorded_at for event in await whole(store)]

        async def found(**filters: object) -> list[int]:
            return [event.position for event in await store.read(limit=100, **filters)]

        assert await found(streams={request, flight}) == [1, 3, 4]
        assert await found(streams={request, flight}, newest_first=True, after=1) == [4, 3]
        assert await found(stream=request, newest_first=True) == [4, 1]
        assert await found(streams={"nobody"}) == []
        assert await found(streams={request, "cache", "nobody"}) == [1, 2, 4]
        assert await found(streams={flight, "a", "zz"}) == [3]
        assert await found(recorded_from=times[1], recorded_to=times[2]) == [2, 3]
        assert await found(recorded_from=times[3] + 1) == []
        assert [event.position for event in await store.read(limit=2, until=3, newest_first=True)] == [3, 2]
