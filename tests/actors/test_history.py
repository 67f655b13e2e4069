"""What the log tells: pages, feeds, stories, states, against what a plain walk over all events finds."""

import random
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import trio

from llmux.actors import facts as fold
from llmux.actors import history
from llmux.actors.facts import EMPTY, evolve
from llmux.actors.history import Wanted
from llmux.actors.moments import position_at, time_of
from llmux.actors.opening import open_system
from llmux.actors.recent import Recent
from llmux.actors.replaying import replay
from llmux.actors.stories import id_of
from llmux.clock import SeededClock
from llmux.events import AttemptStarted, NewEvent, QuotaReset, RecordedEvent, RequestAccepted
from llmux.eventstore import open_store, seal
from llmux.failures import ClientFailure, LLMuxError, Overloaded
from tests.actors.house import house_settings, log_of, scripted, wish

TWO = {"alpha": scripted("fail=unavailable", weight=1), "beta": scripted("say=hi", weight=0)}


async def answered(system, **changes) -> str:
    """Makes a request, waits for its end, and returns its id."""
    with system.request(wish(**changes)) as request, suppress(LLMuxError):
        await request.answer()
    return request.id


async def noted(system, stream: str, principal: str = "gateway") -> None:
    await system.journal.append(NewEvent(stream, QuotaReset(provider="x"), system.clock.new_id(), principal))


# --- pages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scan", [3, 50_000])
async def test_pages_hold_every_event_that_matches_once_and_in_order_in_both_directions(
    tmp_path: Path, virtual_time, monkeypatch, scan: int
):
    monkeypatch.setattr(history, "SCAN_POSITIONS_MAX", scan)
    seed = 11
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with open_system(house_settings(tmp_path), SeededClock(seed), environ={}) as system:
        for _ in range(40):
            await noted(system, chance.choice(("quota-a", "quota-b", "cache")), chance.choice(("admin", "local")))
            await trio.sleep(1)
        everything = await log_of(system)
        times = [event.recorded_at for event in everything]
        for _ in range(60):
            wanted = Wanted(
                streams=frozenset(chance.sample(["quota-a", "quota-b", "nothing"], chance.choice((0, 0, 1, 2)))),
                types=frozenset(chance.choice(((), ("QuotaReset",), ("GatewayStarted", "QuotaReset")))),
                principal=chance.choice((None, "admin")),
                recorded_from=chance.choice((None, chance.choice(times))),
                recorded_to=chance.choice((None, chance.choice(times))),
            )
            after, until = chance.randrange(10), chance.choice((None, chance.randrange(50)))
            expected = [
                event.position
                for event in everything
                if wanted.matches(event) and event.position > after and (until is None or event.position <= until)
            ]
            limit = chance.choice((1, 2, 7, 100))
            assert await walked(system, wanted, after, until, limit) == expected
            assert await walked(system, wanted, after, until, limit, newest_first=True) == expected[::-1]


async def walked(system, wanted, after, until, limit, *, newest_first: bool = False) -> list[int]:
    """The positions on all pages; a page is never longer than asked for, and there is an end to them."""
    found: list[int] = []
    for _ in range(1000):
        page = await system.history.page(wanted, after=after, until=until, limit=limit, newest_first=newest_first)
        assert len(page.events) <= limit
        found += [event.position for event in page.events]
        if page.next is None:
            return found
        if newest_first:
            until = page.next
        else:
            after = page.next
    raise AssertionError("no end")


# --- feeds ----------------------------------------------------------------------------------------------------------


async def fed(feed, count: int) -> list[RecordedEvent]:
    events: list[RecordedEvent] = []
    with trio.fail_after(10):
        while len(events) < count:
            events += await feed.next()
    return events


