"""What recorded output of the real Claude Code 2.1.197 means (recordings/claude: its stdout, one file per case)."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Finish, ReasoningDelta, TextDelta
from llmux.providers.adapter import QuotaWindow
from llmux.providers.claude.reading import Reading, Step

RECORDINGS = Path(__file__).parent / "recordings" / "claude"
HELLO = "Hello from the fake API."


def lines(case: str) -> list[dict[str, Any]]:
    text = (RECORDINGS / f"{case}.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def read(said: list[dict[str, Any]], *, structured: bool = False, waited: bool = False) -> list[Step]:
    """Takes lines until the answer ends."""
    reading, steps = Reading(structured=structured, model="claude-opus-4-5", ignored=()), []
    for line in said:
        steps.append(reading.take(line, waited=waited))
        if steps[-1].finish:
            break
    return steps


def text_of(steps: list[Step]) -> str:
    return "".join(chunk.text for step in steps for chunk in step.chunks if isinstance(chunk, TextDelta))


def finish_of(steps: list[Step]) -> Finish:
    finish = steps[-1].finish
    assert finish is not None
    return finish


@pytest.mark.parametrize(
    ("name", "model_only"),
    [
        ("five_hour", False),
        ("seven_day", False),
        ("overage", False),
        ("seven_day_opus", True),
        ("seven_day_sonnet", True),
    ],
)
def test_a_limit_of_one_model_rests_that_model_only(name: str, model_only: bool) -> None:
    event = {
        "type": "rate_limit_event",
        "rate_limit_info": {"status": "rejected", "rateLimitType": name, "resetsAt": 30},
    }
    end = {"type": "result", "is_error": True, "api_error_status": 429}
    reading = Reading(structured=False, model="claude-opus-4-5", ignored=())
    (window,) = reading.take(event, waited=False).windows
    assert window.model == ("claude-opus-4-5" if model_only else "*")
    with pytest.raises(ProviderFailure) as caught:
        reading.take(end, waited=False)
    failure = caught.value
    assert (failure.kind, failure.resets_at, failure.model_only) == (Kind.QUOTA_EXHAUSTED, 30_000, model_only)


def test_a_local_length_limit_is_a_long_context() -> None:
    end = {"type": "result", "is_error": True, "api_error_status": None, "terminal_reason": "blocking_limit"}
    with pytest.raises(ProviderFailure) as caught:
        read([{"type": "assistant", "error": "invalid_request"}, end])
    assert caught.value.kind is Kind.CONTEXT_TOO_LONG


def test_windows_of_a_newer_version_are_read_and_those_of_one_model_are_its_own() -> None:
    info = {
        "status": "allowed",
        "rateLimitType": "seven_day_opus",
        "resetsAt": 30,
        "unifiedWindows": {
            "five_hour": {"utilization": 0.125, "resetsAt": 10, "status": "allowed"},
            "seven_day": {"utilization": 0.5, "resetsAt": 20, "status": "allowed_warning"},
        },
    }
    reading = Reading(structured=False, model="claude-opus-4-5", ignored=())
    step = reading.take({"type": "rate_limit_event", "rate_limit_info": info}, waited=False)
    assert step.windows == (
        QuotaWindow("five_hour", "allowed", used_percent=12, resets_at=10_000),
        QuotaWindow("seven_day", "warning", used_percent=50, resets_at=20_000),
        QuotaWindow("seven_day_opus", "allowed", model="claude-opus-4-5", resets_at=30_000),
    )


# --- made-up lines -------------------------------------------------------------------------------------------------


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "stream_event", "event": {"type": kind, **fields}}


def ends(reason: str, sequence: str | None = None) -> dict[str, Any]:
    delta = {"stop_reason": reason, "stop_sequence": sequence}
    return event("message_delta", delta=delta, usage={"output_tokens": 3})


def text(words: str) -> dict[str, Any]:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": words})


def test_talk_beside_the_json_is_not_part_of_it() -> None:
    tool = event("content_block_start", index=1, content_block={"type": "tool_use", "name": "StructuredOutput"})
    given_json = event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"a":1}'})
    steps = read([text("Here it is: "), tool, given_json, ends("tool_use")], structured=True)
    assert text_of(steps) == '{"a":1}'


def test_json_that_comes_as_plain_text_is_the_answer_all_the_same() -> None:
    assert text_of(read([text('{"a":'), text("1}"), ends("end_turn")], structured=True)) == '{"a":1}'


def test_prose_instead_of_json_is_garbled() -> None:
    with pytest.raises(ProviderFailure) as caught:
        read([text("I would rather not."), ends("end_turn")], structured=True)
    assert (caught.value.kind, caught.value.evidence) == (Kind.GARBLED, "claude.not_json")


def test_json_cut_by_the_token_limit_is_passed_on_with_its_reason() -> None:
    steps = read([text('{"a":'), ends("max_tokens")], structured=True)
    assert (text_of(steps), finish_of(steps).reason) == ('{"a":', "length")


def test_an_empty_object_without_a_delta_is_an_answer() -> None:
    tool = event("content_block_start", index=0, content_block={"type": "tool_use", "name": "StructuredOutput"})
    assert text_of(read([tool, event("content_block_stop", index=0), ends("tool_use")], structured=True)) == "{}"


def test_reasoning_alone_is_no_answer_unless_the_limit_cut_it() -> None:
    thought = event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "Hm."})
    with pytest.raises(ProviderFailure) as caught:
        read([thought, ends("end_turn")])
    assert caught.value.evidence == "claude.empty"
    steps = read([thought, ends("max_tokens")])
    assert steps[0].chunks == (ReasoningDelta("Hm."),)
    assert finish_of(steps).reason == "length"


def test_an_answer_that_begins_with_the_clients_own_stop_sequence_is_empty_and_good() -> None:
    steps = read([ends("stop_sequence", "END")])
    assert (text_of(steps), finish_of(steps).reason, finish_of(steps).stop_sequence) == ("", "stop", "END")
    with pytest.raises(ProviderFailure) as caught:  # nothing is no JSON
        read([ends("stop_sequence")], structured=True)
    assert caught.value.evidence == "claude.empty"


def test_a_command_that_the_cli_ran_itself_is_no_answer() -> None:
    with pytest.raises(ProviderFailure) as caught:
        read([{"type": "result", "subtype": "success", "is_error": False, "num_turns": 0, "result": "Help: ..."}])
    assert caught.value.kind is Kind.GARBLED


def test_the_words_of_an_error_decide_nothing() -> None:
    """Releases reword them: only fields count."""
    said = lines("quota-five-hour")
    for line in said:
        if line["type"] == "result":
            line["result"] = "Alles in Ordnung"
    with pytest.raises(ProviderFailure) as caught:
        read(said)
    assert caught.value.kind is Kind.QUOTA_EXHAUSTED


def test_what_a_subagent_says_is_not_the_answer() -> None:
    assert text_of(read([{**text("aside"), "parent_tool_use_id": "toolu_1"}, text("main"), ends("end_turn")])) == "main"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
kinds = st.sampled_from(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
)
fields = st.sampled_from(["message", "index", "content_block", "delta", "usage"])
frames = st.one_of(
    st.builds(
        lambda kind, body: {"type": "stream_event", "event": {**body, "type": kind}},
        kinds,
        st.dictionaries(fields, anything),
    ),
    st.builds(lambda info: {"type": "rate_limit_event", "rate_limit_info": info}, anything),
    st.builds(
        lambda body: {**body, "type": "result", "is_error": True},
        st.dictionaries(st.sampled_from(["subtype", "api_error_status", "result"]), anything),
    ),
    st.builds(
        lambda body: {**body, "type": "system", "subtype": "api_retry"},
        st.dictionaries(st.sampled_from(["error_status", "retry_delay_ms"]), anything),
    ),
    st.builds(lambda tools: {"type": "system", "subtype": "init", "tools": tools}, anything),
    st.dictionaries(st.text(max_size=8), anything),
)


@given(st.lists(frames, max_size=8), st.booleans())
def test_lines_of_any_shape_give_chunks_or_a_provider_failure(said: list[dict[str, Any]], structured: bool) -> None:
    try:
        steps = read(said, structured=structured)
    except ProviderFailure:
        return
    assert all(chunk.text for step in steps for chunk in step.chunks if isinstance(chunk, TextDelta | ReasoningDelta))
