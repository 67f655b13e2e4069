"""Snapshots make a start short, and never change what it leads to."""

import gzip
import json
from pathlib import Path

import msgspec
import pytest

from llmux.actors.facts import EMPTY, Facts, plain
from llmux.actors.opening import open_journal, open_system
from llmux.actors.replaying import replay
from llmux.actors.snapshots import FOLDER, latest, take
from llmux.clock import SeededClock
from llmux.config import Settings
from llmux.events import EventSkipped, NewEvent, SnapshotTaken
from llmux.eventstore import Reader, open_reader
from llmux.failures import UnknownEvent
from tests.actors.house import house_settings, wish
from tests.eventstore.logs import tampered


async def used(settings: Settings, requests: int, seed: int) -> None:
    """One life of the gateway."""
    async with open_system(settings, SeededClock(seed), environ={}) as system:
        for number in range(requests):
            with system.request(wish(f"{seed} {number}")) as request:
                await request.answer()


def files(settings: Settings) -> list[Path]:
    return sorted((settings.data_dir / FOLDER).iterdir())


async def folded(reader: Reader, **how: object) -> Facts:
    return await replay(reader, **how)


async def test_a_clean_stop_leaves_a_snapshot_that_the_next_start_begins_from(tmp_path, virtual_time, monkeypatch):
    settings = house_settings(tmp_path)
    await used(settings, 5, seed=1)
    read = []
    lines = Reader.lines

    async def watched(self, **asked):
        page = await lines(self, **asked)
        read.extend(page)
        return page

    monkeypatch.setattr(Reader, "lines", watched)
    async with open_reader(settings.data_dir, settings.limits) as reader:
        facts = await replay(reader)
        assert [line.type for line in read] == ["SnapshotTaken", "GatewayStopped"]
        assert facts == await replay(reader, snapshots=False)
    assert facts.requests.completed == 5


async def test_snapshot_and_tail_give_what_the_whole_log_gives_at_every_position(tmp_path, virtual_time):
    settings = house_settings(tmp_path)
    for seed in range(3):
        await used(settings, 3, seed)
    async with open_reader(settings.data_dir, settings.limits) as reader:
        head = (await reader.head_on_disk()).position
        for position in range(head + 1):
            assert await replay(reader, until=position) == await replay(reader, until=position, snapshots=False)
    assert len(files(settings)) == 2


@pytest.mark.parametrize("damage", ["gone", "changed", "empty", "another"])
async def test_a_damaged_snapshot_is_left_aside(tmp_path, virtual_time, damage):
    settings = house_settings(tmp_path)
    await used(settings, 2, seed=1)
    (path,) = files(settings)
    if damage == "gone":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        stored = json.loads(gzip.decompress(path.read_bytes()))
        stored["requests"]["completed"] = 77
        path.write_bytes(gzip.compress(json.dumps(stored).encode()))
    async with open_reader(settings.data_dir, settings.limits) as reader:
        assert (await replay(reader)).requests.completed == 2
        assert await latest(reader) is None
    await used(settings, 1, seed=2)
    async with open_reader(settings.data_dir, settings.limits) as reader:
        assert (await replay(reader)).requests.completed == 3


async def test_a_snapshot_of_another_state_schema_is_folded_anew(tmp_path, virtual_time, monkeypatch):
    settings = house_settings(tmp_path)
    await used(settings, 2, seed=1)
    monkeypatch.setattr("llmux.actors.snapshots.SCHEMA", 99)
    async with open_reader(settings.data_dir, settings.limits) as reader:
        assert await latest(reader) is None
        assert (await replay(reader)).requests.completed == 2


async def test_a_snapshot_says_nothing_that_the_log_does_not_vouch_for(tmp_path, virtual_time):
    """A file that is whole, but that no event names, is not read."""
    settings = house_settings(tmp_path)
    async with open_journal(settings, SeededClock()) as journal:
        assert journal.facts == EMPTY
    fact = await take(EMPTY, settings.data_dir)
    assert isinstance(fact, SnapshotTaken)
    async with open_reader(settings.data_dir, settings.limits) as reader:
        assert await latest(reader) is None


async def test_an_unknown_event_stops_a_start_until_somebody_skips_it(tmp_path, virtual_time):
    settings = house_settings(tmp_path)
    await used(settings, 1, seed=1)
    for path in files(settings):
        path.unlink()
    tampered(settings.data_dir, "UPDATE events SET type = 'FromTheFuture' WHERE position = 2")
    with pytest.raises(UnknownEvent, match=r"Position 2 .*llmux events skip 2"):
        await used(settings, 0, seed=2)
    async with open_reader(settings.data_dir, settings.limits) as reader:
        head = (await reader.head_on_disk()).position
    async with open_journal(settings, SeededClock(5), skipping={2}) as journal:
        await journal.append(NewEvent("log-skips", EventSkipped(skipped=2, reason="a test"), SeededClock(5).new_id()))
        assert journal.facts.log.skipped == 1
    await used(settings, 1, seed=3)
    async with open_reader(settings.data_dir, settings.limits) as reader:
        facts = await replay(reader, snapshots=False)
        assert facts.position > head
        assert plain(facts) == plain(await replay(reader))


async def test_a_snapshot_outlives_those_of_a_log_that_was_replaced(tmp_path):
    """After a restore, files of later positions are of a log that is no more."""
    later = [await take(msgspec.structs.replace(EMPTY, position=position), tmp_path) for position in (50, 60)]
    fact = await take(msgspec.structs.replace(EMPTY, position=20), tmp_path)
    assert (tmp_path / fact.file).exists()
    assert not any((tmp_path / each.file).exists() for each in later)
    for position in (30, 40):
        await take(msgspec.structs.replace(EMPTY, position=position), tmp_path)
    assert [int(path.name[6:21]) for path in sorted((tmp_path / FOLDER).iterdir())] == [30, 40]


@pytest.mark.parametrize("stream", ["log-snapshots", "log-skips"])
async def test_an_unknown_event_in_the_logs_own_streams_can_be_skipped_too(tmp_path, virtual_time, stream):
    settings = house_settings(tmp_path)
    await used(settings, 1, seed=1)
    tampered(
        settings.data_dir,
        f"UPDATE events SET type = 'FromTheFuture', stream = '{stream}', version = 7 WHERE position = 2",
    )
    tampered(settings.data_dir, "UPDATE events SET type = 'SnapshotOfTheFuture' WHERE type = 'SnapshotTaken'")
    async with open_reader(settings.data_dir, settings.limits) as reader:
        (last,) = [event.position for event in await reader.read(limit=1000) if event.type == "SnapshotOfTheFuture"]
        with pytest.raises(UnknownEvent, match="Position 2"):
            await replay(reader)
        assert (await replay(reader, skipping={2, last})).requests.completed == 1
