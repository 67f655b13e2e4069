"""The same order under the same key: it joins, it is told again, it is refused; it is never carried out twice."""

import msgspec
import pytest
import trio

from llmux.actors.cached_answer import CachedAnswer
from llmux.actors.facts.idempotency import KEPT_MS
from llmux.actors.kept_answers import KeptAnswers
from llmux.actors.messages import Principal
from llmux.actors.opening import open_system
from llmux.clock import SeededClock
from llmux.config import Limits
from llmux.events import AttemptStarted, RequestAccepted, RequestCompleted
from llmux.failures import AnswerUnavailable, ClientFailure, ProviderFailure, StoreFailure
from llmux.prompts import Finish, TextDelta, Usage
from tests.actors.house import facts_of, house_settings, scripted, types_of
from tests.actors.house import wish as plain_wish

SLOW = "echo,delay=2000"
WAIT_S = 30


def open_house(tmp_path, model="echo", clock=None, **limits):
    settings = house_settings(tmp_path, {"one": scripted(model)}, limits=Limits(**limits))
    return open_system(settings, clock or SeededClock(0), environ={})


def wish(text="hello there", key="key-1", **changes):
    """A wish with an idempotency key, which here is its own digest."""
    return plain_wish(text, idempotency=key, **changes)


async def told(system, asked) -> str:
    """The text of the whole answer."""
    with system.request(asked) as request:
        return (await request.answer()).text


async def attempts(system) -> int:
    return len(await facts_of(system, AttemptStarted))


def code_of(raised) -> tuple[int, str]:
    return raised.value.status, raised.value.code


@pytest.mark.parametrize("use_cache", [False, True])
async def test_the_same_order_joins_the_one_under_way_and_reads_from_its_beginning(tmp_path, virtual_time, use_cache):
    async with open_house(tmp_path, "say=one+two+three,delay=100,gap=100") as system:
        first = system.request(wish(use_cache=use_cache))
        await first.started()
        second = system.request(wish(use_cache=use_cache, stream=True))
        assert (second.source, second.again, first.again) == ("joined", True, False)
        assert (await second.answer()).text == (await first.answer()).text == "one two three"
        assert await attempts(system) == 1
        completed = await facts_of(system, RequestCompleted)
        assert [(each.source, each.usage.total_tokens > 0) for each in completed] == [
            ("flight", True),
            ("joined", False),
        ]
        assert (await types_of(system)).count("RequestJoined") == 1
        assert [each.idempotency for each in await facts_of(system, RequestAccepted)] == ["key-1", "key-1"]


