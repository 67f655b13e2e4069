"""Archiving by the gateway: nothing is lost, nothing else changes, and appends go on meanwhile."""

import itertools
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from llmux import events
from llmux.actors import archiver, history, replaying
from llmux.actors import facts as fold
from llmux.actors.archiver import Archived, ArchiveLog
from llmux.actors.audit import audit
from llmux.actors.facts import plain
from llmux.actors.moments import iso
from llmux.actors.opening import open_journal, open_system
from llmux.actors.replaying import replay
from llmux.actors.system import System
from llmux.clock import SeededClock
from llmux.config import Settings
from llmux.events import CacheCleared, Event, EventSkipped, LogArchived, NewEvent, RequestAccepted, SnapshotTaken
from llmux.eventstore import Append, Keys, open_reader
from llmux.failures import ArchiveMissing, ClientFailure, LogDamaged, StoreFailure, UnknownEvent
from tests.actors.house import facts_of, house_settings, scripted, wish
from tests.eventstore.archived import files, rewritten
from tests.eventstore.logs import tampered

DAY_MS = 86_400_000


@asynccontextmanager
async def aged(settings: Settings, requests: int = 6, days: int = 40) -> AsyncGenerator[System, None]:
    """A gateway that had some requests in an earlier life, and opens its log so many days later."""
    clock = SeededClock(1)
    async with open_system(settings, clock, environ={}) as system:
        for number in range(requests):
            with system.request(wish(f"old {number}")) as request:
                await request.answer()
    clock.shift(days * DAY_MS)
    async with open_system(settings, clock, environ={}) as system:
        yield system


async def archived(system: System, before: str = "30d") -> Archived:
    return await system.archiver.ask(ArchiveLog(before))


async def audited(settings: Settings) -> int:
    """How many archives there are; everything is whole."""
    async with open_reader(settings.data_dir, settings.limits) as reader:
        done = await audit(reader, keys=Keys(settings.chain_keys))
        assert done.verified.events == done.verified.head.position
        return done.archives


