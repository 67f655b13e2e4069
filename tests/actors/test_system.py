"""The whole house on scripted providers: what a wish leads to, and what the log says of it."""

from collections import Counter

import msgspec
import pytest
import trio
from scipy.stats import chisquare

from llmux.actors.facts import plain
from llmux.actors.messages import Principal
from llmux.actors.opening import open_system
from llmux.actors.replaying import replay
from llmux.actors.request import READY_MAX
from llmux.clock import SeededClock
from llmux.config import Limits
from llmux.events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    ProviderCooled,
    ProviderRestored,
    QuotaExhausted,
    RequestAccepted,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
)
from llmux.eventstore import open_reader, verify
from llmux.failures import (
    DirectoryInUse,
    NoRoute,
    OutcomeUnknown,
    Overloaded,
    ProviderFailure,
    ShuttingDown,
    StoreFailure,
)
from llmux.prompts import Finish, Sampling, TextDelta
from tests.actors.house import facts_of, house_settings, log_of, scripted, types_of, wish

ENDS = ("RequestCompleted", "RequestFailed", "RequestCancelled", "RequestAbandoned")
DIRECT = ["RequestAccepted", "AttemptStarted", "AttemptSucceeded", "RequestCompleted"]


def open_house(tmp_path, providers=None, seed=0, **changes):
    return open_system(house_settings(tmp_path, providers, **changes), SeededClock(seed), environ={})


