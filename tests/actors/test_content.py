"""What is kept of requests, where that was asked for; and that it is gone when it is forgotten."""

import random
import re
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from llmux.actors.content import DAY_MS, ReadContent
from llmux.actors.forgetting import Forget, forget_alone
from llmux.actors.key_registry import IssueKey, RevokeKey
from llmux.actors.messages import Principal
from llmux.actors.opening import open_journal, open_system
from llmux.clock import SeededClock
from llmux.config import Limits
from llmux.events import ActorRestarted, ContentForgotten, RequestAccepted, RequestCancelled, RequestCompleted
from llmux.eventstore import CONTENT_FILE, ContentStore, KeptContent, open_reader, verify
from llmux.failures import (
    ClientFailure,
    ConfigurationWrong,
    LLMuxError,
    Overloaded,
    ProviderFailure,
    ShuttingDown,
    StoreFailure,
)
from llmux.prompts import Prompt, user
from tests.actors.house import facts_of, house_settings, log_of, scripted, wish

CANARY = b"canary4711"
TEXT = "canary4711 sings"
ON = {"record_content": True, "content_retention_days": 30}


def open_house(tmp_path, providers=None, *, clock=None, **changes):
    values = {**ON, **changes}
    return open_system(house_settings(tmp_path, providers, **values), clock or SeededClock(), environ={})


async def asked(system, text: str = TEXT, **changes) -> str:
    """Asks, waits for the whole answer, and returns the request's id."""
    with system.request(wish(text, **changes)) as request:
        await request.answer()
    return request.id


async def kept(system, request: str) -> KeptContent | None:
    return await system.content.ask(ReadContent(request))


def files_with(directory: Path, text: bytes = CANARY) -> set[str]:
    """Which files of a data directory hold this text."""
    files = [path for path in (directory / "data").rglob("*") if path.is_file()]
    return {path.name for path in files if text in path.read_bytes()}


# --- what is kept ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"content_retention_days": 30}])
async def test_where_nobody_asked_for_it_no_text_is_in_any_file(tmp_path, virtual_time, changes):
    async with open_house(tmp_path, record_content=False, **{"content_retention_days": None, **changes}) as system:
        assert await kept(system, await asked(system)) is None
        assert files_with(tmp_path) == set()
        (accepted,) = await facts_of(system, RequestAccepted)
        assert accepted.content is False
        assert await system.content.forget(Forget(key="local")) == 0
        assert await facts_of(system, ContentForgotten) == []
    assert files_with(tmp_path) == set()
    assert not (tmp_path / "data" / CONTENT_FILE).exists()


async def test_where_somebody_did_it_is_in_the_file_of_kept_texts_alone(tmp_path, virtual_time):
    clock = SeededClock()
    async with open_house(tmp_path, clock=clock) as system:
        id = await asked(system)
        content = await kept(system, id)
        assert files_with(tmp_path) <= {CONTENT_FILE, f"{CONTENT_FILE}-wal"}
        (accepted,) = await facts_of(system, RequestAccepted)
        assert accepted.content is True
    assert content.text.prompt == Prompt((user(TEXT),))
    assert (content.text.answer, content.finish, content.code) == (TEXT, "stop", "")
    assert (content.request, content.key) == (id, "local")
    assert content.until - content.recorded_at == 30 * DAY_MS
    assert files_with(tmp_path) == {CONTENT_FILE}