async def test_a_feed_gives_what_there_is_and_then_what_comes_each_once(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(history, "FEED_EVENTS", 4)
    async with open_system(house_settings(tmp_path), SeededClock(1), environ={}) as system:
        system.journal.recent._events_max = 6
        for _ in range(20):
            await noted(system, "quota-a")
        feed = system.history.follow(Wanted(), after=3)
        assert [event.position for event in await fed(feed, 18)] == list(range(4, 22))
        async with trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(noted, system, "quota-b")
            assert [event.position for event in await fed(feed, 9)] == list(range(22, 31))
        only_b = system.history.follow(Wanted(streams=frozenset({"quota-b"})), after=0)
        assert [event.position for event in await fed(only_b, 9)] == list(range(22, 31))
        assert only_b.position == 30


async def test_those_who_follow_the_end_of_the_log_read_nothing_from_the_disk(tmp_path: Path, monkeypatch):
    async with open_system(house_settings(tmp_path), SeededClock(1), environ={}) as system:
        reads = 0
        read = system.journal.store.read

        async def counted(**wish):
            nonlocal reads
            reads += 1
            return await read(**wish)

        monkeypatch.setattr(system.journal.store, "read", counted)
        got: list[list[int]] = [[] for _ in range(200)]

        async def follow(number: int, *, task_status) -> None:
            feed = system.history.follow(Wanted(), after=system.facts.position)
            task_status.started()
            while len(got[number]) < 30:
                got[number] += [event.position for event in await feed.next()]

        async with trio.open_nursery() as nursery:
            for number in range(200):
                await nursery.start(follow, number)
            for _ in range(30):
                await noted(system, "quota-a")
        assert got == [list(range(2, 32))] * 200
        assert reads == 0


async def test_a_feed_ends_when_the_gateway_stops_and_can_be_cancelled_before(tmp_path: Path, virtual_time):
    async with open_system(house_settings(tmp_path), SeededClock(1), environ={}) as system:
        feed = system.history.follow(Wanted(), after=0)
        assert len(await feed.next()) == 1
        with trio.move_on_after(5) as waiting:
            await feed.next()
        assert waiting.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ended, feed)
            await trio.testing.wait_all_tasks_blocked()
            system.history.close()
        with pytest.raises(ClientFailure, match="ends at position 1"):
            system.history.follow(Wanted(), after=2)


async def ended(feed) -> None:
    assert await feed.next() == []


def event_at(position: int, data: bytes = b"{}") -> RecordedEvent:
    return RecordedEvent(position, "cache", position, "CacheCleared", 1, "", 0, "", "", "", data, b"", b"")


async def test_the_window_on_the_end_is_bounded_in_events_and_bytes_and_has_no_holes():
    recent = Recent(10, events_max=3, bytes_max=10)
    assert recent.after(10, 5) == []
    assert recent.after(9, 5) is None
    recent.add(event_at(position) for position in (11, 12, 13, 14))
    assert recent.after(10, 5) is None
    assert [event.position for event in recent.after(11, 5)] == [12, 13, 14]
    assert [event.position for event in recent.after(11, 2)] == [12, 13]
    recent.add([event_at(15, b"x" * 9)])
    assert recent.after(13, 5) is None
    assert [event.position for event in recent.after(14, 5)] == [15]
    recent.add([event_at(16, b"x" * 99)])  # one event is kept, whatever its size
    assert [event.position for event in recent.after(15, 5)] == [16]
    recent.add([event_at(20)])
    assert recent.after(18, 5) is None
    assert [event.position for event in recent.after(19, 5)] == [20]


# --- states ---------------------------------------------------------------------------------------------------------


async def test_the_state_at_any_position_is_the_fold_of_what_was_recorded_until_then(tmp_path: Path):
    async with open_system(house_settings(tmp_path, TWO), SeededClock(5), environ={}) as system:
        for text in ("one", "two"):
            await answered(system, text=text)
        everything = await log_of(system)
        for position in range(len(everything) + 1):
            expected = fold.plain(evolve(EMPTY, everything[:position]))
            state = await system.history.state(str(position))
            assert {"position": state.position, **msgspec.json.decode(state.state)} == expected
        now = await system.history.state()
        assert (now.position, now.state) == (state.position, state.state)
        assert bytes((await system.history.state("3", "keys")).state) == b'{"keys":{}}'


async def test_the_state_at_a_time_is_the_one_before_the_first_later_event(tmp_path: Path, virtual_time):
    async with open_system(house_settings(tmp_path), SeededClock(5), environ={}) as system:
        await trio.sleep(10)
        await noted(system, "quota-a")
        first, second = await log_of(system)
        for at, position in (
            ("2000-01-01", 0),
            (history.iso(first.recorded_at), 1),
            (history.iso(second.recorded_at - 1), 1),
            (history.iso(second.recorded_at), 2),
            ("2100-01-01T00:00:00 02:00", 2),  # a + that a URL made a blank
        ):
            state = await system.history.state(at)
            assert state.position == position, at
        assert state.at == history.iso(second.recorded_at)


