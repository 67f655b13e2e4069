"""The contract of every adapter (llmux/providers/adapter.py), asked of all five alike, with the real programs."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trio

from llmux.clock import SystemClock
from llmux.config.settings import ABILITIES
from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Chunk, Finish, Sampling, embed, numbers_of
from llmux.providers.adapter import Call
from tests.contracts.rigs import CUT, KINDS, QUOTA, Rig
from tests.contracts.served import Served
from tests.providers.hearing import Heard

TEXT = "Grüße aus 東京 🗼, naïve Ωμέγα:\n\n  zwei Leerzeichen, 'quotes', \"more\", \\n, <b> & $HOME. Ende"


def until(condition: Callable[[], bool]) -> None:
    """Waits until something is so; at most 20 s."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def answers_well(at_work: Served, text: str = "Well again.") -> None:
    at_work.rig.put("answer", text)
    assert at_work.ask(text).answer.text == text
    until(lambda: at_work.adapter.statistics().busy == 0)


# --- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 9])
def test_the_chunks_add_up_to_what_the_upstream_said_and_the_only_finish_is_last(at_work: Served, pieces: int) -> None:
    at_work.rig.put("answer", TEXT, pieces)
    heard = at_work.ask(TEXT)
    assert heard.text == TEXT
    assert [isinstance(chunk, Finish) for chunk in heard.chunks] == [False] * (len(heard.chunks) - 1) + [True]
    assert heard.answer.finish.reason == "stop"
    assert all(chunk.text for chunk in heard.chunks[:-1])


def test_the_usage_is_the_upstreams_own_count(at_work: Served) -> None:
    at_work.rig.put("answer", TEXT, 3)
    assert at_work.ask(TEXT).answer.finish.usage == at_work.rig.usage(TEXT, 3)


@pytest.mark.rigs_with("standing_in")
def test_one_answer_is_one_model_call(at_work: Served) -> None:
    answers_well(at_work)
    assert len(at_work.rig.calls()) == 1


@pytest.mark.rigs_with("standing_in")
def test_a_strict_prompt_is_refused_before_anything_is_asked_where_a_wish_would_be_left_out(at_work: Served) -> None:
    """Without that it is answered, and what was left out is named."""
    wishes = Sampling(temperature=0.3, top_p=0.9, seed=7, max_tokens=500)
    for strict in (False, True):
        at_work.rig.put("answer", "Well.")
        call = at_work.rig.call("Well.")
        call = msgspec.structs.replace(
            call, prompt=msgspec.structs.replace(call.prompt, sampling=wishes, strict=strict)
        )
        heard = Heard()
        if not strict:
            at_work.run(at_work.adapter.answer, call, heard.emit, heard.report)
            ignored = heard.answer.finish.ignored
        elif ignored:
            with pytest.raises(ProviderFailure) as caught:
                at_work.run(at_work.adapter.answer, call, heard.emit, heard.report)
            assert caught.value.kind is Kind.UNSUPPORTED
            assert all(name in str(caught.value) for name in ignored)
            assert not heard.chunks
            assert not at_work.rig.calls()
        else:
            at_work.run(at_work.adapter.answer, call, heard.emit, heard.report)
            assert heard.text == "Well."


