"""Events that have moved into archives are read as before, and whoever has a file alone can check it."""

import hashlib
import json
import random
import stat
from pathlib import Path

import pytest
import trio

from llmux.config import Limits
from llmux.events import CacheCleared, KeyRevoked, NewEvent, RecordedEvent
from llmux.eventstore import ANY, NO_STREAM, Append, Appended, Store, archives, open_reader, seal, verify
from llmux.failures import ArchiveMissing, LogDamaged, StoreFailure, WrongExpectedVersion
from tests.eventstore.archived import archive, contents, files
from tests.eventstore.logs import CLOCK, foreign, new, one, opened, whole, written

SEED = 20261122


async def varied(store: Store, events: int) -> list[RecordedEvent]:
    """Appends events that differ in all that can be filtered, over some time, and returns the whole log."""
    chance = random.Random(SEED)
    for number in range(events):
        fact = KeyRevoked(key_id=f"k{number}") if chance.random() < 0.3 else CacheCleared(entries=number)
        id = CLOCK.new_id()
        stream = chance.choice(["cache", "key-1", "log-skips", f"request-{id}", 'odd "name" \\ ü'])
        principal, request = chance.choice(["local", "gateway"]), chance.choice(["", "01", id])
        CLOCK.shift(chance.randrange(-50, 1000))
        await store.append([Append((NewEvent(stream, fact, id, principal, request),))])
    return await whole(store)