async def test_every_way_a_request_can_end_is_kept_once(tmp_path, virtual_time):
    providers = {
        "slow": scripted("delay=500,chunks=4,gap=500"),
        "poor": scripted("fail=crashed,after=2,chunks=4"),
        "none": scripted("fail=invalid_request"),
        "deep": scripted("reason=let+me+see,say=well"),
    }
    async with open_house(tmp_path, providers) as system:
        slow = {"provider": "slow", "use_cache": True}
        with system.request(wish("a b c d", **slow)) as own, system.request(wish("a b c d", **slow)) as joined:
            await own.answer()
            await joined.answer()
        with system.request(wish("a b c d", **slow)) as cached:
            await cached.answer()
        with system.request(wish("e f g h", provider="slow")) as left:
            await left.started()
            taken = "".join(chunk.text for chunk in await left.receive())
        with system.request(wish("a b c d e", **slow)) as leaves, system.request(wish("a b c d e", **slow)) as stays:
            await trio.sleep(0.1)
            leaves.leave()
            await stays.answer()
        with system.request(wish("i j k l", provider="slow", timeout_ms=1200)) as late, pytest.raises(ProviderFailure):
            await late.answer()
        with system.request(wish("m n o p", provider="poor")) as cut, pytest.raises(ProviderFailure):
            await cut.answer()
        with system.request(wish("q", provider="none")) as refused, pytest.raises(ProviderFailure):
            await refused.answer()
        with system.request(wish("r", provider="deep")) as deep:
            await deep.answer()
        await left.over()
        assert [each.source for each in (own, joined, cached)] == ["flight", "joined", "cache"]
        ends = {
            own: ("a b c d", "stop", ""),
            joined: ("a b c d", "stop", ""),
            cached: ("a b c d", "stop", ""),
            left: (taken, "", "cancelled"),
            leaves: ("", "", "cancelled"),
            stays: ("a b c d e", "stop", ""),
            late: ("i j ", "", "provider_timeout"),
            cut: ("m n ", "", "provider_crashed"),
            refused: ("", "", "invalid_request"),
            deep: ("well", "stop", ""),
        }
        for request, end in ends.items():
            content = await kept(system, request.id)
            assert content is not None, request
            assert (content.text.answer, content.finish, content.code) == end, request
            assert content.text.prompt == request.wish.prompt
        assert (await kept(system, deep.id)).text.reasoning == "let me see"
        assert system.content.counts().kept == len(ends) == len(await facts_of(system, RequestAccepted))
        assert all(fact.content for fact in await facts_of(system, RequestAccepted))
        assert system.content._open == {}


async def test_what_the_stop_of_the_gateway_cuts_is_kept_as_far_as_it_came(tmp_path, virtual_time):
    clock = SeededClock()
    async with open_house(tmp_path, {"slow": scripted("chunks=4,gap=500")}, clock=clock) as system:
        ended = await asked(system, "w x y z")
        cut = system.request(wish("a b c d"))
        await cut.started()
    with pytest.raises(ShuttingDown):
        await cut.answer()
    async with open_house(tmp_path, clock=clock) as system:
        assert (await kept(system, ended)).finish == "stop"
        content = await kept(system, cut.id)
        assert (content.text.answer, content.finish, content.code) == ("a ", "", "cancelled")


@pytest.mark.parametrize("seed", range(3))
async def test_whoever_comes_and_goes_in_whatever_order_is_kept_once(tmp_path, virtual_time, seed):
    print("seed", seed)
    chance = random.Random(seed)
    providers = {"slow": scripted("delay=100,chunks=5,gap=100"), "poor": scripted("fail=crashed,after=1", weight=1)}
    async with open_house(tmp_path, providers, clock=SeededClock(seed)) as system:

        async def come_and_go(number: int) -> None:
            await trio.sleep(chance.random())
            with (
                trio.move_on_after(chance.random() * 1.2),
                suppress(LLMuxError),
                system.request(wish(f"a b c d {number % 4}", use_cache=chance.random() < 0.8)) as request,
            ):
                await request.answer()

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(come_and_go, number)
        await trio.sleep(10)
        accepted = [event.correlation_id for event in await log_of(system) if event.type == "RequestAccepted"]
        assert len(accepted) > 40
        for id in accepted:
            assert await kept(system, id) is not None
        assert system.content.counts().kept == len(accepted)
        sources = {fact.source for fact in await facts_of(system, RequestCompleted)}
        assert sources == {"flight", "joined", "cache"}
        assert await facts_of(system, RequestCancelled)


async def test_a_request_that_the_log_never_took_on_is_not_kept(tmp_path, virtual_time, monkeypatch):
    async with open_house(tmp_path) as system:
        monkeypatch.setattr("llmux.actors.content._OPEN_MANY", 3)
        system.content._look_over_at = 3

        async def refuse(*events, **_):
            raise StoreFailure("out of order")

        with monkeypatch.context() as broken:
            broken.setattr(system.journal, "append", refuse)
            broken.setattr(system.journal, "append_end", refuse)
            for _ in range(5):
                with system.request(wish()) as request, pytest.raises(LLMuxError):
                    await request.answer()
        id = await asked(system)
        assert await kept(system, request.id) is None
        assert (await kept(system, id)).request == id
        assert len(system.content._open) <= 4