@pytest.mark.parametrize("at", ["99", "yesterday", "-1", "²", "9" * 40, "", "0001-01-01T00:00+23:59"])
async def test_what_is_no_moment_of_the_log_is_said_so(tmp_path: Path, at: str):
    async with open_system(house_settings(tmp_path), SeededClock(5), environ={}) as system:
        with pytest.raises(ClientFailure, match=r"^at: "):
            await position_at(system.journal.store, at)


def test_times_without_a_zone_are_utc_or_local_as_asked():
    assert time_of("2026-11-22T18:30:00Z", "from") == time_of("2026-11-22T18:30:00", "from") == 1_795_372_200_000
    assert time_of("1795372200000", "from") == 1_795_372_200_000
    assert time_of("2026-11-22T18:30:00.123+02:00", "from") == 1_795_365_000_123


async def test_one_state_of_the_past_is_folded_at_a_time(tmp_path: Path):
    async with open_system(house_settings(tmp_path), SeededClock(5), environ={}) as system:
        system.history._folding.acquire_on_behalf_of_nowait("somebody else")
        with pytest.raises(Overloaded):
            await system.history.state("1")
        assert (await system.history.state()).position == 1
        system.history._folding.release_on_behalf_of("somebody else")
        assert (await system.history.state("1")).position == 1


# --- stories --------------------------------------------------------------------------------------------------------


async def test_a_story_tells_the_routes_the_attempts_the_end_and_the_cost(tmp_path: Path):
    async with open_system(house_settings(tmp_path, TWO), SeededClock(5), environ={}) as system:
        id = await answered(system)
        story = await system.history.story(id)
        assert (story.id, story.state, story.principal, story.cache, story.flight) == (
            id,
            "completed",
            "local",
            "off",
            id,
        )
        assert [route.provider for route in story.candidates] == ["alpha", "beta"]
        outcomes = [(each.number, each.provider, each.outcome, each.kind) for each in story.attempts]
        assert outcomes == [
            (1, "alpha", "failed", "unavailable"),
            (2, "alpha", "failed", "unavailable"),
            (3, "beta", "succeeded", None),
        ]
        assert story.usage.total_tokens == story.attempts[-1].usage.total_tokens > 0
        of_it = [event.position for event in await log_of(system) if event.stream.endswith(id)]
        assert [event["position"] for event in story.events] == of_it
        later = await system.history.story(await answered(system, text="something else"))
        assert [(each.provider, each.reason) for each in later.exclusions] == [("alpha", "unavailable")]
        assert later.exclusions[0].until is not None
        told = " ".join(later.summary)
        assert "alpha fail=unavailable was left out: it could not be reached (until 20" in told
        assert f"It was charged {later.usage.total_tokens} tokens." in told


async def test_stories_of_shared_and_cached_answers_name_where_these_came_from(tmp_path: Path):
    async with open_system(
        house_settings(tmp_path, {"one": scripted("delay=50,say=hi")}), SeededClock(5), environ={}
    ) as system:
        ids: list[str] = []

        async def ask() -> None:
            ids.append(await answered(system, use_cache=True))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        await ask()
        stories = [await system.history.story(id) for id in ids]
        (first,) = [story for story in stories[:2] if not story.joined]
        (joined,) = [story for story in stories[:2] if story.joined]
        assert joined.flight == first.flight == first.id
        assert [each.outcome for each in joined.attempts] == ["succeeded"]
        assert joined.usage.total_tokens == 0
        assert f"shared its flight {first.id}." in " ".join(joined.summary)
        assert (stories[2].cache, stories[2].flight, stories[2].attempts) == ("hit", "", [])
        assert "The cache had the answer" in " ".join(stories[2].summary)
        assert await system.history.streams(joined.id) == {f"request-{joined.id}", f"flight-{first.id}"}


async def test_stories_of_requests_without_an_answer_say_why_there_is_none(tmp_path: Path):
    providers = {"bad": scripted("fail=garbled"), "slow": scripted("hang", weight=0)}
    settings = house_settings(tmp_path, providers)
    async with open_system(settings, SeededClock(5), environ={}) as system:
        failed = await system.history.story(await answered(system, provider="bad"))
        assert (failed.state, failed.blame) == ("failed", "provider")
        assert "for which the provider is to blame" in failed.summary[-1]
        with system.request(wish(provider="slow")) as request:
            while "AttemptStarted" not in [
                event.type for event in await log_of(system) if event.stream.endswith(request.id)
            ]:
                await trio.sleep(0.001)
            still = await system.history.story(request.id)
            assert (still.state, [each.outcome for each in still.attempts]) == ("open", ["open"])
            assert still.summary[-1] == "It is still under way."
        with trio.fail_after(10):
            while (left := await system.history.story(request.id)).state == "open":
                await trio.sleep(0.001)
        assert (left.state, left.cancelled_by) == ("cancelled", "client")
        assert left.summary[-1].startswith("The client left after ")


