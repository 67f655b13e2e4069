"""A Valkey that dies, freezes, fills up or forgets: requests are slower then, and never wrong or refused."""

from functools import partial

import pytest
import trio

from llmux.actors.cache import ClearCache
from llmux.failures import NoRoute, ProviderFailure, RedisAway
from tests.actors.house import types_of, wish
from tests.actors.sharing import asked
from tests.upstreams.valkey import Valkey


async def away(system, server: Valkey) -> None:
    """Kills the server, and lets the gateway find out."""
    server.kill()
    await asked(system, "is it there?")


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