async def test_two_that_race_meet_before_the_first_fact_is_on_disk(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        requests = [system.request(wish()) for _ in range(5)]
        assert not system.facts.idempotency.keys
        assert [request.source for request in requests] == ["flight", *["joined"] * 4]
        for request in requests:
            assert (await request.answer()).text == "hello there"
        assert await attempts(system) == 1


@pytest.mark.parametrize("use_cache", [False, True])
async def test_an_answer_that_has_ended_is_told_again_and_costs_nothing(tmp_path, virtual_time, use_cache):
    async with open_house(tmp_path) as system:
        with system.request(wish(use_cache=use_cache)) as first:
            answer = await first.answer()
            again = system.request(wish(use_cache=use_cache))  # in the tick in which it ended
        for _ in range(2):
            assert (again.source, again.again) == ("cache", True)
            assert await again.answer() == answer
            assert again.id != first.id
            again = system.request(wish(use_cache=use_cache))
        await again.over()
        assert await attempts(system) == 1
        last = (await facts_of(system, RequestCompleted))[-1]
        assert (last.source, last.usage.total_tokens) == ("cache", 0)
        assert (await facts_of(system, RequestAccepted))[-1].cache == "hit"


async def test_another_order_under_the_same_key_is_refused_at_every_stage(tmp_path, virtual_time):
    async with open_house(tmp_path, SLOW) as system:
        first = system.request(wish())
        for _ in range(3):  # before its first fact, under way, and after its end
            with pytest.raises(ClientFailure) as raised:
                system.request(wish("something else"))
            assert code_of(raised) == (422, "idempotency_key_reused")
            await trio.sleep(1)
        await first.over()
        with pytest.raises(ClientFailure):
            system.request(wish("something else"))
        assert await attempts(system) == 1


async def test_how_it_is_told_makes_no_other_order_but_the_model_does(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        await told(system, wish())
        for changes in (
            {"stream": True},
            {"endpoint": "/v1/chat/completions"},
            {"timeout_ms": 5000},
            {"use_cache": True},
        ):
            assert await told(system, wish(**changes)) == "hello there"
        with pytest.raises(ClientFailure):
            system.request(wish(model="say=hi"))
        assert await attempts(system) == 1


async def test_keys_are_the_principals_own(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        await told(system, wish())
        assert await told(system, wish("mine", principal=Principal("k2"))) == "mine"
        assert await told(system, wish(key="key-2")) == "hello there"
        assert await attempts(system) == 3


async def test_a_key_whose_request_failed_is_free_for_anything(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        for _ in range(2):
            failing = wish(model="fail=rate_limited,retry=1,times=9", tries=1)
            with system.request(failing) as request, pytest.raises(ProviderFailure):
                await request.answer()
            await trio.sleep(2)
        assert not system.facts.idempotency.keys
        assert await told(system, wish("another")) == "another"
        assert await attempts(system) == 3


async def test_a_store_that_refuses_the_beginning_leaves_the_key_free(tmp_path, virtual_time, monkeypatch):
    async with open_house(tmp_path) as system:
        store = system.journal._store
        append = store.append

        async def refuse(*_):
            raise StoreFailure("The disk is gone.")

        monkeypatch.setattr(store, "append", refuse)
        with system.request(wish()) as request, pytest.raises(StoreFailure):
            await request.answer()
        monkeypatch.setattr(store, "append", append)
        await trio.sleep(10)
        assert await told(system, wish("another")) == "another"


async def test_a_client_that_comes_back_in_time_joins_its_own_request(tmp_path, virtual_time):
    async with open_house(tmp_path, "say=one+two,delay=20000") as system:
        with system.request(wish()) as first:
            await trio.sleep(1)
        await trio.sleep(10)
        with system.request(wish()) as second:
            assert (await second.answer()).text == "one two"
        assert (first.source, second.source) == ("flight", "joined")
        assert await attempts(system) == 1
        assert (await types_of(system)).count("RequestCompleted") == 2


async def test_a_client_that_comes_back_after_the_end_is_told_it(tmp_path, virtual_time):
    async with open_house(tmp_path, SLOW) as system:
        with system.request(wish()):
            await trio.sleep(1)
        await trio.sleep(600)
        with system.request(wish()) as second:
            assert (await second.answer()).text == "hello there"
        assert second.source == "cache"


async def test_a_client_that_does_not_come_back_has_its_request_cancelled_and_its_key_freed(tmp_path, virtual_time):
    async with open_house(tmp_path, "echo,delay=50000") as system:
        with system.request(wish()):
            await trio.sleep(1)
        await trio.sleep(WAIT_S - 1)
        assert system.idempotency.statistics().waiting == 1
        assert "RequestCancelled" not in await types_of(system)
        await trio.sleep(2)
        assert (await types_of(system))[-1] == "RequestCancelled"
        assert system.idempotency.statistics() == msgspec.convert(
            {"claims": 0, "waiting": 0, "answers": 0, "bytes": 0}, type(system.idempotency.statistics())
        )
        assert not system.facts.idempotency.keys
        assert await told(system, wish("anything")) == "anything"


async def test_only_so_many_wait_for_their_clients(tmp_path, virtual_time):
    async with open_house(tmp_path, "echo,delay=5000", idempotency_waiting_max=1) as system:
        for number in range(2):
            with system.request(wish(key=f"key-{number}")):
                await trio.sleep(0.1)
        await trio.sleep(0.1)
        assert (await types_of(system)).count("RequestCancelled") == 1


async def test_who_joined_keeps_the_key_when_the_first_one_is_gone(tmp_path, virtual_time):
    """The first is cancelled and the second completes: the key stands for what was given."""
    async with open_house(tmp_path, "echo,delay=5000", idempotency_wait_ms_max=0) as system:
        with system.request(wish()):
            await trio.sleep(1)
            second = system.request(wish())
            await trio.sleep(1)
        await trio.sleep(1)
        assert (await types_of(system))[-1] == "RequestCancelled"
        third = system.request(wish())
        assert third.source == "joined"
        assert (await second.answer()).text == (await third.answer()).text == "hello there"
        assert await told(system, wish()) == "hello there"
        assert await attempts(system) == 1
        assert not system.facts.idempotency.open


async def test_right_after_a_cancellation_the_key_runs_anew(tmp_path, virtual_time):
    """Before the cancellation is on disk: the later request has the key, whatever the end of the earlier one says."""
    async with open_house(tmp_path, SLOW, idempotency_wait_ms_max=0) as system:
        with system.request(wish()):
            await trio.sleep(1)
        again = system.request(wish("another"))
        assert again.source == "flight"
        await trio.sleep(1)
        assert "RequestCancelled" in await types_of(system)
        assert system.request(wish("another")).source == "joined"
        assert (await again.answer()).text == "another"
        assert await told(system, wish("another")) == "another"
        assert await attempts(system) == 2


async def test_asking_again_while_the_end_is_being_written_pays_once(tmp_path, virtual_time, monkeypatch):
    """Then nobody else may join any more; and a client that leaves then has its answer in the log all the same."""
    async with open_house(tmp_path, idempotency_wait_ms_max=0) as system:
        journal = system.journal
        append_end = journal.append_end
        again = []

        async def asked_before_and_after(*events):
            monkeypatch.setattr(journal, "append_end", append_end)
            again.append(system.request(wish()))
            first.leave()
            again.append(system.request(wish()))
            await append_end(*events)
            again.append(system.request(wish()))

        monkeypatch.setattr(journal, "append_end", asked_before_and_after)
        first = system.request(wish())
        await first.over()
        for each in (*again, system.request(wish())):
            assert (await each.answer()).text == "hello there"
        assert [each.source for each in again] == ["joined"] * 3
        assert await attempts(system) == 1
        ends = await types_of(system)
        assert ends.count("RequestCompleted") == 5
        assert not system.facts.idempotency.open
        assert not system.facts.requests.open


async def test_an_answer_that_is_gone_is_409_until_the_day_is_over(tmp_path, virtual_time):
    async with open_house(tmp_path, idempotency_answer_ms_max=60_000) as system:
        with system.request(wish()) as first:
            await first.answer()
        await trio.sleep(61)
        with pytest.raises(AnswerUnavailable, match=first.id) as raised:
            system.request(wish())
        assert code_of(raised) == (409, "answer_unavailable")
        assert await attempts(system) == 1


async def test_the_cache_may_still_have_what_was_asked_with_it(tmp_path, virtual_time):
    async with open_house(tmp_path, idempotency_answers_max=0) as system:
        await told(system, wish(use_cache=True))
        assert await told(system, wish(use_cache=True)) == "hello there"
        with pytest.raises(AnswerUnavailable):
            system.request(wish(use_cache=False))


async def test_a_restart_knows_what_was_carried_out_and_runs_anew_what_was_not(tmp_path, virtual_time):
    clock = SeededClock(0)
    async with open_house(tmp_path, clock=clock) as system:
        await told(system, wish("done", "done"))
        system.request(wish("open", "open", model="hang"))
        await trio.sleep(1)
    async with open_house(tmp_path, clock=clock) as system:
        with pytest.raises(AnswerUnavailable):
            system.request(wish("done", "done"))
        with pytest.raises(ClientFailure) as raised:
            system.request(wish("other", "done"))
        assert code_of(raised) == (422, "idempotency_key_reused")
        assert await told(system, wish("open", "open")) == "open"


async def test_after_a_day_a_key_is_free(tmp_path, virtual_time, monkeypatch):
    async with open_house(tmp_path) as system:
        await told(system, wish())
        (known,) = system.facts.idempotency.keys.values()
        monkeypatch.setattr(type(system.clock), "now", lambda _: known.until)
        assert await told(system, wish("another")) == "another"
        (later,) = system.facts.idempotency.keys.values()
        assert later.until == known.until + KEPT_MS


async def test_the_log_holds_a_digest_that_needs_the_secret(tmp_path, virtual_time):
    async with open_house(tmp_path) as system:
        digest = system.idempotency.digest("a key of mine")
        assert len(digest) == 32
        assert digest != system.idempotency.digest("another key")
    async with open_system(
        house_settings(tmp_path / "other", secret="another secret for tests"), SeededClock(0), environ={}
    ) as system:
        assert system.idempotency.digest("a key of mine") != digest


async def test_kept_answers_are_bounded_in_number_size_and_time(autojump_clock):
    limits = Limits(idempotency_answers_max=3, idempotency_bytes_max=2_000, idempotency_answer_ms_max=10_000)
    kept = KeptAnswers(limits, SeededClock(0))

    def answer(length: int) -> CachedAnswer:
        return CachedAnswer("one", "default", "m", (TextDelta("x" * length), Finish("stop", Usage())))

    for number in range(5):
        kept.keep(f"k{number}", "f", answer(10))
    assert [bool(kept.look(f"k{number}", "f")) for number in range(5)] == [False, False, True, True, True]
    assert kept.look("k4", "another order") is None
    kept.keep("large", "f", answer(1_500))
    assert kept.look("large", "f")
    assert kept.bytes <= 2_000
    kept.keep("too large", "f", answer(2_001))
    assert kept.look("too large", "f") is None
    await trio.sleep(10)
    assert kept.look("large", "f") is None
    assert (len(kept), kept.bytes) == (0, 0)
