"""What the notifications of a turn add up to, from recordings of the real Codex."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Chunk, Finish, ReasoningDelta, TextDelta, Usage, answer_of
from llmux.providers.codex.turn import Turn, Wordless

RECORDINGS = Path(__file__).parent / "recordings/codex"
TEXT = "ECHO<Say hello.> tok0 tok1 tok2 tok3 tok4 tok5 tok6 tok7 ✓end"
LIMITS = {"limitId": "codex", "primary": {"usedPercent": 100, "resetsAt": 2_000}, "secondary": None}


def play(case: str, turn: Turn) -> list[Chunk]:
    """The chunks of a recording; what was emitted before a failure stands in the exception's `chunks`."""
    chunks: list[Chunk] = []
    try:
        for line in (RECORDINGS / f"{case}.jsonl").read_text().splitlines():
            message = json.loads(line)
            chunks.extend(turn.take(message["method"], message["params"]))
    except ProviderFailure as failure:
        failure.chunks = chunks  # type: ignore[attr-defined]
        raise
    return chunks


def take(turn: Turn, method: str, /, **params: Any) -> list[Chunk]:
    return list(turn.take(method, params))


def test_a_good_answer_is_its_deltas_one_for_one_and_a_finish() -> None:
    chunks = play("ok-stream", turn := Turn("gpt-5.2-codex", ("seed",)))
    assert turn.over
    assert [chunk.text for chunk in chunks[:-1] if isinstance(chunk, TextDelta)][:3] == [
        "ECHO<Say ",
        "hello.> ",
        "tok0 ",
    ]
    assert len(chunks) == 12
    usage = Usage(input_tokens=78, output_tokens=11, cached_input_tokens=26, reasoning_tokens=2)
    assert chunks[-1] == Finish("stop", usage, "gpt-5.2-codex", ("seed",))
    assert answer_of(chunks).text == TEXT


def test_the_parts_of_a_reasoning_summary_are_paragraphs() -> None:
    turn = Turn("m")
    heard = take(turn, "item/reasoning/summaryPartAdded") + take(turn, "item/reasoning/summaryTextDelta", delta="one")
    heard += take(turn, "item/reasoning/summaryPartAdded") + take(turn, "item/reasoning/summaryTextDelta", delta="two")
    assert heard == [ReasoningDelta("one"), ReasoningDelta("\n\n"), ReasoningDelta("two")]


def test_text_that_would_come_a_second_time_is_stopped_at_the_first_sign() -> None:
    with pytest.raises(ProviderFailure) as caught:
        play("stream-cut-retried-duplicate", turn := Turn("m"))
    assert "".join(c.text for c in caught.value.chunks).count("ECHO") == 1  # type: ignore[attr-defined]
    assert not turn.over  # it still runs, and has to be interrupted


def test_a_second_answer_of_the_model_does_not_reach_anybody() -> None:
    """The model called a tool that nobody offered; Codex would ask it a second time on the same bill."""
    with pytest.raises(ProviderFailure) as caught:
        play("tool-hallucinated", turn := Turn("m"))
    assert caught.value.chunks == []  # type: ignore[attr-defined]
    assert not turn.over


USED = {"total": {"inputTokens": 5, "outputTokens": 4}}
SPEECH = [("item/started", {"item": {"type": "agentMessage"}}), ("item/agentMessage/delta", {"delta": "x"})]


def test_a_model_that_ends_without_a_message_is_interrupted_at_the_very_sign_and_once() -> None:
    turns: list[str] = []
    hears = Wordless(turns.append)
    hears("item/started", {"item": {"type": "reasoning"}})
    hears("thread/tokenUsage/updated", {"turnId": "u1", "tokenUsage": {"total": {"inputTokens": 5, "outputTokens": 0}}})
    assert turns == [], "an estimate before the answer is no end"
    for _ in range(2):
        hears("thread/tokenUsage/updated", {"turnId": "u1", "tokenUsage": USED})
        assert turns == ["u1"]


@pytest.mark.parametrize("sign", SPEECH)
def test_a_model_that_speaks_is_not_interrupted(sign: tuple[str, dict[str, Any]]) -> None:
    turns: list[str] = []
    hears = Wordless(turns.append)
    hears(*sign)
    hears("thread/tokenUsage/updated", {"turnId": "u1", "tokenUsage": USED})
    assert turns == []


