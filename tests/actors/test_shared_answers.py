"""Answers in a real Valkey, shared by gateways: found once for all, and never forged."""

from llmux.actors.cache import ClearCache
from llmux.actors.cached_answer import CachedAnswer
from llmux.actors.messages import Principal
from llmux.actors.sealed_answers import Sealer
from llmux.events import AttemptStarted, RequestAccepted, RequestCompleted
from llmux.prompts import Finish, Sampling, TextDelta, Usage, Vectors, packed
from tests.actors.house import facts_of, types_of, wish
from tests.actors.sharing import SECRET, asked

ANSWER = CachedAnswer("one", "default", "m", (TextDelta("hi"), Finish("stop", Usage(3, 1), ignored=("seed",))))


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