async def test_archiving_changes_no_state_at_any_moment(tmp_path, virtual_time, monkeypatch):
    monkeypatch.setattr(archiver, "EVENTS_MAX", 9)
    settings = house_settings(tmp_path, chain_keys=("a chain key for this test",))
    async with aged(settings) as system:
        head = system.facts.position
        store = system.journal.store
        before = [plain(await replay(store, until=position)) for position in range(head + 1)]
        done = await archived(system)
        assert done.first == 1
        assert done.through == head - 1  # all but the second GatewayStarted
        assert done.events == done.through
        assert len(done.files) == -(-done.through // 9)
        assert system.facts.log.archives == len(done.files)
        assert system.facts.log.archived_through == done.through
        assert system.facts.usage == (await replay(store, snapshots=False)).usage
        assert [plain(await replay(store, until=position)) for position in range(head + 1)] == before
        assert await audited(settings) == len(done.files)
    async with open_system(settings, SeededClock(3), environ={}) as system:
        assert system.facts.requests.completed == 6
        assert plain(system.facts) == plain(await replay(system.journal.store, snapshots=False))


async def test_everybody_appends_while_the_log_is_archived(tmp_path, virtual_time, monkeypatch):
    """64 at once, again and again, until the archiving is done: every append succeeds, and stands in the log once."""
    monkeypatch.setattr(archiver, "EVENTS_MAX", 10)
    monkeypatch.setattr(archiver, "PAGES", 1)
    settings = house_settings(tmp_path)
    async with aged(settings, requests=12) as system:
        recorded: list[str] = []
        done: list[Archived] = []

        async def append() -> None:
            while not done:
                (event,) = await system.journal.append(
                    NewEvent("cache", CacheCleared(entries=1), system.clock.new_id())
                )
                recorded.append(event.event_id)

        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(append)
            done.append(await archived(system))
        assert len(done[0].files) > 5
        cleared = [event.event_id for event in await _all(system) if event.type == "CacheCleared"]
        assert sorted(recorded) == sorted(cleared)
        assert len(recorded) >= 64
        assert plain(system.facts) == plain(await replay(system.journal.store, snapshots=False))
    assert await audited(settings) == len(done[0].files)


async def _all(system: System):
    found = []
    while page := await system.journal.store.read(after=len(found), limit=1000):
        found += page
    return found


async def test_a_request_that_is_open_at_the_cut_ends_as_if_nothing_were(tmp_path, virtual_time):
    settings = house_settings(tmp_path, {"alpha": scripted("delay=2000,say=hello")}, request_timeout_ms=10 * DAY_MS)
    clock = SeededClock(1)
    async with open_system(settings, clock, environ={}) as system:
        request = system.request(wish("long"))
        await trio.sleep(1)
        assert system.facts.requests.open
        clock.shift(40 * DAY_MS)
        done = await archived(system)
        assert done.events == system.facts.position - 1
        origin = await system.journal.store.origin()
        assert origin.streams == {"gateway": 0, f"request-{request.id}": 0, f"flight-{request.id}": 0}
        await request.answer()
        request.leave()
        assert system.facts.requests.completed == 1
        story = await system.history.story(request.id)
        assert story.state == "completed"
    assert await audited(settings) == 1


async def test_the_last_hour_stays_in_the_database(tmp_path, virtual_time):
    async with aged(house_settings(tmp_path)) as system:
        old = system.facts.position - 1
        for before, why in (
            ("0d", "within the last hour, or in the future"),
            ("2099-01-01", "within the last hour, or in the future"),
            (str(system.facts.position + 1), f"position {system.facts.position} was recorded within the last hour"),
        ):
            with pytest.raises(ClientFailure, match=f"{why}, .* up to {old}\\."):
                await archived(system, before)
        with pytest.raises(ClientFailure, match="the log ends at position"):
            await archived(system, "5000")
        for nonsense in ("", "soon", "30x", "-1", "30d; rm"):
            with pytest.raises(ClientFailure, match=r"is no age such as 30d, no time such as .*, and no position"):
                await archived(system, nonsense)
        assert (await archived(system, "1")).events == 0
        assert (await archived(system, "41d")).files == ()
        assert not files(system.settings.data_dir)
        done = await archived(system, "5")
        assert (done.first, done.through, done.files) == (1, 4, ("archives/events-000000000001-000000000004.jsonl.gz",))
        assert (await archived(system, "1h")).first == 5


async def test_a_time_says_where_to_cut(tmp_path, virtual_time):
    settings = house_settings(tmp_path)
    clock = SeededClock(1)
    async with open_system(settings, clock, environ={}) as system:
        for _ in range(5):
            clock.shift(DAY_MS)
            (last,) = await system.journal.append(NewEvent("cache", CacheCleared(entries=1), clock.new_id()))
        clock.shift(DAY_MS)
        cut = last.recorded_at - 3 * DAY_MS
        assert (await archived(system, iso(cut))).through == last.position - 4
        assert (await archived(system, iso(cut + 1))).through == last.position - 3
        assert (await archived(system, "60h")).through == last.position - 2


async def test_without_a_gateway_the_log_is_archived_just_so(tmp_path, virtual_time):
    settings = house_settings(tmp_path)
    async with aged(settings):
        pass
    clock = SeededClock(9)
    clock.shift(80 * DAY_MS)
    told: list[LogArchived] = []
    async with open_journal(settings, clock) as journal:
        done = await archiver.archive(journal, settings, clock, ArchiveLog("30d", principal="owner"), told.append)
        assert [fact.file for fact in told] == list(done.files)
        (event,) = await journal.store.read(limit=1, after=journal.facts.position - 1)
        assert (event.type, event.principal, event.stream) == ("LogArchived", "owner", "log-archives")
    assert await audited(settings) == 1


async def test_day_by_day_what_is_old_enough_is_archived(tmp_path, virtual_time):
    settings = house_settings(tmp_path, archive_after_days=30)
    clock = SeededClock(1)
    async with open_system(settings, clock, environ={}) as system:
        (job,) = [job for job in system.upkeep.jobs if job.name == "archive"]
        for _ in range(45 * 4):
            await system.journal.append(NewEvent("cache", CacheCleared(entries=1), clock.new_id()))
            clock.shift(DAY_MS // 4)
            await job.do()
        facts = await facts_of(system, LogArchived)
        assert 10 <= len(facts) <= 14
        assert all(3 <= fact.through - fact.first <= 9 for fact in facts)
        assert all(event.principal == "gateway" for event in await _all(system) if event.type == "LogArchived")
        (oldest,) = await system.journal.store.read(limit=1, archived=False)
        assert 29.7 <= (clock.now() - oldest.recorded_at) / DAY_MS <= 31.3
    assert await audited(settings) == len(facts)


async def test_without_the_setting_nothing_is_archived(tmp_path, virtual_time):
    async with aged(house_settings(tmp_path)) as system:
        assert "archive" not in [job.name for job in system.upkeep.jobs]


class FromTheFuture(Event, frozen=True):
    """What a newer LLMux would record."""


async def test_a_skipped_event_stays_skipped_in_its_archive(tmp_path, virtual_time, monkeypatch):
    settings = house_settings(tmp_path)
    clock = SeededClock(1)
    async with open_journal(settings, clock) as journal:
        await journal.append(NewEvent("cache", CacheCleared(entries=1), clock.new_id()))
        with monkeypatch.context() as newer:
            newer.setitem(events.catalogue._NAMES, FromTheFuture, "FromTheFuture")
            await journal.store.append([Append((NewEvent("future", FromTheFuture(), clock.new_id()),))])
    with pytest.raises(UnknownEvent):
        async with open_journal(settings, clock):
            pass
    async with open_journal(settings, clock, skipping={2}) as journal:
        await journal.append(NewEvent("log-skips", EventSkipped(skipped=2, reason="a test"), clock.new_id()))
    clock.shift(40 * DAY_MS)
    async with open_system(settings, clock, environ={}) as system:
        assert (await archived(system)).through == 3
        assert [(await replay(system.journal.store, until=end)).log.skipped for end in range(5)] == [0, 0, 0, 1, 1]
        assert system.facts.log.skipped == 1
    assert await audited(settings) == 1


async def test_a_state_that_was_sealed_wrongly_is_noticed(tmp_path, virtual_time, monkeypatch):
    settings = house_settings(tmp_path)

    def embellished(facts):
        return encoded(facts).replace(b'"completed":6', b'"completed":7')

    encoded = archiver.encoded
    monkeypatch.setattr(archiver, "encoded", embellished)
    async with aged(settings) as system:
        await archived(system)
    with pytest.raises(LogDamaged, match="is not what the events lead to"):
        await audited(settings)


async def test_a_state_of_an_older_version_is_folded_anew_from_the_archives(tmp_path, virtual_time, monkeypatch):
    settings = house_settings(tmp_path)
    async with aged(settings) as system:
        await archived(system)
    monkeypatch.setattr("llmux.actors.replaying.SCHEMA", 99)
    monkeypatch.setattr("llmux.actors.snapshots.SCHEMA", 99)
    async with open_reader(settings.data_dir, settings.limits) as reader:
        assert (await replay(reader)).requests.completed == 6
        files(settings.data_dir)[0].unlink()
        with pytest.raises(ArchiveMissing, match="which is not there"):
            await replay(reader)
    monkeypatch.setattr("llmux.actors.replaying.SCHEMA", 0)
    async with open_reader(settings.data_dir, settings.limits) as reader:
        with pytest.raises(LogDamaged, match="written by a newer LLMux"):
            await replay(reader, snapshots=False)


async def test_a_damaged_log_is_not_archived(tmp_path, virtual_time):
    settings = house_settings(tmp_path)
    async with aged(settings):
        pass
    tampered(settings.data_dir, "UPDATE events SET principal = 'somebody' WHERE position = 7")
    clock = SeededClock(9)
    clock.shift(80 * DAY_MS)
    async with open_system(settings, clock, environ={}) as system:
        with pytest.raises(LogDamaged, match="Position 7: the content does not match its hash"):
            await archived(system)
        assert not list((settings.data_dir / "archives").iterdir())
        assert system.facts.log.archives == 0


async def test_a_disk_that_is_full_moves_nothing_and_the_next_time_it_works(tmp_path, virtual_time, monkeypatch):
    settings = house_settings(tmp_path)
    async with aged(settings) as system:
        with monkeypatch.context() as broken:

            def full(part):
                raise OSError(28, "No space left on device")

            broken.setattr("llmux.eventstore.sealing._Part.finish", full)
            with pytest.raises(
                StoreFailure, match=r"cannot be written: No space left on device\. Nothing was moved"
            ) as why:
                await archived(system)
        assert why.value.status == 507
        assert not list((settings.data_dir / "archives").iterdir())
        assert (await archived(system)).events


async def test_an_archive_that_was_changed_is_noticed_with_its_position(tmp_path, virtual_time):
    settings = house_settings(tmp_path)
    async with aged(settings) as system:
        await archived(system)
    rewritten(files(settings.data_dir)[0], lambda lines: [line.replace(b'"local"', b'"other"') for line in lines])
    with pytest.raises(LogDamaged, match="Position 2: the content does not match its hash"):
        await audited(settings)


async def test_a_snapshot_is_taken_every_so_many_events(tmp_path, virtual_time):
    settings = house_settings(tmp_path)
    limits = type(settings.limits)(snapshot_events=20)
    clock = SeededClock(1)
    async with open_system(house_settings(tmp_path, limits=limits), clock, environ={}) as system:
        for _ in range(70):
            await system.journal.append(NewEvent("cache", CacheCleared(entries=1), clock.new_id()))
            await trio.sleep(0.5)
        taken = await facts_of(system, SnapshotTaken)
        assert 2 <= len(taken) <= 4
        assert system.facts.log.snapshot_through == taken[-1].through
        assert plain(system.facts) == plain(await replay(system.journal.store, snapshots=False))
        through = [fact.through for fact in taken]
        assert all(later - earlier >= 20 for earlier, later in itertools.pairwise(through))


async def test_what_a_request_was_charged_outlives_its_events(tmp_path, virtual_time):
    settings = house_settings(tmp_path)
    async with aged(settings) as system:
        usage = plain(system.facts)["usage"]
        await archived(system)
        for path in files(settings.data_dir):
            path.unlink()
    clock = SeededClock(5)
    clock.shift(90 * DAY_MS)
    async with open_system(settings, clock, environ={}) as system:
        assert plain(system.facts)["usage"] == usage
        assert not await system.journal.store.read(limit=1, archived=False, types=[RequestAccepted.__name__])


@asynccontextmanager
async def with_a_clock_once_ahead(
    settings: Settings, first: bool = False
) -> AsyncGenerator[tuple[System, SeededClock]]:
    """A gateway whose clock was ahead by 400 days for the time of one event, the first one of the log or a later one."""
    clock = SeededClock(1)
    clock.shift(400 * DAY_MS if first else 0)
    async with open_system(settings, clock, environ={}) as system:
        for number in range(6):
            clock.shift(-400 * DAY_MS if first and not number else 400 * DAY_MS if number == 2 and not first else 0)
            await system.journal.append(NewEvent("cache", CacheCleared(entries=number), clock.new_id()))
            clock.shift(-400 * DAY_MS if number == 2 and not first else 0)
        clock.shift(40 * DAY_MS)
        await system.journal.append(NewEvent("cache", CacheCleared(entries=99), clock.new_id()))
        yield system, clock


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("before", ["30d", "8"])
async def test_an_event_with_a_time_in_the_future_stops_no_archiving(tmp_path, virtual_time, first, before):
    async with with_a_clock_once_ahead(house_settings(tmp_path), first) as (system, clock):
        times = [event.recorded_at for event in await _all(system)]
        assert max(times) > clock.now() + 300 * DAY_MS
        done = await archived(system, before)
        assert done.through == 7
        with pytest.raises(ClientFailure, match=r"was recorded within the last hour, .* up to 7\."):
            await archived(system, "9")
    assert await audited(system.settings) == 1


@pytest.mark.parametrize("first", [True, False])
async def test_an_event_with_a_time_in_the_future_stops_no_archiving_day_by_day(tmp_path, virtual_time, first):
    settings = house_settings(tmp_path, archive_after_days=30)
    async with with_a_clock_once_ahead(settings, first) as (system, _):
        (job,) = [job for job in system.upkeep.jobs if job.name == "archive"]
        await job.do()
        assert [fact.through for fact in await facts_of(system, LogArchived)] == [7]


async def test_an_event_with_a_time_in_the_future_at_the_end_of_the_log_stays(tmp_path, virtual_time):
    settings = house_settings(tmp_path)
    clock = SeededClock(1)
    async with open_system(settings, clock, environ={}) as system:
        clock.shift(400 * DAY_MS)
        await system.journal.append(NewEvent("cache", CacheCleared(entries=1), clock.new_id()))
        clock.shift(-360 * DAY_MS)
        with pytest.raises(ClientFailure, match=r"position 2 was recorded at a time in the future, .* up to 1\."):
            await archived(system, "3")
        assert (await archived(system)).through == 1


async def test_a_clock_that_was_set_back_moves_nothing_of_the_last_hour(tmp_path, virtual_time):
    settings = house_settings(tmp_path)
    clock = SeededClock(1)
    async with open_system(settings, clock, environ={}) as system:
        clock.shift(40 * DAY_MS)
        for back in (0, 0, 35):
            clock.shift(-back * DAY_MS)
            await system.journal.append(NewEvent("cache", CacheCleared(entries=back), clock.new_id()))
            clock.shift(back * DAY_MS)
        assert (await archived(system)).through == 1


async def test_a_state_is_turned_into_text_and_back_in_threads(tmp_path, virtual_time, monkeypatch):
    """With a hundred thousand entries it takes a second, in which the gateway has to answer."""
    ran: dict[str, set[bool]] = {}
    trios = threading.get_ident()

    def watched(module, name):
        work = getattr(module, name)

        def watching(*args):
            ran.setdefault(name, set()).add(threading.get_ident() == trios)
            return work(*args)

        monkeypatch.setattr(module, name, watching)

    watched(archiver, "encoded")
    watched(history, "json_of")
    watched(replaying, "load")
    watched(fold, "plain")
    settings = house_settings(tmp_path)
    async with aged(settings) as system:
        cut = (await archived(system)).through
        await system.history.state()
        await system.history.state(str(cut), "keys")
    async with open_system(settings, SeededClock(3), environ={}):
        assert ran == {name: {False} for name in ("encoded", "json_of", "load", "plain")}


async def test_what_the_log_says_of_an_archive_is_found_in_a_later_archive(tmp_path, virtual_time):
    settings = house_settings(tmp_path)
    clock = SeededClock(1)
    async with open_system(settings, clock, environ={}) as system:
        cuts = []
        for _ in range(3):
            await system.journal.append(NewEvent("cache", CacheCleared(entries=1), clock.new_id()))
            clock.shift(40 * DAY_MS)
            cuts.append((await archived(system)).through)
        store = system.journal.store
        first, second = (await store.read(stream="log-archives", limit=9))[:2]
        assert first.position <= cuts[1] < second.position <= cuts[2]
        states = [plain(await replay(store, until=cut)) for cut in cuts]
        assert [state["position"] for state in states] == cuts
    rewritten(
        files(settings.data_dir)[0], lambda lines: [*lines[:-1], lines[-1].replace(b'"position":2', b'"position": 2')]
    )
    async with open_reader(settings.data_dir, settings.limits) as reader:
        with pytest.raises(LogDamaged, match=r"The state in .*000002\.jsonl\.gz is not the one that was sealed"):
            await replay(reader, until=cuts[0])
        assert (await replay(reader, until=cuts[1])).position == cuts[1]
