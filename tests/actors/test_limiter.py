"""A key is held to its limits, whoever asks at the same time and however a request ends."""

import pytest
import trio

from llmux.actors.limiter import LimiterStatistics
from llmux.actors.opening import open_system
from llmux.clock import SeededClock
from llmux.events import RequestAccepted
from llmux.failures import LimitReached, NoRoute, ProviderFailure, StoreFailure
from llmux.prompts import Prompt, Sampling, user
from tests.actors.house import facts_of, house_settings, scripted, wish
from tests.actors.limited import key_with

NOTHING = LimiterStatistics(keys=0, open=0, requests=0, tokens=0)
MINUTE_S = 60


def open_house(tmp_path, script="delay=1000,say=one+two+three", clock=None):
    settings = house_settings(tmp_path, {"alpha": scripted(script, concurrency=100)})
    return open_system(settings, clock or SeededClock(3), environ={})


def asking(who, text="hello", **sampling):
    return wish(principal=who, prompt=Prompt((user(text),), sampling=Sampling(**sampling)))


async def answered(system, wanted):
    with system.request(wanted) as request:
        return await request.answer()


def refused(system, wanted) -> LimitReached:
    before = system.limiter.statistics()
    with pytest.raises(LimitReached) as caught:
        system.request(wanted)
    assert caught.value.status == 429
    assert system.limiter.statistics() == before, "who is refused holds nothing"
    return caught.value


