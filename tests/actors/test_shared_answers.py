"""Answers in a real Valkey, shared by gateways: found once for all, never forged, and never a reason to fail."""

import gc
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import trio

from llmux.actors.cache import ClearCache
from llmux.actors.cached_answer import CachedAnswer
from llmux.actors.messages import Principal
from llmux.actors.opening import open_system
from llmux.actors.sealed_answers import Sealer
from llmux.clock import SystemClock
from llmux.config import Limits
from llmux.events import AttemptStarted, RequestAccepted, RequestCompleted
from llmux.failures import NoRoute, ProviderFailure, RedisAway
from llmux.prompts import Finish, Sampling, TextDelta, Usage, Vectors, packed
from tests.actors.house import facts_of, house_settings, scripted, types_of, wish
from tests.upstreams.valkey import Valkey, valkey

SECRET = "a secret that the gateways share"
NAMES = count()
ANSWER = CachedAnswer("one", "default", "m", (TextDelta("hi"), Finish("stop", Usage(3, 1), ignored=("seed",))))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running
    gc.collect()  # here, and not in a test that follows: what coredis left of the connections that broke


class Houses:
    """Opens gateways that share their answers, unless they are told otherwise."""

    def __init__(self, directory: Path, server: Valkey):
        self._stack, self._directory, self._numbers = AsyncExitStack(), directory, count()
        self.namespace = f"test-{next(NAMES)}"
        self.url = server.url

    async def __aenter__(self) -> "Houses":
        return self

    async def __aexit__(self, *raised) -> None:
        await self._stack.__aexit__(*raised)

    async def open(self, model: str = "echo", *, limits=None, **changes):
        values = {
            "secret": SECRET,
            "redis_url": self.url,
            "redis_namespace": self.namespace,
            "limits": Limits(**{"redis_rest_ms": 50, **(limits or {})}),
        }
        directory = self._directory / str(next(self._numbers))
        settings = house_settings(directory, {"one": scripted(model)}, **{**values, **changes})
        return await self._stack.enter_async_context(open_system(settings, SystemClock(), environ={}))


@pytest.fixture
def houses(tmp_path, server):
    return Houses(tmp_path, server)


async def asked(system, text="hello there", **changes):
    """The source and the text of an answer."""
    with system.request(wish(text, use_cache=True, **changes)) as request:
        answer = await request.answer()
        return request.source, answer.text


async def away(system, server: Valkey) -> None:
    """Kills the server, and lets the gateway find out."""
    server.kill()
    await asked(system, "is it there?")


async def test_an_answer_of_one_gateway_is_a_hit_of_another_and_costs_no_attempt(houses):
    async with houses:
        first, second = await houses.open(), await houses.open()
        assert await asked(first) == ("flight", "hello there")
        assert await asked(second, stream=True) == ("cache", "hello there")
        assert await asked(first) == ("cache", "hello there")
        assert await types_of(second) == ["RequestAccepted", "RequestCompleted"]
        (accepted,), (completed,) = await facts_of(second, RequestAccepted), await facts_of(second, RequestCompleted)
        assert (accepted.cache, completed.source, completed.attempts, completed.usage) == ("hit", "cache", 0, Usage())
        assert (completed.provider, completed.model) == ("one", "echo")
        assert (second.facts.cache.hits, second.facts.cache.misses) == (1, 0)
        assert second.cache.counts().entries == 0


async def test_equal_requests_share_one_look_and_where_it_finds_nothing_one_attempt(houses):
    async with houses:
        first, second = await houses.open("echo,delay=20"), await houses.open()
        requests = [first.request(wish("same", use_cache=True)) for _ in range(20)]
        assert {(await request.answer()).text for request in requests} == {"same"}
        assert len(await facts_of(first, AttemptStarted)) == 1
        assert first.cache.shared.statistics().misses == 1
        requests = [second.request(wish("same", use_cache=True)) for _ in range(20)]
        assert {(await request.answer()).text for request in requests} == {"same"}
        assert [request.source for request in requests] == ["cache"] + ["joined"] * 19
        assert await facts_of(second, AttemptStarted) == []
        assert second.cache.shared.statistics().hits == 1
        assert not second.facts.requests.open


async def test_a_request_that_leaves_during_the_look_has_its_beginning_and_its_end(houses, server):
    async with houses:
        system = await houses.open(limits={"redis_wait_ms_max": 5000})
        await asked(system, "connect")
        before = len(await types_of(system))
        with server.frozen():
            with system.request(wish("hello", use_cache=True)):
                await trio.sleep(0.02)
            with trio.fail_after(5):
                while system.facts.requests.open or len(await types_of(system)) == before:
                    await trio.sleep(0.01)
        assert (await types_of(system))[before:] == ["RequestAccepted", "RequestCancelled"]