def test_an_embedding_is_one_vector_for_each_text_or_refused_before_anything_is_asked(at_work: Served) -> None:
    at_work.rig.put("answer", "Well.")
    heard, model = Heard(), at_work.rig.call("").upstream_model
    call = Call(embed("eins", "zwei zwei"), model, model)
    if "embedding" in ABILITIES[at_work.rig.name]:
        at_work.run(at_work.adapter.answer, call, heard.emit, heard.report)
        answer = heard.answer
        assert [len(numbers_of(vector)) for vector in answer.vectors] == [len(answer.vectors[0]) // 4] * 2
        assert answer.vectors[0] != answer.vectors[1]
        assert answer.text == ""
        assert answer.finish.usage.input_tokens > 0
    else:
        with pytest.raises(ProviderFailure) as caught:
            at_work.run(at_work.adapter.answer, call, heard.emit, heard.report)
        assert caught.value.kind is Kind.UNSUPPORTED
        assert heard.chunks == []
        assert at_work.rig.calls() == []


def test_a_slow_reader_gets_every_chunk_in_order(at_work: Served) -> None:
    class Slow(Heard):
        async def emit(self, chunk: Chunk) -> None:
            await trio.sleep(0.01)
            await super().emit(chunk)

    text = " ".join(f"word-{number}" for number in range(40))
    at_work.rig.put("answer", text, 40)
    assert at_work.ask(text, Slow()).answer.text == text


def test_answers_at_the_same_time_do_not_mix(at_work: Served) -> None:
    at_work.rig.put("echo")
    texts = [" ".join([f"{name}-{number}" for number in range(30)]) for name in "abcd"[: at_work.rig.concurrency]]
    heard = [Heard() for _ in texts]

    async def all_at_once() -> None:
        async with trio.open_nursery() as nursery:
            for text, one in zip(texts, heard, strict=True):
                nursery.start_soon(at_work.adapter.answer, at_work.rig.call(text), one.emit, one.report)

    at_work.run(all_at_once)
    assert [one.answer.text for one in heard] == texts


# --- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("situation", KINDS)
def test_a_bad_end_is_a_failure_of_its_kind_and_the_next_answer_is_good(at_work: Served, situation: str) -> None:
    heard = Heard()
    at_work.rig.put(situation)
    failure = at_work.fail("some words of a prompt", heard)
    assert failure.kind is at_work.rig.fails[situation]
    assert failure.evidence
    assert "\n" not in str(failure)
    assert not any(isinstance(chunk, Finish) for chunk in heard.chunks)
    if situation != CUT:
        assert heard.chunks == [], "an error's text is not an answer"
    answers_well(at_work)


@pytest.mark.rigs_with("tells_reset")
def test_a_spent_quota_says_in_ms_when_it_resets(at_work: Served) -> None:
    heard = Heard()
    at_work.rig.put(QUOTA)
    failure = at_work.fail("hi", heard)
    now, day_ms = SystemClock().now(), 24 * 3_600_000
    assert failure.resets_at is not None
    assert now < failure.resets_at < now + day_ms
    assert heard.windows
    assert all(window.resets_at is None or now < window.resets_at < now + 8 * day_ms for window in heard.windows)


# --- leaving in the middle -----------------------------------------------------------------------------------------


async def cancelled_when(at_work: Served, heard: Heard, ready: Callable[[], bool]) -> None:
    """Starts an answer and cancels it once `ready()`; comes back when the adapter has let go of it."""
    call = at_work.rig.call("some words of a prompt")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(at_work.adapter.answer, call, heard.emit, heard.report)
        while not await trio.to_thread.run_sync(ready):
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


@pytest.mark.rigs_with("standing_in")
@pytest.mark.parametrize("situation", ["hang", "stall"])
def test_cancelling_before_or_after_the_first_chunk_closes_the_upstream(at_work: Served, situation: str) -> None:
    heard = Heard()
    at_work.rig.put(situation)
    begun = (lambda: bool(at_work.rig.calls())) if situation == "hang" else (lambda: bool(heard.chunks))
    at_work.run(cancelled_when, at_work, heard, begun)
    assert not any(isinstance(chunk, Finish) for chunk in heard.chunks)
    until(lambda: at_work.rig.calls()[-1]["closed_early"])
    answers_well(at_work)


def test_cancelling_while_the_reader_takes_nothing_lets_go(at_work: Served) -> None:
    class Stuck(Heard):
        async def emit(self, chunk: Chunk) -> None:
            self.chunks.append(chunk)
            await trio.sleep_forever()

    heard = Stuck()
    at_work.rig.put("answer", "some words of a prompt", 4)
    at_work.run(cancelled_when, at_work, heard, lambda: bool(heard.chunks))
    assert len(heard.chunks) == 1
    answers_well(at_work)


def test_cancelling_at_once_leaves_nothing_behind(at_work: Served) -> None:
    at_work.rig.put("answer", "some words")
    at_work.run(cancelled_when, at_work, Heard(), lambda: True)
    answers_well(at_work)


# --- is it there? --------------------------------------------------------------------------------------------------


def test_a_probe_finds_it_ready_without_a_model_call(at_work: Served) -> None:
    at_work.rig.put("answer", "x")
    readiness = at_work.run(at_work.adapter.probe)
    assert readiness.ready
    assert readiness.version
    assert at_work.rig.calls() == []


@pytest.mark.rigs_with("standing_in")
async def test_what_is_missing_is_said_with_a_sentence_and_never_raised(rig: Rig, tmp_path: Path) -> None:
    heard = Heard()
    rig.put("answer", "x")
    adapter = rig.absent(tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(adapter.serve)
        readiness = await adapter.probe()
        with pytest.raises(ProviderFailure) as caught:
            await adapter.answer(rig.call("hi"), heard.emit, heard.report)
        nursery.cancel_scope.cancel()
    assert not readiness.ready
    assert not readiness.installed
    assert readiness.sentence.endswith((".", "serve")) or ":" in readiness.sentence
    assert caught.value.kind is Kind.UNAVAILABLE
    assert heard.chunks == []