async def test_requests_in_one_minute_are_counted_before_the_log_knows_them(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        who = await key_with(system, requests_per_minute=3)
        await trio.sleep(MINUTE_S - system.clock.now() / 1000 % MINUTE_S)
        requests = [system.request(asking(who)) for _ in range(3)]
        assert system.limiter.statistics() == LimiterStatistics(keys=1, open=3, requests=3, tokens=0)
        failure = refused(system, asking(who))
        assert (failure.code, failure.retry_after_ms) == ("rate_limit_exceeded", (MINUTE_S + 20) * 1000)
        assert "3 requests per minute" in str(failure)
        for request in requests:
            await request.answer()
        assert system.limiter.statistics() == NOTHING
        failure = refused(system, asking(who))
        await trio.sleep((failure.retry_after_ms - 1) / 1000)
        refused(system, asking(who))
        await trio.sleep(0.001)
        await answered(system, asking(who))


async def test_places_for_open_requests_are_free_again_when_one_ends_or_leaves(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        who = await key_with(system, concurrent_requests=2)
        first, second = system.request(asking(who)), system.request(asking(who))
        failure = refused(system, asking(who))
        assert (failure.code, failure.retry_after_ms) == ("rate_limit_exceeded", 1000)
        await first.answer()
        third = system.request(asking(who))
        second.leave()
        await second.over()
        fourth = system.request(asking(who))
        refused(system, asking(who))
        for request in (third, fourth):
            await request.answer()
        assert system.limiter.statistics() == NOTHING


async def test_a_spent_day_is_told_with_its_end(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        who = await key_with(system, requests_per_day=1, requests_per_minute=1)
        await answered(system, asking(who))
        failure = refused(system, asking(who))
        assert failure.code == "insufficient_quota", "the day has room later than the minute"
        await trio.sleep(failure.retry_after_ms / 1000)
        assert system.clock.now() % (24 * 3_600_000) == 0
        await answered(system, asking(who))


async def test_a_bounded_answer_is_held_whole_and_what_is_not_used_is_given_back(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        who = await key_with(system, tokens_per_day=2_000)
        held = 502 + 1_000
        request = system.request(asking(who, max_tokens=1_000))
        assert system.limiter.statistics().tokens == held
        failure = refused(system, asking(who, max_tokens=1_000))
        assert (failure.code, failure.retry_after_ms) == ("rate_limit_exceeded", 1000)
        assert "498 are left beside what its open requests hold, and this one needs 1502" in str(failure)
        await request.answer()
        assert system.facts.windows["k1"].tokens_day == 4
        await answered(system, asking(who, max_tokens=1_000))
        (accepted, _) = await facts_of(system, RequestAccepted)
        assert accepted.reserved_tokens == held
        failure = refused(system, asking(who, max_tokens=1_500))
        assert failure.retry_after_ms is None, "no wait makes it small enough"
        assert "may take 2002 tokens, more than the 2000 per day" in str(failure)
        assert system.limiter.statistics() == NOTHING


async def test_an_answer_without_a_bound_holds_all_that_is_left(tmp_path, virtual_time):
    async with open_house(tmp_path, "delay=1000,say=hi,tokens=5000") as system:
        who = await key_with(system, tokens_per_minute=10_000)
        first, second, third = (system.request(asking(who)) for _ in range(3))
        assert system.limiter.statistics().tokens == 10_000
        refused(system, asking(who))
        for request in (first, second, third):
            await request.answer()
        assert system.facts.windows["k1"].tokens_minute == 15_003, "each answer may be longer than what was held for it"
        assert refused(system, asking(who)).code == "rate_limit_exceeded"
        assert system.limiter.statistics() == NOTHING


async def test_joined_and_cached_answers_are_requests_and_take_no_tokens(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        who = await key_with(system, tokens_per_day=600, requests_per_day=4)
        wanted = wish(principal=who, use_cache=True)
        first, joined = system.request(wanted), system.request(wanted)
        assert (first.source, joined.source) == ("flight", "joined")
        assert system.limiter.statistics().tokens == 600
        first.leave()
        await joined.answer()
        assert system.facts.windows["k1"].tokens_day == 5, "whoever began the flight is charged"
        assert system.limiter.statistics() == NOTHING
        await answered(system, wanted)
        assert sorted(fact.reserved_tokens for fact in await facts_of(system, RequestAccepted)) == [0, 0, 600]
        await answered(system, wanted)
        assert "4 requests per day" in str(refused(system, wanted))


async def test_an_answer_that_a_key_may_not_have_is_not_given_to_it_from_the_cache(tmp_path, virtual_time):
    providers = {"alpha": scripted("say=a", weight=1), "beta": scripted("say=b", weight=0)}
    async with open_system(house_settings(tmp_path, providers), SeededClock(3), environ={}) as system:
        free, bound = await key_with(system, "k1"), await key_with(system, "k2", providers=["beta"])
        for _ in range(2):
            assert (await answered(system, wish(principal=free, use_cache=True))).text == "a"
            assert (await answered(system, wish(principal=bound, use_cache=True))).text == "b"
        await key_with(system, "k2", providers=["alpha"])
        assert (await answered(system, wish(principal=bound, use_cache=True))).text == "a"


@pytest.mark.parametrize("script", ["fail=overloaded", "empty", "fail=invalid_request,after=1"])
async def test_a_request_that_fails_gives_everything_back(tmp_path, virtual_time, script):
    async with open_house(tmp_path, script) as system:
        who = await key_with(system, tokens_per_day=600, requests_per_day=2, concurrent_requests=1)
        with pytest.raises((ProviderFailure, NoRoute)):
            await answered(system, asking(who))
        assert system.limiter.statistics() == NOTHING
        window = system.facts.windows["k1"]
        assert (window.requests_day, window.tokens_day) == (1, 0)


async def test_what_the_log_refuses_counts_nowhere(tmp_path, virtual_time, monkeypatch):
    async with open_house(tmp_path) as system:
        who = await key_with(system, requests_per_day=1, tokens_per_day=600, concurrent_requests=1)
        append = system.journal._append

        async def refuse(records):
            return [StoreFailure("No.")] * len(records)

        monkeypatch.setattr(system.journal, "_append", refuse)
        with pytest.raises(StoreFailure):
            await answered(system, asking(who))
        assert system.limiter.statistics() == NOTHING
        monkeypatch.setattr(system.journal, "_append", append)
        await answered(system, asking(who))


async def test_an_answer_that_the_log_is_owed_stays_claimed_until_it_is_there(tmp_path, virtual_time, monkeypatch):
    async with open_house(tmp_path) as system:
        who = await key_with(system, tokens_per_day=600)
        append = system.journal._append

        async def refuse(records):
            return [StoreFailure("No.")] * len(records)

        request = system.request(asking(who))
        await trio.sleep(0.5)
        monkeypatch.setattr(system.journal, "_append", refuse)
        with pytest.raises(StoreFailure):
            await request.answer()
        assert system.limiter.statistics() == LimiterStatistics(keys=1, open=1, requests=0, tokens=600)
        refused(system, asking(who))
        monkeypatch.setattr(system.journal, "_append", append)
        while system.journal.counts().owed:
            await trio.sleep(1)
        assert system.limiter.statistics() == NOTHING
        assert system.facts.windows["k1"].tokens_day == 4


async def test_a_restart_forgives_nothing_and_holds_nothing(tmp_path, virtual_time):
    clock = SeededClock(3)
    async with open_house(tmp_path, clock=clock) as system:
        who = await key_with(system, requests_per_day=3, tokens_per_day=1_100)
        await answered(system, asking(who))
        for _ in range(2):
            system.request(asking(who, max_tokens=1))
        await trio.sleep(0.1)
    async with open_house(tmp_path, clock=clock) as system:
        assert system.limiter.statistics() == NOTHING
        assert system.facts.windows["k1"].tokens_day == 4
        assert "3 requests per day" in str(refused(system, asking(who)))


async def test_limits_that_are_changed_hold_for_the_next_request(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        who = await key_with(system)
        requests = [system.request(asking(who)) for _ in range(3)]
        await key_with(system, concurrent_requests=3, models=["delay*"])
        refused(system, asking(who))
        await requests[0].answer()
        await key_with(system, concurrent_requests=0)
        assert refused(system, asking(who)).retry_after_ms is None
        await key_with(system)
        await answered(system, asking(who))


async def test_who_is_no_key_has_no_limits(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        for _ in range(3):
            system.request(wish())
        assert system.limiter.statistics() == NOTHING
        assert system.limiter.measures(wish().principal) == ()
        assert repr(system.limiter) == "<Limiter keys=0 open=0 requests=0 tokens=0>"