async def test_another_secret_or_another_namespace_shares_nothing(houses):
    async with houses:
        await asked(await houses.open())
        assert (await asked(await houses.open(secret="another secret, quite long")))[0] == "flight"
        assert (await asked(await houses.open(redis_namespace="elsewhere")))[0] == "flight"


async def test_what_somebody_else_wrote_into_redis_is_a_miss(houses, server):
    async with houses:
        system = await houses.open()
        await asked(system, "one thing")
        await asked(system, "another")
        one, another = (
            f"llmux:{houses.namespace}:{each.fingerprint}" for each in await facts_of(system, RequestAccepted)
        )
        good = server("GET", one)
        forged = (
            server("GET", another),  # a good value under another key
            b"",
            b"1",
            b"nonsense",
            b"2" + good[1:],
            good[:-1],
            good[:40] + bytes([good[40] ^ 1]) + good[41:],
            Sealer(b"a secret that was guessed", houses.namespace).seal(one, ANSWER, 2**50),
            good + b"x" * 5_000_000,
        )
        for value in forged:
            server("SET", one, value)
            assert await asked(system, "one thing") == ("flight", "one thing")
            assert server("GET", one) != value, "the answer that was made takes its place"
        server("DEL", one)
        server("LPUSH", one, "a list")
        assert await asked(system, "one thing") == ("flight", "one thing")
        counts = system.cache.shared.statistics()
        assert (counts.undecodable, counts.too_large, counts.refused, counts.away) == (len(forged) - 2, 1, 1, 0)


async def test_an_answer_has_its_time_in_redis_and_in_itself(houses, server):
    async with houses:
        system = await houses.open(cache_ttl_ms=60_000)
        await asked(system)
        await asked(system, "short", cache_ttl_ms=5_000)
        first, short = (
            f"llmux:{houses.namespace}:{each.fingerprint}" for each in await facts_of(system, RequestAccepted)
        )
        assert 50_000 < int(server("PTTL", first)[1:]) <= 60_000
        assert 1 < int(server("PTTL", short)[1:]) <= 5_000
        sealer = Sealer(SECRET.encode(), "home")
        value = sealer.seal("f", ANSWER, 1000)
        assert sealer.open("f", value, 999) == ANSWER
        assert sealer.open("f", value, 1000) is None, "who writes it back later prolongs nothing"


async def test_flushed_or_restarted_it_is_cold_and_goes_on(houses, server):
    async with houses:
        system = await houses.open()
        await asked(system)
        server("FLUSHALL")
        assert (await asked(system))[0] == "flight"
        assert (await asked(system))[0] == "cache"
        await away(system, server)
        server.start()
        await trio.sleep(0.06)
        assert (await asked(system))[0] == "flight"
        assert (await asked(system))[0] == "cache"
        assert system.cache.shared.statistics().reachable


async def test_killed_in_the_midst_every_answer_comes_all_the_same(houses, server):
    async with houses:
        system = await houses.open("echo,delay=5")

        async def one(number: int) -> None:
            assert (await asked(system, f"prompt {number % 40}"))[1] == f"prompt {number % 40}"

        try:
            async with trio.open_nursery() as nursery:
                for number in range(120):
                    nursery.start_soon(one, number)
                    await trio.sleep(0.002)
                    if number == 60:
                        server.kill()
            counts = system.cache.shared.statistics()
            assert counts.away >= 1
            assert counts.away + counts.skipped > counts.away
            assert not counts.reachable
            assert system.health().status == "healthy"
            cleared = len(await types_of(system))
            with pytest.raises(RedisAway):
                await system.cache.ask(ClearCache("local"))
            assert len(await types_of(system)) == cleared, "what is still there is not recorded as cleared"
        finally:
            server.start()


async def test_one_that_never_answers_costs_a_bounded_wait_and_is_left_alone_then(houses, caplog):
    async def silent(stream: trio.SocketStream) -> None:
        async with stream:
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, silent, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        limits = {"redis_wait_ms_max": 30, "redis_rest_ms": 60_000, "redis_rest_ms_max": 60_000}
        async with houses:
            system = await houses.open(redis_url=f"redis://:pass-word@127.0.0.1:{port}", limits=limits)
            for number in range(50):
                assert (await asked(system, f"prompt {number}"))[0] == "flight"
            counts = system.cache.shared.statistics()
            assert (counts.away, counts.skipped) == (1, 99)
        nursery.cancel_scope.cancel()
    assert caplog.text == "", "no address is logged"


