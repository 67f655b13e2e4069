"""The archives are checked like the log itself, and what an interrupted archiving leaves behind is cleared away."""

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmux.config import Limits
from llmux.events import NewEvent
from llmux.eventstore import (
    NO_KEYS,
    Appended,
    Archive,
    Auditor,
    Ending,
    Keys,
    Verified,
    open_reader,
    open_store,
    seal,
    tidy,
    walk_archives,
)
from llmux.eventstore import verify as verify_log
from llmux.failures import ArchiveMissing, LogDamaged
from llmux.migrations import upgrade
from tests.eventstore.archived import archive, files, rewritten
from tests.eventstore.logs import CLOCK, one, opened, tampered, written


async def three_archives(directory: Path) -> None:
    """A log of 60 events and 3 archives."""
    await written(directory, 60)
    async with opened(directory) as store:
        for cut in (20, 40, 55):
            await archive(store, cut)


async def checked(directory: Path, *, first: int = 1, auditor: Auditor | None = None, keys: Keys = NO_KEYS) -> Verified:
    async with open_reader(directory, Limits()) as reader:
        walk, _ = await walk_archives(reader, auditor or Auditor(), first=first, keys=keys)
        return await verify_log(reader, walk=walk, keys=keys)


class Told(Auditor):
    def __init__(self) -> None:
        self.heard: list[object] = []

    def begin(self, through: int, ending: Ending) -> None:
        self.heard.append(("begin", through, bytes(ending.state)))

    def take(self, lines) -> None:
        self.heard += [line.position for line in lines]

    def end(self, archive: Archive, ending: Ending) -> None:
        self.heard.append(("end", archive.through, bytes(ending.state)))


async def test_a_log_with_archives_is_checked_from_its_first_event_to_its_last(tmp_path: Path) -> None:
    await three_archives(tmp_path)
    told = Told()
    verified = await checked(tmp_path, auditor=told)
    assert (verified.events, verified.head.position) == (63, 63)
    ends = [("end", cut, b'{"position":%d}' % cut) for cut in (20, 40, 55)]
    assert told.heard == [*range(1, 21), ends[0], *range(21, 41), ends[1], *range(41, 56), ends[2]]
    async with open_reader(tmp_path, Limits()) as reader:
        assert (await verify_log(reader)).events == 8


async def test_checking_can_begin_with_the_archive_that_holds_a_position(tmp_path: Path) -> None:
    await three_archives(tmp_path)
    told = Told()
    assert (await checked(tmp_path, first=30, auditor=told)).events == 43
    assert told.heard[:2] == [("begin", 20, b'{"position":20}'), 21]
    async with open_reader(tmp_path, Limits()) as reader:
        with pytest.raises(ValueError, match=r"up to 55 are in archives; to check them, add --archives"):
            await verify_log(reader, first=30)


async def test_archives_go_on_under_a_chain_key(tmp_path: Path) -> None:
    await written(tmp_path, 30)
    keys = Keys(["a key that is long enough"])
    upgrade(tmp_path / "events.db")
    async with open_store(tmp_path, clock=CLOCK, limits=Limits(), keys=keys, rekeying=True) as store:
        await store.append([one("cache", n) for n in range(20)])
        for cut in (35, 45):
            sealed = await seal(store, cut, b"{}", 1, ended=lambda stream: False, keys=keys)
            assert isinstance(await store.move(sealed, NewEvent("log-archives", sealed.fact, CLOCK.new_id())), Appended)
    assert (await checked(tmp_path, keys=keys)).key == keys.name
    with pytest.raises(LogDamaged, match="Position 31: the content does not match its hash"):
        await checked(tmp_path)


def line_changed(number: int, **fields: object) -> Callable[[list[bytes]], list[bytes]]:
    def change(lines: list[bytes]) -> list[bytes]:
        line = {**json.loads(lines[number]), **fields}
        return [*lines[:number], json.dumps(line).encode() + b"\n", *lines[number + 1 :]]

    return change