async def test_whoever_has_a_file_alone_can_check_it(tmp_path: Path) -> None:
    """By what docs/log.md says of the format, with nothing of our code."""
    async with opened(tmp_path) as store:
        log = await varied(store, 60)
        await archive(store, 20)
        fact = await archive(store, 50, state=b'{"position":50,"what":"follows"}')
    path = tmp_path / fact.file
    first, *events, last = contents(path)
    assert (first["format"], first["format_version"], first["first"], first["through"]) == ("llmux-archive", 1, 21, 50)
    before = bytes.fromhex(first["prev_hash"])
    assert before == log[19].hash
    for number, event in enumerate(events, 21):
        data = json.dumps(event["data"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        names = ("stream", "type", "event_id", "principal", "correlation_id", "causation_id")
        parts = [event[name].encode() for name in names] + [data.encode(), before]
        numbers = [number, event["version"], event["schema"], event["recorded_at"], *map(len, parts)]
        message = b"llmux.event.1" + b"".join(each.to_bytes(8, "big") for each in numbers) + b"".join(parts)
        assert event["position"] == number
        assert bytes.fromhex(event["prev_hash"]) == before
        before = hashlib.sha256(message).digest()
        assert event["hash"] == before.hex()
    assert first["hash"] == before.hex() == fact.head == log[49].hash.hex()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == fact.sha256
    assert path.stat().st_size == fact.file_bytes
    state = json.dumps(last["state"], sort_keys=True, separators=(",", ":")).encode()
    assert hashlib.sha256(state).hexdigest() == fact.state_sha256
    assert last["state"] == {"position": 50, "what": "follows"}
    assert last["through"] == 50
    assert last["streams"]["cache"] == max(event.version for event in log[:50] if event.stream == "cache")


async def test_the_same_events_make_the_same_file_which_only_its_owner_can_read(tmp_path: Path) -> None:
    found = []
    async with opened(tmp_path) as store:
        await varied(store, 30)
        for _ in range(2):
            sealed = await seal(store, 25, b"{}", 1, ended=lambda stream: False)
            (path,) = files(tmp_path)
            found.append((sealed, path.read_bytes()))
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            path.unlink()
    assert found[0] == found[1]
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_every_question_has_the_same_answer_over_the_cuts(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    async with opened(tmp_path, Limits(read_rows_max=1000)) as store:
        log = await varied(store, 200)
        questions = []
        for _ in range(70):
            stream = chance.choice([None, None, "cache", log[chance.randrange(200)].stream])
            low = chance.choice([0, 0, chance.randrange(200)])
            questions.append(
                {
                    "limit": chance.choice([1, 3, 40, 500]),
                    "after": low,
                    "until": chance.choice([None, chance.randrange(low, 230), 100]),
                    "stream": stream,
                    "streams": chance.choice([(), ("cache", log[7].stream)]) if stream is None else (),
                    "types": chance.choice([(), ("KeyRevoked",), ("CacheCleared", "KeyRevoked")]),
                    "principal": chance.choice([None, "local"]),
                    "correlation_id": chance.choice([None, None, "01", log[3].correlation_id]),
                    "recorded_from": chance.choice([None, log[chance.randrange(200)].recorded_at]),
                    "recorded_to": chance.choice([None, log[chance.randrange(200)].recorded_at]),
                    "newest_first": chance.random() < 0.4,
                }
            )
        answers = [await store.read(**{**each, "until": min(each["until"] or 200, 200)}) for each in questions]
        lines = await store.lines(limit=1000)
        for cut in (1, 60, 61, 130):
            await archive(store, cut)
            for question, answer in zip(questions, answers, strict=True):
                asked = {**question, "until": min(question["until"] or 200, 200)}
                assert await store.read(**asked) == answer, f"{asked} after a cut at {cut}"
        found, after = [], 0
        while page := await store.lines(limit=33, after=after, until=200):
            found += page
            after = page[-1].position
        assert [(line.position, line.fact, line.stream, line.correlation_id) for line in found] == [
            (line.position, line.fact, line.stream, line.correlation_id) for line in lines
        ]
        assert sum(bool(answer) for answer in answers) > 20


async def test_pages_that_follow_each_other_open_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as store:
        await varied(store, 120)
        await archive(store, 50)
        await archive(store, 100)
        places = []
        begin = archives.Place._begin
        monkeypatch.setattr(archives.Place, "_begin", lambda place: places.append(place) or begin(place))
        after = 0
        while page := await store.read(after=after, limit=7):
            after = page[-1].position
        assert after == store.head.position
        assert len(places) == 2
        assert store.archives._places == {}
        await store.read(limit=10)
        assert len(store.archives._places) == 1
    assert store.archives._places == {}


async def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await varied(store, 60)
        for cut in (20, 40, 50):
            await archive(store, cut)
        files(tmp_path)[1].unlink()
        sentence = (
            r"The positions 21 to 40 are in archives/events-000000000021-000000000040.jsonl.gz, which is not there. "
            r"Put it back, or begin after 40."
        )
        for question in ({"limit": 30}, {"limit": 100, "newest_first": True}, {"limit": 1, "after": 25}):
            with pytest.raises(ArchiveMissing, match=sentence):
                await store.read(**question)
        with pytest.raises(ArchiveMissing, match=sentence):
            await store.lines(after=20, limit=5)
        assert len(await store.read(limit=20)) == 20
        assert (await store.read(after=40, limit=1))[0].position == 41
        assert (await store.read(after=0, limit=9, archived=False))[0].position == 51


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text", "another"])
async def test_a_damaged_file_is_noticed_by_whoever_reads_it_to_its_end(tmp_path: Path, damage: str) -> None:
    async with opened(tmp_path) as store:
        log = await varied(store, 80)
        await archive(store, 40)
        await archive(store, 60)
        assert await store.read(limit=60) == log[:60]
        path, other = files(tmp_path)
        content = path.read_bytes()
        path.write_bytes(
            {
                "cut": content[: len(content) // 2],
                "flipped": content[:2000] + bytes([content[2000] ^ 64]) + content[2001:],
                "empty": b"",
                "text": b"no archive at all\n",
                "another": other.read_bytes(),
            }[damage]
        )
        after = 0
        with pytest.raises(LogDamaged, match=r"archive .*events-000000000001-000000000040"):
            while after < 60:
                after = (await store.read(after=after, limit=7))[-1].position
        with pytest.raises(LogDamaged):
            await store.lines(limit=60)
        assert await store.read(after=60, limit=20) == log[60:]


async def test_streams_that_go_on_keep_their_versions_and_ended_ones_are_forgotten(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for n in range(4):
            await store.append([one("key-1", n), one(f"request-{n}", n)])
        await archive(store, 8, ended=lambda stream: stream.startswith("request-"))
        assert await store.version("key-1") == 3
        assert await store.version("request-1") == NO_STREAM
        (refused,) = await store.append([one("key-1", 9, expected=NO_STREAM)])
        assert isinstance(refused, WrongExpectedVersion)
        assert refused.actual == 3
        (good,) = await store.append([one("key-1", 10, expected=3)])
        assert isinstance(good, Appended)
        await archive(store, 9)  # LogArchived: nothing of key-1 in it
        (last,) = await store.append([one("key-1", 11, expected=ANY)])
        assert last.events[0].version == 5
        assert (await store.origin()).streams == {"key-1": 3, "log-archives": 0}
        assert (await verify(store)).head == store.head
    async with opened(tmp_path) as store:
        (last,) = await store.append([one("key-1", 12)])
        assert last.events[0].version == 6


async def test_a_repetition_is_told_by_its_id_up_to_the_cut_and_no_further(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        append = Append((new("cache", 1),))
        await store.append([append, one("cache", 2)])
        assert (await store.append([append]))[0].repeated
        await archive(store, 2)
        (again,) = await store.append([append])
        assert not again.repeated
        assert again.events[0].position == 4


async def test_a_move_that_comes_again_is_made_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.append([one("cache", n) for n in range(10)])
        sealed = await seal(store, 6, b"{}", 1, ended=lambda stream: False)
        event = NewEvent("log-archives", sealed.fact, CLOCK.new_id())
        first, second = await store.move(sealed, event), await store.move(sealed, event)
        assert second == Appended(first.events, repeated=True)
        assert store.head.position == 11


async def test_what_changed_after_it_was_sealed_is_not_moved(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.append([one("cache", n) for n in range(10)])
        sealed = await seal(store, 6, b"{}", 1, ended=lambda stream: False)
        await archive(store, 4)
        outcome = await store.move(sealed, NewEvent("log-archives", sealed.fact, CLOCK.new_id()))
        assert isinstance(outcome, LogDamaged)
        assert (await store.origin()).head.position == 4
        assert (await verify(store)).events == 7
        assert isinstance((await store.append([one("cache", 99)]))[0], Appended)


async def test_nobody_can_remove_an_event_after_a_move_either(tmp_path: Path) -> None:
    await written(tmp_path, 20)
    async with opened(tmp_path) as store:
        await archive(store, 10)
    connection = foreign(tmp_path)
    with pytest.raises(Exception, match="an event is never removed"):
        connection.execute("DELETE FROM events WHERE position = 15")
    connection.close()


async def test_the_room_goes_back_to_the_file_system(tmp_path: Path) -> None:
    await written(tmp_path, 3000, batch=500)
    async with opened(tmp_path) as store:
        before = store.statistics()
        await archive(store, 2900)
        lefts = []
        while left := await store.give_back(20):
            lefts.append(left)
        after = store.statistics()
        assert len(lefts) > 3
        assert lefts == sorted(lefts, reverse=True)
        assert after.wal_bytes == 0
        assert after.database_bytes < before.database_bytes / 6
        assert len(await store.read(limit=1000, after=2500)) == 501


async def test_who_reads_while_events_move_sees_each_of_them_once(tmp_path: Path) -> None:
    """A reader beside, page by page, while the archiver works: also one whose transaction is open all the time."""
    await written(tmp_path, 900, batch=300)
    watching = foreign(tmp_path)
    watching.execute("BEGIN")
    assert watching.execute("SELECT count(*) FROM events").fetchone() == (900,)
    async with opened(tmp_path) as store, open_reader(tmp_path, Limits()) as reader:
        found: list[int] = []

        async def read_all(step: int) -> None:
            seen: list[int] = []
            while len(seen) < 900:
                page = await reader.read(after=len(seen), limit=step)
                seen += [event.position for event in page]
            found.append(len(seen))
            assert seen[:900] == list(range(1, 901))

        async with trio.open_nursery() as nursery:
            for step in (7, 50, 90):
                nursery.start_soon(read_all, step)
            for cut in range(100, 900, 100):
                await archive(store, cut)
                while await store.give_back(50):
                    await trio.lowlevel.checkpoint()
        assert len(found) == 3
        assert watching.execute("SELECT count(*) FROM events").fetchone() == (900,)
        watching.execute("COMMIT")
        assert watching.execute("SELECT min(position) FROM events").fetchone() == (801,)
    watching.close()


async def test_what_cannot_be_written_is_a_sentence_and_moves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.append([one("cache", n) for n in range(10)])
        (tmp_path / "archives").write_text("in the way")
        with pytest.raises(StoreFailure, match=r"cannot be (written|read)"):
            await archive(store, 5)
        assert (await store.origin()).head.position == 0