async def test_many_looks_that_fail_side_by_side_are_one_failure(houses, server):
    async with houses:
        limits = {"redis_wait_ms_max": 200, "redis_rest_ms": 10, "redis_rest_ms_max": 60_000}
        system = await houses.open(limits=limits)
        await asked(system, "connect")
        with server.frozen():
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(asked, system, f"prompt {number}")
        assert system.cache.shared.statistics().away >= 20
        await trio.sleep(0.05)
        for number in range(2):
            await asked(system, f"later {number}")
        assert system.cache.shared.statistics().reachable


async def test_a_full_redis_keeps_nothing_new_and_is_still_read(houses, server):
    async with houses:
        system = await houses.open()
        await asked(system, "before")
        server("CONFIG", "SET", "maxmemory-policy", "noeviction")
        server("CONFIG", "SET", "maxmemory", "1")
        try:
            assert (await asked(system, "after"))[0] == "flight"
            assert (await asked(system, "after"))[0] == "flight"
            assert (await asked(system, "before"))[0] == "cache"
        finally:
            server("CONFIG", "SET", "maxmemory", "0")
        counts = system.cache.shared.statistics()
        assert (counts.refused, counts.reachable) == (2, True)


async def test_an_answer_that_is_too_large_is_not_kept(houses):
    async with houses:
        system = await houses.open(limits={"redis_value_bytes_max": 500})
        await asked(system, "word " * 200)
        assert (await asked(system, "word " * 200))[0] == "flight"
        assert system.cache.shared.statistics().too_large == 2


async def test_no_answer_crosses_projects_there_either(houses):
    async with houses:
        first, second, sharing = await houses.open(), await houses.open(), await houses.open(cache_shared=True)
        poems, code = (Principal(id=name, project=name) for name in ("poems", "code"))
        assert (await asked(first, principal=poems))[0] == "flight"
        assert (await asked(second, principal=code))[0] == "flight"
        assert (await asked(second, principal=poems))[0] == "cache"
        assert (await asked(sharing, principal=poems))[0] == "flight"
        assert (await asked(sharing, principal=code))[0] == "cache"


async def test_a_clearing_is_for_all_gateways_of_the_namespace_and_no_other(houses):
    async with houses:
        first, second = await houses.open(), await houses.open()
        other = await houses.open(redis_namespace=f"{houses.namespace}-other")
        for system, texts in ((first, ("a", "b")), (other, ("a",))):
            for text in texts:
                await asked(system, text)
        assert await second.cache.ask(ClearCache("local")) == 2
        assert (await asked(first, "a"))[0] == "flight"
        assert (await asked(other, "a"))[0] == "cache"


async def test_an_answer_is_found_while_every_provider_rests(houses):
    """The moment at which it is needed most."""
    async with houses:
        await asked(await houses.open(), "hello")
        resting = await houses.open("fail=quota_exhausted")
        with pytest.raises(ProviderFailure):
            await asked(resting, "something else")
        assert await asked(resting, "hello") == ("cache", "hello")
        with pytest.raises(NoRoute) as refused:
            await asked(resting, "nobody has this")
        assert refused.value.status == 429


def test_every_kind_of_chunk_comes_back_as_it_was():
    sealer = Sealer(SECRET.encode(), "home")
    chunks = (Vectors((packed([0.5, -1.0]), packed([0.0]))), TextDelta("é\u0000🙂"), *ANSWER.chunks)
    answer = CachedAnswer("one", "second", "m", chunks)
    assert sealer.open("f", sealer.seal("f", answer, 10), 0) == answer


async def test_an_answer_that_was_cut_off_is_kept_only_where_its_asker_named_the_length(houses):
    async with houses:
        system = await houses.open()
        prompt = wish("one two three").prompt
        for finish, sampling, source in (
            ("length", Sampling(), "flight"),
            ("length", Sampling(max_tokens=50), "cache"),
            ("content_filter", Sampling(max_tokens=50), "flight"),
            ("stop", Sampling(), "cache"),
        ):
            changes = {"model": f"say=hi,finish={finish}", "prompt": type(prompt)(prompt.messages, sampling=sampling)}
            assert (await asked(system, **changes))[0] == "flight"
            assert (await asked(system, **changes))[0] == source, finish