async def test_a_direct_request_takes_four_events_and_two_commits(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        before = system.journal.counts().commits
        with system.request(wish("one two three")) as request:
            answer = await request.answer()
        assert answer.text == "one two three"
        assert answer.finish.usage.output_tokens == 3
        assert await types_of(system) == DIRECT
        assert system.journal.counts().commits == before + 2
        (completed,) = await facts_of(system, RequestCompleted)
        assert completed.provider == request.provider
        assert completed.usage == answer.finish.usage


async def test_every_event_of_a_request_carries_its_id(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        with system.request(wish()) as request:
            await request.answer()
        events = [event for event in await log_of(system) if event.type != "GatewayStarted"]
        assert {event.correlation_id for event in events} == {request.id}
        assert {event.category for event in events} == {"request", "flight"}


async def test_the_log_holds_no_text_of_prompt_or_answer(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        with system.request(wish("canary4711 sings")) as request:
            assert "canary4711" in (await request.answer()).text
    data = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert b"canary4711" not in data


async def test_two_thousand_wishes_spread_by_weight(tmp_path):
    """v3 defect 2: every one of them went to claude."""
    seed = 20_261_122
    print("seed", seed)
    weights = {"alpha": 50, "beta": 30, "gamma": 15, "delta": 5}
    async with open_house(tmp_path, seed=seed) as system:
        answers = Counter()

        async def ask(first: int) -> None:
            for number in range(first, 2000, 50):
                with system.request(wish(f"prompt {number}", use_cache=True)) as request:
                    await request.answer()
                    answers[request.provider] += 1

        async with trio.open_nursery() as nursery:
            for first in range(50):
                nursery.start_soon(ask, first)
        assert sum(answers.values()) == 2000
        expected = [2000 * weight / 100 for weight in weights.values()]
        print(dict(answers))
        assert chisquare([answers[name] for name in weights], expected).pvalue > 0.001
        assert system.facts.requests.completed == 2000


async def test_a_provider_that_fails_before_its_first_chunk_is_passed_over_in_silence(tmp_path, virtual_time):
    providers = {"bad": scripted("fail=logged_out", weight=1), "good": scripted(weight=0)}
    async with open_house(tmp_path, providers) as system:
        with system.request(wish("hi")) as request:
            assert (await request.answer()).text == "hi"
        assert request.provider == "good"
        assert request.attempts == 2
        types = await types_of(system)
        assert [each for each in types if each.startswith(("Attempt", "Request"))] == [
            "RequestAccepted", "AttemptStarted", "AttemptFailed", "AttemptStarted", "AttemptSucceeded", "RequestCompleted",
        ]  # fmt: skip
        assert "LoginExpired" in types
        assert not system.health().providers["bad"].available


async def test_after_the_first_chunk_there_is_no_other_route(tmp_path, virtual_time):
    """A cut answer is a failed request: chunks of two providers are never mixed."""
    providers = {"bad": scripted("chunks=5,fail=garbled,after=3", weight=1), "good": scripted(weight=0)}
    async with open_house(tmp_path, providers) as system:
        with system.request(wish("hi")) as request:
            chunks = []
            with pytest.raises(ProviderFailure) as caught:
                while ready := await request.receive():
                    chunks += ready
        assert len(chunks) == 3
        assert caught.value.kind == "garbled"
        assert await types_of(system) == ["RequestAccepted", "AttemptStarted", "AttemptFailed", "RequestFailed"]
        assert (await facts_of(system, AttemptFailed))[0].chunks == 3
        assert (await facts_of(system, RequestFailed))[0].blame == "provider"


async def test_a_retry_waits_exponentially_and_no_longer(tmp_path, virtual_time):
    providers = {"flaky": scripted("fail=overloaded,times=3")}
    async with open_house(tmp_path, providers) as system:
        began = trio.current_time()
        with system.request(wish("hi", tries=4)) as request:
            assert (await request.answer()).text
        took = trio.current_time() - began
        assert 7.0 <= took <= 7.0 * 1.1 + 0.1  # 1 s, 2 s, 4 s, each plus up to 10 %
        assert request.attempts == 4


async def test_a_client_may_ask_for_a_single_try(tmp_path, virtual_time):
    async with open_house(tmp_path, {"flaky": scripted("fail=overloaded,times=1")}) as system:
        with system.request(wish("hi", tries=1)) as request, pytest.raises(ProviderFailure):
            await request.answer()
        assert request.attempts == 1


async def test_what_cannot_succeed_is_tried_once(tmp_path, virtual_time):
    """v3 retried failures that no retry can mend."""
    async with open_house(tmp_path, {"one": scripted("fail=invalid_request")}) as system:
        with system.request(wish("hi", tries=5)) as request, pytest.raises(ProviderFailure) as caught:
            await request.answer()
        assert (caught.value.status, request.attempts) == (400, 1)


async def test_a_long_answer_that_is_read_late_is_handed_out_in_pieces_and_others_run_between_them(
    tmp_path, virtual_time
):
    """Else whoever does not read for a while, or finds a long answer in the cache, would hold the whole gateway up."""
    turns = 0

    async def others():
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with open_house(tmp_path, {"one": scripted("say=on+and,chunks=2000")}) as system:
        with system.request(wish()) as request:
            await request.over()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(others)
                sizes = []
                while chunks := await request.receive():
                    sizes.append(len(chunks))
                nursery.cancel_scope.cancel()
            assert sizes == [READY_MAX] * 7 + [2000 - 7 * READY_MAX, 1]
            assert turns >= 4  # seven checkpoints, and whose turn it is at one is a matter of chance


async def test_a_spent_quota_rests_until_it_resets_and_is_then_tried_once(tmp_path, virtual_time):
    """v3 defect 7: the reset time was ignored and every request paid for a failing call."""
    providers = {"spent": scripted("fail=quota_exhausted,resets=3600,times=1", weight=1), "other": scripted(weight=0)}
    async with open_house(tmp_path, providers) as system:
        with system.request(wish("one")) as request:
            await request.answer()
        assert request.provider == "other"
        (exhausted,) = await facts_of(system, QuotaExhausted)
        assert exhausted.until == pytest.approx(system.clock.now() + 3_600_000, abs=2000)
        assert system.health().providers["spent"].cooldown_until == exhausted.until
        with system.request(wish("two")) as request:
            await request.answer()
        assert (request.provider, request.attempts) == ("other", 1)
        await trio.sleep(3601)
        with system.request(wish("three")) as request:
            await request.answer()
        assert request.provider == "spent"
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(await facts_of(system, ProviderRestored)) == 1
        assert system.health().providers["spent"].cooldown_until is None


async def test_while_one_request_probes_the_others_do_not(tmp_path, virtual_time):
    providers = {
        "spent": scripted("fail=quota_exhausted,resets=10,times=1", weight=1),
        "other": scripted("delay=1000", weight=0),
    }
    async with open_house(tmp_path, providers) as system:
        with system.request(wish("one")) as request:
            await request.answer()
        await trio.sleep(11)
        requests = [system.request(wish(f"at once {number}")) for number in range(5)]
        for request in requests:
            await request.answer()
        assert Counter(request.provider for request in requests) == {"spent": 1, "other": 4}


async def test_when_nobody_is_left_the_client_hears_why_and_when(tmp_path, virtual_time):
    providers = {"spent": scripted("fail=quota_exhausted,resets=60")}
    async with open_house(tmp_path, providers) as system:
        with system.request(wish("one")) as request, pytest.raises(ProviderFailure) as failed:
            await request.answer()
        assert failed.value.status == 429
        assert failed.value.retry_after_ms == pytest.approx(60_000, abs=1000)
        with pytest.raises(NoRoute) as refused:
            system.request(wish("two"))
        assert refused.value.status == 429
        assert refused.value.retry_after_ms == pytest.approx(60_000, abs=1000)
        assert [entry.provider for entry in refused.value.excluded] == ["spent"]
        assert len(await facts_of(system, RequestAccepted)) == 1


async def test_when_every_route_fails_the_reason_of_each_is_told(tmp_path, virtual_time):
    providers = {"a": scripted("fail=model_not_found"), "b": scripted("fail=quota_exhausted")}
    async with open_house(tmp_path, providers) as system:
        with system.request(wish("one")) as request, pytest.raises(NoRoute) as caught:
            await request.answer()
        assert caught.value.status == 503
        assert {(entry.provider, entry.reason) for entry in caught.value.excluded} == {
            ("a", "model_not_found"),
            ("b", "quota_exhausted"),
        }


async def test_v3_8_streams_fall_back_too(tmp_path, virtual_time):
    providers = {"bad": scripted("fail=rate_limited,retry=30", weight=1), "good": scripted(weight=0)}
    async with open_house(tmp_path, providers) as system:
        with system.request(wish("hi you", stream=True)) as request:
            await request.started()
            chunks = []
            while ready := await request.receive():
                chunks += ready
        assert [chunk.text for chunk in chunks if isinstance(chunk, TextDelta)] != []
        assert isinstance(chunks[-1], Finish)
        assert request.provider == "good"
        (cooled,) = await facts_of(system, ProviderCooled)
        assert cooled.kind == "rate_limited"


async def test_v3_6_a_failure_is_never_cached(tmp_path, virtual_time):
    async with open_house(tmp_path, {"one": scripted("fail=garbled,times=1")}) as system:
        with system.request(wish("hi", use_cache=True)) as request, pytest.raises(ProviderFailure):
            await request.answer()
        with system.request(wish("hi", use_cache=True)) as request:
            assert (await request.answer()).text
        assert request.source == "flight"


async def test_an_equal_wish_is_answered_from_the_cache_without_an_attempt(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        with system.request(wish("hi there", use_cache=True)) as first:
            answer = await first.answer()
        with system.request(wish("hi there", use_cache=True)) as second:
            assert await second.answer() == answer
        assert second.source == "cache"
        assert second.provider == first.provider
        assert (await types_of(system))[4:] == ["RequestAccepted", "RequestCompleted"]
        completed = await facts_of(system, RequestCompleted)
        assert [each.usage.total_tokens > 0 for each in completed] == [True, False]
        assert system.health().cache.hits == 1


async def test_v3_16_another_temperature_or_tenant_is_another_answer(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        first = wish("hi there", use_cache=True)
        hotter = msgspec.structs.replace(first.prompt, sampling=Sampling(temperature=1.0))
        others = [
            first,
            msgspec.structs.replace(first, prompt=hotter),
            msgspec.structs.replace(first, principal=Principal("k", "u", "another project")),
        ]
        for each in others:
            with system.request(each) as request:
                await request.answer()
            assert request.source == "flight"


async def test_v3_18_equal_wishes_at_the_same_time_share_one_flight(tmp_path, virtual_time):
    async with open_house(tmp_path, {"one": scripted("echo,delay=500")}) as system:
        requests = [system.request(wish("same", use_cache=True)) for _ in range(20)]
        answers = []
        for request in requests:
            answers.append(await request.answer())
        assert len({answer.text for answer in answers}) == 1
        assert len(await facts_of(system, AttemptStarted)) == 1
        completed = await facts_of(system, RequestCompleted)
        assert Counter(each.source for each in completed) == {"flight": 1, "joined": 19}
        assert sum(each.usage.output_tokens for each in completed) == completed[0].usage.output_tokens
        assert not system.facts.requests.open


async def test_nobody_joins_a_flight_that_is_being_cancelled(tmp_path, virtual_time, monkeypatch):
    """Ctrl-C, and the same prompt again: the second request must not inherit the end of the first."""
    async with open_house(tmp_path, {"one": scripted("echo,delay=2000")}) as system:
        first = system.request(wish("same", use_cache=True))
        await trio.sleep(1)
        first.leave()
        second = system.request(wish("same", use_cache=True))
        assert (await second.answer()).text == "same"
        assert second.source == "flight"


async def test_leaving_in_the_tick_of_the_start_keeps_the_order_of_facts(tmp_path, virtual_time):
    async with open_house(tmp_path, {"one": scripted("echo,delay=10")}) as system:
        for number in range(20):
            first = system.request(wish(f"same {number}", use_cache=True))
            second = system.request(wish(f"same {number}", use_cache=True))
            first.leave()
            assert (await second.answer()).text
        await trio.sleep(1)
        seen = {}
        for event in await log_of(system):
            if event.category == "request":
                seen.setdefault(event.correlation_id, []).append(event.type)
        assert len(seen) == 40
        for types in seen.values():
            assert types[0] == "RequestAccepted"
            assert len([each for each in types if each in ENDS]) == 1
        assert not system.facts.requests.open


async def test_everybody_who_shares_a_flight_has_a_deadline_of_their_own(tmp_path, virtual_time):
    async with open_house(tmp_path, {"one": scripted("echo,delay=3000")}) as system:
        hasty = system.request(wish("same", use_cache=True, timeout_ms=1000))
        patient = system.request(wish("same", use_cache=True))
        hastier = system.request(wish("same", use_cache=True, timeout_ms=300))
        began = trio.current_time()
        for request, seconds in ((hastier, 0.3), (hasty, 1)):
            with pytest.raises(ProviderFailure) as caught:
                await request.answer()
            assert (caught.value.kind, caught.value.phase) == ("timed_out", "total")
            assert trio.current_time() - began == pytest.approx(seconds, abs=0.1)
        assert (await patient.answer()).text == "same"
        assert patient.source == "joined"
        assert len(await facts_of(system, AttemptStarted)) == 1
        assert len(await facts_of(system, RequestFailed)) == 2
        assert not system.facts.requests.open


async def test_a_long_answer_after_a_rest_does_not_keep_the_others_waiting(tmp_path, virtual_time):
    providers = {"one": scripted("fail=overloaded,times=2,chunks=5,gap=2000")}
    async with open_house(tmp_path, providers) as system:
        with system.request(wish("one")) as request, pytest.raises(ProviderFailure):
            await request.answer()
        await trio.sleep(11)
        probe = system.request(wish("two"))
        await probe.started()
        await trio.testing.wait_all_tasks_blocked(0.05)
        with system.request(wish("three")) as request:
            await request.started()
        assert (await probe.answer()).text


async def test_a_full_queue_here_is_no_reason_to_wait_when_there_are_other_routes(tmp_path, virtual_time):
    providers = {"busy": scripted("hang", weight=1, concurrency=1), "free": scripted(weight=0)}
    async with open_house(tmp_path, providers) as system:
        blocking = system.request(wish("first"))
        await trio.sleep(0.1)
        began = trio.current_time()
        with system.request(wish("second")) as request:
            await request.answer()
        assert request.provider == "free"
        assert trio.current_time() - began == pytest.approx(1, abs=0.2)
        blocking.leave()


async def test_a_terminal_fact_waits_for_a_store_in_trouble(tmp_path, virtual_time, monkeypatch):
    async with open_house(tmp_path, {"one": scripted("echo,delay=500")}) as system:
        real, failures = system.journal._store.append, 2

        async def busy(batch):
            nonlocal failures
            if (
                any(event.fact.__class__ is RequestCompleted for append in batch for event in append.events)
                and failures
            ):
                failures -= 1
                raise StoreFailure("The event log is busy.")
            return await real(batch)

        monkeypatch.setattr(system.journal._store, "append", busy)
        with system.request(wish("hi")) as request:
            assert (await request.answer()).text == "hi"
        assert await types_of(system) == DIRECT
        assert not system.facts.requests.open


async def test_a_beginning_whose_outcome_stays_unknown_is_found_out_at_the_end(tmp_path, virtual_time, monkeypatch):
    async with open_house(tmp_path, {"one": scripted("echo")}) as system:
        real, unheard = system.journal._store.append, 2

        async def lost(batch):
            nonlocal unheard
            outcome = await real(batch)
            if unheard:
                unheard -= 1
                raise OutcomeUnknown("lost")
            return outcome

        monkeypatch.setattr(system.journal._store, "append", lost)
        with system.request(wish("hi")) as request, pytest.raises(OutcomeUnknown):
            await request.answer()
        assert await types_of(system) == ["RequestAccepted", "AttemptStarted", "AttemptCancelled", "RequestFailed"]
        assert not system.facts.requests.open
        assert not system.facts.requests.attempts


async def test_a_request_whose_joining_stays_unknown_has_an_end_too(tmp_path, virtual_time, monkeypatch):
    async with open_house(tmp_path, {"one": scripted("echo,delay=1000")}) as system:
        first = system.request(wish("same", use_cache=True))
        await trio.sleep(0.3)
        real, unheard = system.journal._store.append, 2

        async def lost(batch):
            nonlocal unheard
            outcome = await real(batch)
            if unheard:
                unheard -= 1
                raise OutcomeUnknown("lost")
            return outcome

        monkeypatch.setattr(system.journal._store, "append", lost)
        second = system.request(wish("same", use_cache=True))
        assert second.source == "joined"
        with pytest.raises(OutcomeUnknown):
            await second.answer()
        assert (await first.answer()).text == "same"
        assert [fact.code for fact in await facts_of(system, RequestFailed)] == ["outcome_unknown"]
        assert not system.facts.requests.open


async def test_a_flight_goes_on_when_the_one_who_started_it_leaves(tmp_path, virtual_time):
    async with open_house(tmp_path, {"one": scripted("echo,delay=1000")}) as system:
        first = system.request(wish("same", use_cache=True))
        second = system.request(wish("same", use_cache=True))
        await trio.sleep(0.3)
        first.leave()
        assert (await second.answer()).text == "same"
        assert len(await facts_of(system, RequestCancelled)) == 1
        assert len(await facts_of(system, AttemptSucceeded)) == 1
        flights = [each.flight for each in await facts_of(system, RequestAccepted)]  # trio starts them in either order
        assert sorted(flights) == ["", first.id]


async def test_a_client_that_leaves_cancels_the_attempt(tmp_path, virtual_time):
    """v3 defect 9: the provider went on, and the request was counted as active for ever."""
    async with open_house(tmp_path, {"one": scripted("hang")}) as system:
        request = system.request(wish("hi"))
        await trio.sleep(1)
        assert system.active_requests == 1
        request.leave()
        request.leave()
        await trio.sleep(0.1)
        assert system.active_requests == 0
        assert await types_of(system) == ["RequestAccepted", "AttemptStarted", "AttemptCancelled", "RequestCancelled"]
        assert system.providers["one"].slots()["default"].running == 0


@pytest.mark.parametrize("steps", range(0, 60, 2))
async def test_leaving_at_any_moment_leaves_no_work_behind(tmp_path, virtual_time, steps):
    async with open_house(tmp_path, {"one": scripted("hang", concurrency=2)}) as system:
        requests = [system.request(wish(f"hi {number}")) for number in range(3)]
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        for request in requests:
            request.leave()
        await trio.sleep(0.5)
        slots = system.providers["one"].slots()["default"]
        assert (slots.running, slots.queued) == (0, 0)
        assert not system.facts.requests.open
        assert not system.facts.requests.attempts
        assert system.active_requests == 0


@pytest.mark.parametrize("steps", range(12))
async def test_leaving_at_any_moment_leaves_exactly_one_terminal_fact(tmp_path, virtual_time, steps):
    async with open_house(tmp_path, {"one": scripted("echo,gap=1,chunks=4")}) as system:
        request = system.request(wish("hi"))
        for _ in range(steps * 3):
            await trio.lowlevel.checkpoint()
        request.leave()
        await trio.sleep(1)
        ends = [
            each for each in await types_of(system) if each in ("RequestCompleted", "RequestCancelled", "RequestFailed")
        ]
        assert len(ends) == 1
        assert not system.facts.requests.open
        assert not system.facts.requests.attempts


async def test_a_silent_provider_is_timed_out_and_passed_over(tmp_path, virtual_time):
    providers = {"dead": scripted("hang", weight=1, first_byte_ms_max=5_000), "good": scripted(weight=0)}
    async with open_house(tmp_path, providers) as system:
        began = trio.current_time()
        with system.request(wish("hi")) as request:
            assert (await request.answer()).text
        assert trio.current_time() - began == pytest.approx(5, abs=0.5)
        (failed,) = await facts_of(system, AttemptFailed)
        assert (failed.kind, failed.phase) == ("timed_out", "first_byte")


async def test_a_stream_that_falls_silent_is_timed_out(tmp_path, virtual_time):
    providers = {"slow": scripted("chunks=3,gap=60000", idle_ms_max=2_000)}
    async with open_house(tmp_path, providers) as system:
        with system.request(wish("hi")) as request, pytest.raises(ProviderFailure) as caught:
            await request.answer()
        assert (caught.value.kind, caught.value.phase) == ("timed_out", "idle")
        assert caught.value.status == 504


async def test_a_request_ends_at_its_own_deadline(tmp_path, virtual_time):
    async with open_house(tmp_path, {"dead": scripted("hang")}) as system:
        began = trio.current_time()
        with system.request(wish("hi", timeout_ms=3_000)) as request, pytest.raises(ProviderFailure) as caught:
            await request.answer()
        assert trio.current_time() - began == pytest.approx(3, abs=0.5)
        assert caught.value.phase == "total"
        assert await types_of(system) == ["RequestAccepted", "AttemptStarted", "AttemptFailed", "RequestFailed"]


async def test_more_than_the_queue_holds_is_refused(tmp_path, virtual_time):
    limits = Limits(provider_queue_max=2)
    async with open_house(tmp_path, {"one": scripted("hang", concurrency=1)}, limits=limits) as system:
        requests = [system.request(wish(f"{number}")) for number in range(3)]
        await trio.sleep(0.1)
        with system.request(wish("one too many")) as request, pytest.raises(ProviderFailure) as caught:
            await request.answer()
        assert caught.value.status == 503
        assert not await facts_of(system, ProviderCooled)
        for request in requests:
            request.leave()


async def test_flights_are_bounded(tmp_path, virtual_time):
    async with open_house(tmp_path, {"one": scripted("hang")}, limits=Limits(flights_max=1)) as system:
        with system.request(wish("one")), pytest.raises(Overloaded):
            system.request(wish("two"))


# --- restarts --------------------------------------------------------------------------------------------------------


async def test_a_restart_rebuilds_the_same_facts(tmp_path, virtual_time):
    """v3 defect 31: everything was lost at a restart."""
    settings = house_settings(
        tmp_path, {"spent": scripted("fail=quota_exhausted,resets=9999", weight=1), "good": scripted(weight=0)}
    )
    async with open_system(settings, SeededClock(), environ={}) as system:
        for number in range(3):
            with system.request(wish(f"hi {number}")) as request:
                await request.answer()
    async with open_reader(settings.data_dir, settings.limits) as reader:
        stopped = plain(await replay(reader, page=2))
        assert (await verify(reader)).head.position == stopped["position"]
    async with open_system(settings, SeededClock(1), environ={}) as system:
        restarted = plain(system.facts)
        assert system.health().providers["spent"].cooldown_until is not None
    for changing in ("position", "gateway"):
        stopped.pop(changing), restarted.pop(changing)
    assert stopped == restarted


async def test_cancelled_from_outside_the_house_falls_at_once_and_the_next_start_cleans_up(tmp_path):
    settings = house_settings(tmp_path, {"one": scripted("hang")})
    with trio.fail_after(20), trio.CancelScope() as crash:
        async with open_system(settings, SeededClock(), environ={}) as system:
            system.request(wish("hi"))
            while system.active_requests == 0:
                await trio.sleep(0.01)
            crash.cancel()
            await trio.sleep_forever()
    async with open_system(settings, SeededClock(1), environ={}) as system:
        assert system.active_requests == 0
        assert not system.facts.requests.attempts
        assert (await types_of(system))[-1] == "RequestAbandoned"


async def test_a_stop_ends_what_is_under_way_and_says_so(tmp_path, virtual_time):
    settings = house_settings(tmp_path, {"one": scripted("hang")})
    async with open_system(settings, SeededClock(), environ={}) as system:
        request = system.request(wish("hi"))
        await trio.sleep(0.5)
    with pytest.raises(ShuttingDown):
        await request.answer()
    with pytest.raises(ShuttingDown):
        system.request(wish("late"))
    async with open_reader(settings.data_dir, settings.limits) as reader:
        events = await reader.read(limit=100)
    assert [event.type for event in events][-4:] == [
        "AttemptCancelled",
        "RequestCancelled",
        "SnapshotTaken",
        "GatewayStopped",
    ]
    assert events[-3].fact.by == "gateway"


async def test_a_second_gateway_on_the_same_data_refuses_to_start(tmp_path):
    settings = house_settings(tmp_path)
    async with open_system(settings, SeededClock(), environ={}):
        with pytest.raises(DirectoryInUse):
            async with open_system(settings, SeededClock(), environ={}):
                raise AssertionError("two gateways on one log")
