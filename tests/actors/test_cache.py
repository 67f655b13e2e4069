"""The cache: exact, least recently used out first, bounded in number, size and time."""

import trio

from llmux.actors.cache import ClearCache
from llmux.actors.cached_answer import CachedAnswer
from llmux.actors.opening import open_system
from llmux.clock import SeededClock
from llmux.prompts import Finish, TextDelta, Usage
from tests.actors.house import house_settings, types_of


def answer(text: str = "x") -> CachedAnswer:
    return CachedAnswer("one", "default", "m", (TextDelta(text), Finish("stop", Usage(1, 1))))


def open_house(tmp_path, **changes):
    return open_system(house_settings(tmp_path, **changes), SeededClock(), environ={})


async def test_v3_17_the_least_recently_used_answer_goes_first(tmp_path, virtual_time):
    async with open_house(tmp_path, cache_entries_max=2) as system:
        for name in ("a", "b"):
            system.cache.keep(name, answer(name))
        assert system.cache.look("a")
        system.cache.keep("c", answer("c"))
        assert system.cache.look("b") is None
        assert system.cache.look("a") == answer("a")
        assert system.cache.counts().entries == 2


async def test_an_answer_ends_with_its_time(tmp_path, virtual_time):
    async with open_house(tmp_path, cache_ttl_ms=1000) as system:
        system.cache.keep("a", answer())
        await trio.sleep(0.9)
        assert system.cache.look("a")
        await trio.sleep(0.2)
        assert system.cache.look("a") is None
        assert system.cache.counts().bytes == 0


async def test_the_cache_is_bounded_in_bytes(tmp_path, virtual_time):
    async with open_house(tmp_path, cache_bytes_max=2000) as system:
        for number in range(10):
            system.cache.keep(str(number), answer("y" * 300))
        assert system.cache.counts().bytes <= 2000
        assert system.cache.look("9")
        system.cache.keep("huge", answer("y" * 3000))
        assert system.cache.look("huge") is None
        assert system.cache.look("9")


async def test_keeping_the_same_again_replaces_it(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        system.cache.keep("a", answer("old"))
        system.cache.keep("a", answer("new"))
        assert system.cache.look("a") == answer("new")
        assert system.cache.counts().entries == 1


async def test_a_size_or_time_of_zero_switches_it_off(tmp_path, virtual_time):
    for off in ({"cache_entries_max": 0}, {"cache_ttl_ms": 0}):
        async with open_house(tmp_path, **off) as system:
            system.cache.keep("a", answer())
            assert system.cache.look("a") is None


async def test_clearing_is_a_fact(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        system.cache.keep("a", answer())
        assert await system.cache.ask(ClearCache("local")) == 1
        assert system.cache.look("a") is None
        assert await types_of(system) == ["CacheCleared"]
        assert system.facts.cache.cleared_at == system.clock.now()
