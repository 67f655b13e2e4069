"""Damaged files: a flipped bit or a torn write-ahead log is noticed, or harmless; never a changed event."""

import os
import random
import shutil
from pathlib import Path

import pytest

from llmux.config import Limits
from llmux.events import RecordedEvent
from llmux.eventstore import open_reader, verify
from llmux.failures import LogDamaged, StoreFailure
from tests.eventstore.logs import foreign, one, opened, tampered, written

FLIPS = int(os.environ.get("LLMUX_TEST_FLIPS", "200"))
CUTS = int(os.environ.get("LLMUX_TEST_CUTS", "200"))
SEED = int(os.environ.get("LLMUX_TEST_SEED", "20261122"))


async def events_of(directory: Path) -> list[RecordedEvent]:
    """The events of a log that verifies. Raises StoreFailure."""
    async with open_reader(directory, Limits()) as reader:
        await verify(reader)
        return await reader.read(limit=1000)


async def test_a_flipped_bit_is_noticed_or_harmless(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    original = tmp_path / "original"
    original.mkdir()
    await written(original, 200)
    truth = await events_of(original)
    content = (original / "events.db").read_bytes()
    assert not (original / "events.db-wal").exists() or not (original / "events.db-wal").stat().st_size
    noticed = 0
    for flip in range(FLIPS):
        place = chance.randrange(len(content) * 8)
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        directory = tmp_path / f"flip-{flip}"
        directory.mkdir()
        (directory / "events.db").write_bytes(damaged)
        try:
            found = await events_of(directory)
        except StoreFailure:
            noticed += 1
        else:
            assert found == truth, f"bit {place} of seed {SEED} changed an event unnoticed"
        shutil.rmtree(directory)
    print(f"seed {SEED}: {noticed} of {FLIPS} flips noticed, the others harmless")
    assert noticed > FLIPS // 4


async def test_a_torn_write_ahead_log_loses_a_suffix_only(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    original = tmp_path / "original"
    original.mkdir()
    async with opened(original) as store:
        for n in range(60):
            await store.append([one(f"stream-{n % 5}", n), one("both", n)])
        truth = await store.read(limit=1000)
        database, wal = ((original / f"events.db{end}").read_bytes() for end in ("", "-wal"))
    lengths = set()
    for cut in range(CUTS):
        end = chance.randrange(len(wal) + 1)
        torn = wal[:end]
        if cut % 2:
            garbage = min(512, len(torn))
            torn = torn[: len(torn) - garbage] + chance.randbytes(garbage)
        directory = tmp_path / f"cut-{cut}"
        directory.mkdir()
        (directory / "events.db").write_bytes(database)
        (directory / "events.db-wal").write_bytes(torn)
        async with opened(directory) as store:
            await verify(store)
            found = await store.read(limit=1000)
            assert found == truth[: len(found)], f"cut {cut} of seed {SEED}"
            assert len(found) % 2 == 0, "half a transaction is left"
            await store.append([one("goes on")])
        lengths.add(len(found))
        shutil.rmtree(directory)
    assert len(lengths) > 10


async def test_a_tail_that_somebody_cuts_off_is_noticed(tmp_path: Path) -> None:
    """The chain of what is left is whole; but SQLite counts, and so does whoever keeps the head elsewhere."""
    chance = random.Random(SEED)
    for cut in range(max(10, CUTS // 20)):
        directory, events = tmp_path / f"tail-{cut}", chance.randint(1, 60)
        directory.mkdir()
        await written(directory, events)
        left = chance.randrange(events)
        tampered(directory, f"DELETE FROM events WHERE position > {left}")
        async with open_reader(directory, Limits()) as reader:
            with pytest.raises(LogDamaged) as damage:
                await verify(reader)
        assert damage.value.position == left + 1, f"cut {cut} of seed {SEED}: {left} of {events} left"


async def test_the_files_that_are_damaged_here_are_those_of_the_log(tmp_path: Path) -> None:
    await written(tmp_path, 3)
    connection = foreign(tmp_path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