async def test_an_abandoned_request_says_that_the_gateway_died(tmp_path: Path):
    settings = house_settings(tmp_path, {"slow": scripted("hang")})
    with trio.CancelScope() as crash:
        async with open_system(settings, SeededClock(5), environ={}) as system:
            accepted = events_of_an_open_request(system.clock)
            await system.journal.append(*accepted)
            crash.cancel()
    async with open_system(settings, SeededClock(6), environ={}) as system:
        story = await system.history.story(accepted[0].correlation_id)
        assert (story.state, [each.outcome for each in story.attempts]) == ("abandoned", ["abandoned"])
        assert "The gateway died while it was open" in story.summary[-1]


def events_of_an_open_request(clock) -> tuple[NewEvent, NewEvent]:
    id = clock.new_id()
    accepted = RequestAccepted(endpoint="/api/smart", fingerprint="f", prompt_bytes=1, draw=1)
    started = AttemptStarted(provider="slow", model="hang")
    return (
        NewEvent(f"request-{id}", accepted, clock.new_id(), "local", id),
        NewEvent(f"flight-{id}", started, clock.new_id(), "local", id),
    )


async def test_an_unknown_request_and_an_id_that_is_none_are_told_apart(tmp_path: Path):
    clock = SeededClock(5)
    async with open_system(house_settings(tmp_path), clock, environ={}) as system:
        with pytest.raises(ClientFailure, match="is in the log") as unknown:
            await system.history.story(clock.new_id())
        assert unknown.value.status == 404
    for wrong in ("", "x", "gateway", "../../etc", "0" * 36, "01970c4e-7f3a-7000-8000-9a3c5e7d1f2g"):
        with pytest.raises(ClientFailure, match="is no request id"):
            id_of(wrong)
    id = clock.new_id()
    assert id_of(f" request-{id.upper()} ".replace("REQUEST", "request")) == id


async def test_what_is_archived_is_told_as_if_it_were_not(tmp_path: Path, monkeypatch):
    """Pages in both directions, a feed, a state, and the stories of requests before, in and across the archive."""
    settings = house_settings(tmp_path, TWO)
    async with open_system(settings, SeededClock(5), environ={}) as system:
        ids = [await answered(system, text=text) for text in ("one", "two", "three")]
        everything = await log_of(system)
        stories = [await system.history.story(id) for id in ids]
        states = [await system.history.state(str(position)) for position in range(len(everything) + 1)]
    through = next(event.position for event in everything if event.stream == f"flight-{ids[1]}") + 1
    async with open_store(settings.data_dir, clock=SeededClock(6), limits=settings.limits) as store:
        facts = fold.plain(await replay(store, until=through, snapshots=False))
        state = msgspec.json.encode(facts, order="sorted")
        sealed = await seal(store, through, state, fold.SCHEMA, ended=lambda name: name.endswith(ids[0]))
        outcome = await store.move(sealed, NewEvent("log-archives", sealed.fact, SeededClock(7).new_id()))
        assert not isinstance(outcome, LLMuxError), outcome
    monkeypatch.setattr(history, "SCAN_POSITIONS_MAX", 4)
    async with open_system(settings, SeededClock(8, 1_790_000_100_000), environ={}) as system:
        head = await system.history.head()
        assert (head.archived_through, head.events) == (through, head.position - through)
        assert [await system.history.story(id) for id in ids] == stories
        last = everything[-1].position
        numbers = list(range(1, last + 1))
        assert await walked(system, Wanted(), 0, last, 3) == numbers
        assert await walked(system, Wanted(), 0, last, 3, newest_first=True) == numbers[::-1]
        of_gateway = Wanted(streams=frozenset({"gateway", f"flight-{ids[1]}"}))
        expected = [event.position for event in everything if of_gateway.matches(event)]
        assert await walked(system, of_gateway, 0, last, 2) == expected
        assert await walked(system, of_gateway, 0, last, 2, newest_first=True) == expected[::-1]
        feed = system.history.follow(Wanted(), after=0)
        assert [event.position for event in await fed(feed, last)][:last] == numbers
        assert [await system.history.state(str(position)) for position in range(len(states))] == states