def test_a_retry_before_any_text_is_no_failure() -> None:
    assert take(Turn("m"), "error", willRetry=True, error={}) == []


def test_compaction_means_that_the_context_is_too_long() -> None:
    with pytest.raises(ProviderFailure) as caught:
        take(Turn("m"), "item/started", item={"type": "contextCompaction"})
    assert caught.value.kind is Kind.CONTEXT_TOO_LONG


@pytest.mark.parametrize("deed", ["commandExecution", "fileChange", "mcpToolCall", "webSearch"])
def test_codex_that_starts_to_act_is_stopped(deed: str) -> None:
    with pytest.raises(ProviderFailure) as caught:
        take(Turn("m"), "item/started", item={"type": deed})
    assert caught.value.evidence == "codex.action"


def test_a_message_without_deltas_is_taken_whole() -> None:
    items = [{"type": "reasoning"}, {"type": "agentMessage", "text": "whole"}]
    chunks = take(Turn("m"), "turn/completed", turn={"status": "completed", "items": items})
    assert [chunk for chunk in chunks if isinstance(chunk, TextDelta)] == [TextDelta("whole")]


@pytest.mark.parametrize("items", [[], [{"type": "agentMessage", "text": ""}], None])
def test_an_empty_answer_is_a_failure(items: Any) -> None:
    with pytest.raises(ProviderFailure) as caught:
        take(Turn("m"), "turn/completed", turn={"status": "completed", "items": items})
    assert caught.value.kind is Kind.GARBLED


def test_a_filtered_answer_keeps_its_reason_and_an_empty_one_is_refused() -> None:
    error = {"codexErrorInfo": "other", "message": "Incomplete response returned, reason: content_filter"}
    spoken = Turn("m")
    take(spoken, "item/agentMessage/delta", delta="well")
    (finish,) = take(spoken, "turn/completed", turn={"status": "failed", "error": error})
    assert isinstance(finish, Finish)
    assert finish.reason == "content_filter"
    with pytest.raises(ProviderFailure) as caught:
        take(Turn("m"), "turn/completed", turn={"status": "failed", "error": error})
    assert caught.value.kind is Kind.REFUSED


def test_a_model_that_codex_chose_instead_is_named() -> None:
    turn = Turn("asked")
    take(turn, "model/rerouted", toModel="given")
    take(turn, "item/agentMessage/delta", delta="x")
    (finish,) = take(turn, "turn/completed", turn={"status": "completed"})
    assert isinstance(finish, Finish)
    assert finish.model == "given"


@pytest.mark.parametrize(
    "params",
    [
        {"delta": 7, "item": 7, "tokenUsage": 7, "rateLimits": 7, "error": 7, "toModel": 7},
        {"item": {"type": 7}, "tokenUsage": {"total": {"inputTokens": "x"}}, "rateLimits": {"primary": 7}},
        {
            "rateLimits": {
                "limitId": 7,
                "primary": {"usedPercent": "x"},
                "secondary": {"usedPercent": 5, "resetsAt": []},
            }
        },
        {},
    ],
)
def test_nonsense_in_a_notification_is_ignored(params: dict[str, Any]) -> None:
    turn = Turn("m")
    for method in (
        "item/agentMessage/delta",
        "item/started",
        "thread/tokenUsage/updated",
        "account/rateLimits/updated",
        "error",
        "model/rerouted",
        "never/heard/of",
    ):
        assert take(turn, method, **params) == []
    assert all(window.resets_at is None for window in turn.windows())


@pytest.mark.parametrize("turn", [None, [], {"status": "interrupted"}, {"status": 7}, {"status": "failed"}])
def test_an_end_that_is_none_is_a_failure(turn: Any) -> None:
    with pytest.raises(ProviderFailure):
        take(Turn("m"), "turn/completed", turn=turn)


def test_windows_of_other_limits_carry_their_name_and_model() -> None:
    turn = Turn("m")
    take(turn, "account/rateLimits/updated", rateLimits={**LIMITS, "limitId": "special", "normalModelSlug": "gpt-x"})
    (window,) = turn.windows()
    assert (window.window, window.model, window.resets_at) == ("special.primary", "gpt-x", 2_000_000)