# --- keys -----------------------------------------------------------------------------------------------------------


async def test_a_key_can_ask_for_itself_alone(tmp_path, virtual_time):
    async with open_house(tmp_path, record_content=False) as system:
        issued = [
            await system.key_registry.ask(IssueKey(user="u", project="p", record_content=content))
            for content in (True, False)
        ]
        ids = [await asked(system, principal=Principal(each.id, "u", "p")) for each in issued]
        assert (await kept(system, ids[0])).key == issued[0].id
        assert await kept(system, ids[1]) is None
        assert [fact.content for fact in await facts_of(system, RequestAccepted)] == [True, False]


async def test_no_text_is_kept_without_somebody_saying_for_how_long(tmp_path, virtual_time):
    clock = SeededClock()
    never = {"clock": clock, "record_content": False, "content_retention_days": None}
    async with open_house(tmp_path, **never) as system:
        with pytest.raises(ClientFailure, match="CONTENT_RETENTION_DAYS") as refused:
            await system.key_registry.ask(IssueKey(user="u", project="p", record_content=True))
        assert refused.value.param == "recordContent"
        assert system.facts.keys == {}
    async with open_house(tmp_path, clock=clock, record_content=False) as system:
        issued = await system.key_registry.ask(IssueKey(user="u", project="p", record_content=True))
    with pytest.raises(ConfigurationWrong, match=f"{issued.id}.*CONTENT_RETENTION_DAYS"):
        async with open_house(tmp_path, **never):
            raise AssertionError("it opened")
    async with open_house(tmp_path, clock=clock, record_content=False) as system:
        assert await system.key_registry.ask(RevokeKey(key_id=issued.id)) is True
    async with open_house(tmp_path, **never) as system:
        assert system.facts.keys[issued.id].revoked_at is not None


# --- trouble --------------------------------------------------------------------------------------------------------


async def test_a_file_in_trouble_fails_no_request_is_told_and_is_taken_up_again(tmp_path, virtual_time):
    (tmp_path / "data").mkdir(mode=0o700)
    broken = tmp_path / "data" / CONTENT_FILE
    broken.write_bytes(b"this is no database, and long enough for SQLite to notice it" * 100)
    async with open_house(tmp_path) as system:
        lost = await asked(system)
        with pytest.raises(StoreFailure):
            await kept(system, lost)
        counts, health = system.content.counts(), system.health()
        assert (counts.kept, counts.lost) == (0, 1)
        assert "damaged" in counts.trouble
        assert (health.status, health.degraded_because) == ("degraded", ("content",))
        assert b'llmux_content_lost_total{reason="store_unavailable"} 1.0' in system.metrics.render()
        broken.rename(broken.with_name("aside.db"))
        assert await kept(system, await asked(system)) is not None
        assert (system.health().status, system.content.counts().trouble) == ("healthy", "")
        assert b"llmux_content_kept_total 1.0" in system.metrics.render()


@pytest.mark.parametrize("limit", ["content_waiting_max", "content_waiting_bytes_max"])
async def test_texts_that_find_no_place_to_wait_are_counted_and_hold_up_nobody(
    tmp_path, virtual_time, monkeypatch, limit
):
    may_go, keep = trio.Event(), ContentStore.keep

    async def slowly(self, contents):
        await may_go.wait()
        return await keep(self, contents)

    monkeypatch.setattr(ContentStore, "keep", slowly)
    most = {"content_waiting_max": 2, "content_waiting_bytes_max": 3 * 2 * len(TEXT)}[limit]
    async with open_house(tmp_path, limits=Limits(**{limit: most})) as system:
        ids = [await asked(system) for _ in range(8)]
        counts = system.content.counts()
        assert counts.kept == 0
        assert counts.lost > 3
        may_go.set()
        await trio.sleep(1)
        found = [await kept(system, id) is not None for id in ids]
        assert found.count(False) == counts.lost
        assert system.content.counts().kept == found.count(True) > 0
        assert system.content._waiting_bytes == 0
        assert len(await facts_of(system, RequestCompleted)) == 8