def rehashed(lines: list[bytes]) -> list[bytes]:
    """Another fact in the last event, with a hash that fits."""
    first, event = json.loads(lines[0]), json.loads(lines[-2])
    event["data"] = {"entries": 4711}
    names = ("stream", "type", "event_id", "principal", "correlation_id", "causation_id")
    parts = [event[name].encode() for name in names] + [b'{"entries":4711}', bytes.fromhex(event["prev_hash"])]
    numbers = [event["position"], event["version"], event["schema"], event["recorded_at"], *map(len, parts)]
    message = b"llmux.event.1" + b"".join(each.to_bytes(8, "big") for each in numbers) + b"".join(parts)
    first["hash"] = event["hash"] = hashlib.sha256(message).hexdigest()
    return [json.dumps(first).encode() + b"\n", *lines[1:-2], json.dumps(event).encode() + b"\n", lines[-1]]


@pytest.mark.parametrize(
    "change",
    [
        line_changed(7, data={"entries": 99999}),
        line_changed(7, principal="somebody"),
        line_changed(7, version=8),
        line_changed(7, position=8),
        line_changed(0, through=19),
        line_changed(0, prev_hash="00" * 32),
        line_changed(0, hash="00" * 32),
        line_changed(-1, state={"position": 20, "more": 1}),
        line_changed(-1, streams={}),
        line_changed(-1, streams={"stream-0": 9}),
        line_changed(-1, through=21),
        rehashed,
        lambda lines: [*lines[:5], *lines[6:]],
        lambda lines: [*lines, b"more\n"],
        lambda lines: lines[:-1],
        lambda lines: [line.replace(b'"stream"', b' "stream"') for line in lines],
        lambda lines: [b"no JSON\n", *lines[1:]],
    ],
)
async def test_whatever_is_changed_in_an_archive_is_noticed(tmp_path: Path, change) -> None:
    await three_archives(tmp_path)
    rewritten(files(tmp_path)[0], change)
    with pytest.raises(LogDamaged) as damage:
        await checked(tmp_path)
    assert damage.value.position is not None
    assert 1 <= damage.value.position <= 21


async def test_a_file_that_was_packed_anew_is_not_the_one_that_the_log_says(tmp_path: Path) -> None:
    await three_archives(tmp_path)
    path = files(tmp_path)[1]
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))
    with pytest.raises(LogDamaged, match="is not the file that the log says"):
        await checked(tmp_path)


async def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    await three_archives(tmp_path)
    files(tmp_path)[1].unlink()
    with pytest.raises(ArchiveMissing, match=r"positions 21 to 40 are in .*-000000000040.jsonl.gz, which is not there"):
        await checked(tmp_path)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE origin SET hash = zeroblob(32)", "hash that the log goes on from"),
        ("UPDATE origin SET state = x'789c030000000001'", "state that the log goes on from"),
        ("UPDATE origin SET position = 54", "position 5[56]|goes on from"),
        ("DELETE FROM origin", "Position 1 is missing"),
        ("""UPDATE origin SET streams = '{"stream-0":3}'""", "version"),
        ("DELETE FROM events WHERE type = 'LogArchived' AND position = 63", "tail is missing|does not say"),
    ],
)
async def test_what_the_log_goes_on_from_is_what_it_says_itself(tmp_path: Path, statement: str, said: str) -> None:
    await three_archives(tmp_path)
    tampered(tmp_path, statement)
    async with open_reader(tmp_path, Limits()) as reader:
        with pytest.raises(LogDamaged, match=said):
            await verify_log(reader)


async def test_leftovers_are_cleared_away_and_what_is_not_ours_is_set_aside(tmp_path: Path) -> None:
    await written(tmp_path, 60)
    folder = tmp_path / "archives"
    async with opened(tmp_path) as store:
        await archive(store, 20)
        await seal(store, 50, b"{}", 1, ended=lambda stream: False)  # and then it stopped
        (folder / "events-000000000021-000000000060.jsonl.gz.part").write_bytes(b"half")
    other = tmp_path / "other"
    other.mkdir()
    await written(other, 40)
    async with opened(other) as store:
        await archive(store, 30)
    foreign = "events-000000000001-000000000030.jsonl.gz"
    (folder / foreign).write_bytes((other / "archives" / foreign).read_bytes())
    broken = "events-000000000021-000000000070.jsonl.gz"
    (folder / broken).write_bytes(b"not even gzip")
    async with opened(tmp_path) as store:
        for names in ([f"{foreign}.aside", f"{broken}.aside"], []):
            assert await tidy(store) == names
            assert sorted(path.name for path in folder.iterdir()) == [
                "events-000000000001-000000000020.jsonl.gz",
                f"{foreign}.aside",
                f"{broken}.aside",
            ]
        await archive(store, 50)
    await checked(tmp_path)
