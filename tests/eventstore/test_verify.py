"""Verify: what someone did to the file behind our back, and where."""

from pathlib import Path

import pytest
import trio

from llmux.config import Limits
from llmux.events import CacheCleared, NewEvent
from llmux.eventstore import Append, open_reader, verify
from llmux.eventstore.chain import EMPTY
from llmux.failures import LogDamaged
from tests.eventstore.logs import new, one, opened, tampered, written


async def verified(directory: Path, first: int = 1) -> int:
    async with open_reader(directory, Limits(read_rows_max=7)) as reader:  # a page ends within the log
        return (await verify(reader, first=first)).events


async def test_a_log_that_nobody_touched_is_whole(tmp_path: Path) -> None:
    await written(tmp_path, 30)
    seen: list[tuple[int, int]] = []
    async with opened(tmp_path) as store:
        result = await verify(store, progress=lambda position, last: seen.append((position, last)))
        assert (result.events, result.head) == (30, store.head)
        assert seen == [(30, 30)]
        assert (await verify(store, first=11)).events == 20
        assert (await verify(store, first=31)).events == 0
        with pytest.raises(ValueError, match="no 32"):
            await verify(store, first=32)
    assert await verified(tmp_path) == 30


async def test_an_empty_log_is_whole(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        result = await verify(store)
        assert (result.events, result.head) == (0, EMPTY)


CHANGES = {
    "stream": "stream = 'stream-9', version = 0",
    "type": "type = 'CacheClearef'",
    "schema": "schema = 2",
    "event_id": "event_id = 'x'",
    "recorded_at": "recorded_at = recorded_at + 1",
    "principal": "principal = 'admin'",
    "correlation_id": "correlation_id = 'x'",
    "causation_id": "causation_id = x'00112233445566778899aabbccddeeff'",
    "malformed id": "causation_id = x'00'",
    "data": "data = data || ' '",
    "text that is no UTF-8": "data = cast(x'ff' AS TEXT)",
    "prev_hash": "prev_hash = zeroblob(32)",
    "hash": "hash = zeroblob(32)",
}


@pytest.mark.parametrize("position", [1, 12, 30])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_a_changed_field_is_noticed_at_its_position(tmp_path: Path, change: str, position: int) -> None:
    await written(tmp_path, 30)
    tampered(tmp_path, f"UPDATE events SET {change} WHERE position = {position}")
    with pytest.raises(LogDamaged) as damage:
        await verified(tmp_path)
    assert damage.value.position == position
    assert str(position) in str(damage.value)


async def test_a_changed_version_is_noticed(tmp_path: Path) -> None:
    await written(tmp_path, 30)
    tampered(tmp_path, "UPDATE events SET version = version + 10 WHERE position = 9")
    with pytest.raises(LogDamaged) as damage:
        await verified(tmp_path)
    assert damage.value.position == 9


async def test_a_removed_event_is_noticed(tmp_path: Path) -> None:
    await written(tmp_path, 30)
    tampered(tmp_path, "DELETE FROM events WHERE position = 9")
    with pytest.raises(LogDamaged, match="9 is missing") as damage:
        await verified(tmp_path)
    assert damage.value.position == 9


async def test_a_removed_page_of_events_is_noticed(tmp_path: Path) -> None:
    await written(tmp_path, 30)
    tampered(tmp_path, "DELETE FROM events WHERE position BETWEEN 8 AND 21")
    with pytest.raises(LogDamaged) as damage:
        await verified(tmp_path)
    assert damage.value.position == 8


@pytest.mark.parametrize("left", [29, 14, 0])
async def test_a_cut_tail_is_noticed(tmp_path: Path, left: int) -> None:
    """The chain of what is left is whole: only the count that SQLite keeps tells."""
    await written(tmp_path, 30)
    tampered(tmp_path, f"DELETE FROM events WHERE position > {left}")
    with pytest.raises(LogDamaged, match="tail is missing") as damage:
        await verified(tmp_path)
    assert damage.value.position == left + 1


async def test_events_that_were_swapped_are_noticed(tmp_path: Path) -> None:
    await written(tmp_path, 30)
    tampered(
        tmp_path,
        "UPDATE events SET position = -1 WHERE position = 4",
        "UPDATE events SET position = 4 WHERE position = 5",
        "UPDATE events SET position = 5 WHERE position = -1",
    )
    with pytest.raises(LogDamaged) as damage:
        await verified(tmp_path)
    assert damage.value.position == 4


async def test_a_gap_in_a_stream_is_noticed_although_the_chain_was_made_to_fit(tmp_path: Path) -> None:
    """Whoever can compute SHA-256 can forge a chain without a key; the versions still tell."""
    await written(tmp_path, 10)
    async with opened(tmp_path) as store:
        await store.append([one("forged")])
    tampered(tmp_path, "UPDATE events SET version = 1 WHERE stream = 'forged'")
    async with open_reader(tmp_path, Limits()) as reader:
        assert await reader.version_gap(0, 11) == 11
        assert await reader.version_gap(0, 10) is None


async def test_what_lies_before_the_first_position_is_trusted(tmp_path: Path) -> None:
    await written(tmp_path, 30)
    tampered(tmp_path, "UPDATE events SET principal = 'x' WHERE position = 5")
    assert await verified(tmp_path, first=6) == 25
    with pytest.raises(LogDamaged):
        await verified(tmp_path, first=5)


async def test_a_log_that_grows_meanwhile_is_verified_up_to_where_it_was(tmp_path: Path) -> None:
    async with opened(tmp_path, Limits(read_rows_max=5)) as store:
        await store.append([one("a", n) for n in range(40)])
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                while True:
                    await store.append([one("a")])

            nursery.start_soon(write)
            verified = 0
            while verified < 5 or store.head.position == 40:  # a disk that is busy takes its time
                result = await verify(store)
                assert result.events == result.head.position >= 40
                verified += 1
            nursery.cancel_scope.cancel()
        assert store.head.position > 40


ID = "01970c4e-7f3a-7000-8000-9a3c5e7d1f20"
OTHER = "01970c4e-7f3a-7000-8000-9a3c5e7d1f21"
LOOKED_UP = {
    "stream": (f"stream = 'request-{ID}'", 3),
    "event_id": (f"event_id = '{OTHER}'", 4),
    "correlation_id": (f"correlation_id = '{ID}'", 3),
    "causation_id": (f"causation_id = '{ID}'", 3),
}


@pytest.mark.parametrize(("change", "position"), LOOKED_UP.values(), ids=LOOKED_UP.keys())
async def test_what_nobody_would_find_by_its_id_is_noticed(tmp_path: Path, change: str, position: int) -> None:
    """The hash covers the text of an id, in whichever form the table stores it; it is looked for in one form only."""
    async with opened(tmp_path) as store:
        await store.append([one("gateway", n) for n in range(2)])
        event = NewEvent(f"request-{ID}", CacheCleared(entries=1), ID, "local", ID, ID)
        await store.append(
            [Append((event,)), Append((new("odd-0123456789012345678901234567890123456", event_id=OTHER),))]
        )
    assert await verified(tmp_path) == 4
    tampered(tmp_path, f"UPDATE events SET {change} WHERE position = {position}")
    with pytest.raises(LogDamaged, match=f"Position {position}: .* would not be found by it") as damage:
        await verified(tmp_path)
    assert damage.value.position == position