async def test_a_text_without_room_is_counted_by_reason(tmp_path, virtual_time):
    limits = Limits(content_row_bytes_max=2000, content_bytes_max=30_000)
    async with open_house(tmp_path, limits=limits) as system:
        large = await asked(system, "x" * 2000)
        ids = [await asked(system) for _ in range(20)]
        assert await kept(system, large) is None
        found = [await kept(system, id) is not None for id in ids]
        assert 3 < found.count(True) < 20
        rendered = system.metrics.render().decode()
        reasons = dict(re.findall(r'llmux_content_lost_total\{reason="([a-z_]+)"\} ([0-9]+)\.0', rendered))
        assert reasons == {"too_large": "1", "no_room": str(found.count(False))}
        assert system.content.counts().lost == 1 + found.count(False)


async def test_a_crash_of_the_keeper_is_survived(tmp_path, virtual_time, monkeypatch):
    async with open_house(tmp_path) as system:

        async def crash(self, contents):
            raise ZeroDivisionError

        with monkeypatch.context() as broken:
            broken.setattr(ContentStore, "keep", crash)
            await asked(system)
            await trio.sleep(1)
        assert await kept(system, await asked(system)) is not None
        assert [fact.actor for fact in await facts_of(system, ActorRestarted)] == ["content"]


# --- forgetting -----------------------------------------------------------------------------------------------------


async def test_what_is_forgotten_is_in_no_file_and_the_log_says_so_and_stays_whole(tmp_path, virtual_time):
    clock = SeededClock()
    async with open_house(tmp_path, clock=clock) as system:
        for scope in ("request", "key", "before"):
            ids = [await asked(system, f"{TEXT} {n}") for n in range(3)]
            await trio.sleep(1)
            which = {"request": ids[0], "key": "local", "before": clock.now()}[scope]
            count = 1 if scope == "request" else 3
            assert files_with(tmp_path) != set()
            assert await system.content.forget(Forget(**{scope: which}, principal="ann")) == count
            assert files_with(tmp_path, f"{TEXT} 0".encode()) == set()
            assert await system.content.forget(Forget(**{scope: which})) == 0
            assert (await facts_of(system, ContentForgotten))[-1] == ContentForgotten(
                scope=scope, answers=count, **{scope: which}
            )
            await system.content.forget(Forget(key="local"))
            assert files_with(tmp_path) == set()
        assert system.facts.content.answers == system.content.counts().forgotten == 9
        assert len(await facts_of(system, ContentForgotten)) == 4
    async with open_reader(tmp_path / "data", Limits()) as reader:
        await verify(reader)
    assert files_with(tmp_path) == set()


@pytest.mark.parametrize(
    "which",
    [
        {},
        {"request": "r", "key": "k"},
        {"key": "k", "before": 5},
        {"before": -1},
        {"before": 10**15},
        {"request": "r" * 201},
        {"key": "a\nb"},
    ],
)
async def test_what_is_not_clear_is_not_forgotten(tmp_path, virtual_time, which):
    async with open_house(tmp_path) as system:
        id = await asked(system)
        with pytest.raises(ClientFailure):
            await system.content.forget(Forget(**which))
        assert await kept(system, id) is not None


@pytest.mark.parametrize("by", ["request", "key"])
async def test_a_request_that_is_still_open_is_forgotten_before_it_is_kept(tmp_path, virtual_time, by):
    async with open_house(tmp_path, {"slow": scripted("delay=1000")}) as system:
        with system.request(wish(TEXT)) as request:
            await trio.sleep(0.5)
            which = Forget(request=request.id) if by == "request" else Forget(key="local")
            assert await system.content.forget(which) == 1
            await request.answer()
        assert await kept(system, request.id) is None
        (fact,) = await facts_of(system, ContentForgotten)
        assert (fact.scope, fact.answers) == (by, 1)
        assert files_with(tmp_path) == set()


async def test_a_text_that_waits_to_be_written_is_forgotten_as_well(tmp_path, virtual_time, monkeypatch):
    keep = ContentStore.keep

    async def slowly(self, contents):
        await trio.sleep(1)
        return await keep(self, contents)

    monkeypatch.setattr(ContentStore, "keep", slowly)
    async with open_house(tmp_path) as system:
        for _ in range(3):
            await asked(system)
        assert await system.content.forget(Forget(key="local")) == 3
        assert files_with(tmp_path) == set()


async def test_a_full_mailbox_refuses_to_forget_and_forgets_nothing(tmp_path, virtual_time, monkeypatch):
    async with open_house(tmp_path, {"slow": scripted("delay=1000")}) as system:

        def full(message, reply):
            raise Overloaded("full")

        with system.request(wish(TEXT)) as request:
            await trio.sleep(0.5)
            with monkeypatch.context() as broken:
                broken.setattr(system.content, "_post", full)
                with pytest.raises(Overloaded):
                    await system.content.forget(Forget(key="local"))
            await request.answer()
        assert await kept(system, request.id) is not None


async def test_a_deletion_that_the_log_could_not_be_told_of_is_told_later_and_once(tmp_path, virtual_time, monkeypatch):
    clock = SeededClock()
    async with open_house(tmp_path, clock=clock) as system:
        id = await asked(system)
        append = system.journal.append

        async def refuse(*events, **_):
            raise StoreFailure("out of order")

        monkeypatch.setattr(system.journal, "append", refuse)
        with pytest.raises(StoreFailure, match="out of order"):
            await system.content.forget(Forget(request=id))
        assert files_with(tmp_path) == set()
        assert await facts_of(system, ContentForgotten) == []
        monkeypatch.setattr(system.journal, "append", append)
        await trio.sleep(3700)
        assert await facts_of(system, ContentForgotten) == [ContentForgotten(scope="request", answers=1, request=id)]
    async with open_house(tmp_path, clock=clock) as system:
        await trio.sleep(10_000)
        assert len(await facts_of(system, ContentForgotten)) == 1


async def test_without_a_gateway_text_is_forgotten_by_whoever_owns_the_directory(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        await asked(system)
        await asked(system)
    settings, clock = house_settings(tmp_path, **ON), SeededClock(1)
    async with open_journal(settings, clock) as journal:
        assert await forget_alone(journal, settings, clock, Forget(key="local")) == 2
        assert await forget_alone(journal, settings, clock, Forget(key="local")) == 0
        assert journal.facts.content.answers == 2
    assert files_with(tmp_path) == set()


# --- retention ------------------------------------------------------------------------------------------------------


async def test_old_text_is_forgotten_by_itself_within_the_hour(tmp_path, virtual_time):
    clock = SeededClock()
    async with open_house(tmp_path, clock=clock) as system:
        old = await asked(system)
        await trio.sleep(7200)
        assert await facts_of(system, ContentForgotten) == []
        clock.shift(29 * DAY_MS)
        young = await asked(system, "young")
        clock.shift(DAY_MS - 7200_000)
        assert await kept(system, old) is not None
        await trio.sleep(3700)
        assert await kept(system, old) is None
        assert await kept(system, young) is not None
        (fact,) = await facts_of(system, ContentForgotten)
        assert (fact.scope, fact.answers) == ("retention", 1)
        await trio.sleep(20_000)
        assert len(await facts_of(system, ContentForgotten)) == 1
    assert files_with(tmp_path) == set()


async def test_old_text_is_forgotten_at_the_start_even_where_nothing_is_kept_any_more(tmp_path, virtual_time):
    clock = SeededClock()
    async with open_house(tmp_path, clock=clock) as system:
        await asked(system)
    clock.shift(31 * DAY_MS)
    async with open_house(tmp_path, clock=clock, record_content=False, content_retention_days=None) as system:
        await system.content.ask(ReadContent(""))
        (fact,) = await facts_of(system, ContentForgotten)
        assert fact == ContentForgotten(scope="retention", answers=1)
    assert files_with(tmp_path) == set()


async def test_a_shorter_retention_holds_for_what_was_kept_before_and_a_longer_one_does_not(tmp_path, virtual_time):
    clock = SeededClock()
    async with open_house(tmp_path, clock=clock) as system:
        first = await asked(system)
    clock.shift(10 * DAY_MS)
    async with open_house(tmp_path, clock=clock, content_retention_days=5) as system:
        assert await kept(system, first) is None
        second = await asked(system)
    clock.shift(6 * DAY_MS)
    async with open_house(tmp_path, clock=clock, content_retention_days=500) as system:
        assert await kept(system, second) is None
