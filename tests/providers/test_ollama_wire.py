"""Ollama's protocol as pure functions."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Image, Message, Prompt, Sampling, Text, Tool, ToolCall, ToolResult, assistant, user
from llmux.providers.ollama_wire import (
    ModelFacts,
    chat_request,
    facts_of,
    failure_of,
    prompt_was_cut,
    read_line,
    text_bytes,
)

NOTHING_KNOWN = ModelFacts()


def request(prompt: Prompt, facts: ModelFacts = NOTHING_KNOWN) -> dict[str, Any]:
    return json.loads(chat_request(prompt, "qwen3:14b", facts)[0])


def refusal(prompt: Prompt, facts: ModelFacts = NOTHING_KNOWN) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        chat_request(prompt, "qwen3:14b", facts)
    return caught.value


def test_a_plain_prompt_asks_for_a_stream_and_against_silent_cuts():
    assert request(Prompt((user("hello"),))) == {
        "model": "qwen3:14b",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "truncate": False,
        "shift": False,
    }


def test_roles_system_text_and_images_stand_where_ollama_wants_them():
    picture = Message("user", (Text("what "), Image("image/png", "AAAA"), Text("is this?"), Image("image/png", "BBBB")))
    prompt = Prompt((user("a"), assistant("b"), picture), system="Be brief.")
    assert request(prompt)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "what is this?", "images": ["AAAA", "BBBB"]},
    ]


def test_only_the_sampling_that_was_asked_for_is_sent_and_zero_is_a_value():
    sampling = Sampling(temperature=0.0, top_p=0.5, stop=("END",), max_tokens=5, seed=0)
    assert request(Prompt((user("x"),), sampling=sampling))["options"] == {
        "temperature": 0.0,
        "top_p": 0.5,
        "stop": ["END"],
        "num_predict": 5,
        "seed": 0,
    }
    assert "options" not in request(Prompt((user("x"),)))


@pytest.mark.parametrize(("schema", "format_"), [({}, "json"), ({"type": "object"}, {"type": "object"})])
def test_a_json_schema_becomes_the_format(schema, format_):
    assert request(Prompt((user("x"),), json_schema=schema))["format"] == format_


@pytest.mark.parametrize(
    ("effort", "facts", "think", "ignored"),
    [
        (None, NOTHING_KNOWN, None, ()),
        ("none", NOTHING_KNOWN, False, ()),
        ("low", NOTHING_KNOWN, True, ("reasoning_effort",)),
        ("high", ModelFacts(thinks=True), True, ("reasoning_effort",)),
        ("high", ModelFacts(thinks=False), None, ("reasoning_effort",)),
        ("none", ModelFacts(thinks=False), None, ()),
        ("xhigh", ModelFacts(thinks=True, thinks_by_level=True), "high", ("reasoning_effort",)),
        ("minimal", ModelFacts(thinks=True, thinks_by_level=True), "low", ("reasoning_effort",)),
        ("medium", ModelFacts(thinks=True, thinks_by_level=True), "medium", ()),
        ("none", ModelFacts(thinks=True, thinks_by_level=True), None, ("reasoning_effort",)),
    ],
)
def test_reasoning_effort_becomes_think_or_is_reported_as_ignored(effort, facts, think, ignored):
    body, lost = chat_request(Prompt((user("x"),), sampling=Sampling(reasoning_effort=effort)), "m", facts)
    assert (json.loads(body).get("think"), lost) == (think, ignored)


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt((user("x"),), tools=(Tool("f"),)),
        Prompt((user("x"), Message("assistant", (ToolCall("1", "f", "{}"),)), user("y"))),
        Prompt((Message("user", (ToolResult("1", (Text("x"),)),)),)),
    ],
)
def test_tools_are_left_to_another_provider(prompt):
    failure = refusal(prompt)
    assert (failure.kind, failure.evidence) == (Kind.UNSUPPORTED, "ollama.tools")


@pytest.mark.parametrize(
    ("prompt", "evidence"),
    [
        (Prompt((user(""),)), "ollama.empty_prompt"),
        (Prompt((user("x"),), sampling=Sampling(max_tokens=0)), "ollama.max_tokens"),
        (Prompt((user("half a pair: \ud83d"),)), "ollama.unicode"),
    ],
)
def test_what_ollama_cannot_be_asked_is_refused_before_it_is_sent(prompt, evidence):
    failure = refusal(prompt)
    assert (failure.kind, failure.evidence) == (Kind.INVALID_REQUEST, evidence)


def test_an_image_for_a_model_that_sees_none_is_refused_not_dropped_in_silence():
    prompt = Prompt((Message("user", (Text("x"), Image("image/png", "AAAA"))),))
    assert refusal(prompt, ModelFacts(sees=False)).evidence == "ollama.no_vision"
    assert "images" in request(prompt, ModelFacts(sees=True))["messages"][0]


def test_a_prompt_that_cannot_fit_is_refused_and_one_that_might_is_sent():
    facts = ModelFacts(window_tokens=100, window_tokens_max=100)
    assert refusal(Prompt((user("x" * 801),)), facts).kind is Kind.CONTEXT_TOO_LONG
    assert request(Prompt((user("x" * 800),)), facts)["messages"]


@pytest.mark.parametrize(
    ("size", "counted", "window", "cut"),
    [
        (300, 100, 100, True),  # the whole window is full of prompt
        (300, 60, 100, False),
        (790, 36, 100, True),  # earlier messages were dropped: 22 bytes per token
        (190, 10, 100, False),  # it cannot have overflown the window
        (300, 0, 100, False),  # no count, no verdict
        (300, 100, None, False),  # no window known
    ],
)
def test_a_cut_prompt_is_told_by_its_own_token_count(size, counted, window, cut):
    prompt = Prompt((user("x" * size),))
    assert prompt_was_cut(prompt, counted, ModelFacts(window_tokens=window)) is cut


def test_text_is_counted_in_bytes_and_images_are_not_text():
    assert text_bytes(Prompt((Message("user", (Text("äö"), Image("image/png", "A" * 100))),), system="日")) == 7


def test_the_facts_of_a_model_are_read_from_show():
    show = {
        "parameters": 'stop    "<|im_end|>"\nnum_ctx                        256\ntemperature 0.6',
        "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40960, "qwen3.embedding_length": 5120},
        "capabilities": ["completion", "tools", "thinking"],
        "details": {"family": "qwen3"},
    }
    assert facts_of(json.dumps(show).encode()) == ModelFacts(256, 256, sees=False, thinks=True)
    del show["parameters"], show["capabilities"]
    assert facts_of(json.dumps(show).encode()) == ModelFacts(None, 40960)
    assert facts_of(b'{"details": {"family": "gptoss"}}').thinks_by_level
    assert facts_of(b"<html>") == facts_of(b"[]") == NOTHING_KNOWN


def test_a_last_line_without_counts_is_good():
    """The server leaves out what is zero."""
    line = read_line(b'{"model":"m","message":{"role":"assistant","content":""},"done":true}')
    assert (line.done, line.prompt_eval_count, line.eval_count) == (True, 0, 0)


@pytest.mark.parametrize(
    ("data", "kind", "evidence"),
    [
        (b"<html>502</html>", Kind.GARBLED, "ollama.bad_line"),
        (b"{}", Kind.GARBLED, "ollama.bad_line"),
        (b"[1]", Kind.GARBLED, "ollama.bad_line"),
        (b'{"message":{"content":"\xff"},"done":false}', Kind.GARBLED, "ollama.bad_line"),
        (b"[" * 100_000, Kind.GARBLED, "ollama.bad_line"),
        (b'{"error":"an error was encountered while running the model"}', Kind.GARBLED, "ollama.error_line"),
        (b'{"error":{"code":5}}', Kind.GARBLED, "ollama.error_line"),
        (b'{"error":"invalid JSON schema in format"}', Kind.INVALID_REQUEST, "ollama.schema"),
        (b'{"error":"invalid format: \\"yaml\\""}', Kind.INVALID_REQUEST, "ollama.schema"),
        (b'{"message":{"tool_calls":[{"function":{"name":"f"}}]},"done":false}', Kind.GARBLED, "ollama.tool_unasked"),
    ],
)
def test_a_line_that_is_no_part_of_an_answer_is_a_failure(data, kind, evidence):
    with pytest.raises(ProviderFailure) as caught:
        read_line(data)
    assert (caught.value.kind, caught.value.evidence) == (kind, evidence)


def error(text: str) -> bytes:
    return json.dumps({"error": text}).encode()


NEW_OVERFLOW = (
    '{"error":{"code":400,"message":"request (8889 tokens) exceeds the available context size (4096 tokens)",'
    '"type":"exceed_context_size_error"}}'
)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, error('model "nope" not found, try pulling it first'), Kind.MODEL_NOT_FOUND),
        (404, b"404 page not found", Kind.UNAVAILABLE),
        (405, b"405 method not allowed", Kind.UNAVAILABLE),
        (307, b"", Kind.UNAVAILABLE),
        (400, error("missing request body"), Kind.INVALID_REQUEST),
        (400, error("tiny does not support thinking"), Kind.INVALID_REQUEST),
        (400, error(NEW_OVERFLOW), Kind.CONTEXT_TOO_LONG),
        (400, error("the input length exceeds the context length"), Kind.CONTEXT_TOO_LONG),
        (500, error('option "temperature" must be of type float32'), Kind.INVALID_REQUEST),
        (500, error("llama runner process has terminated: exit status 2"), Kind.UNAVAILABLE),
        (500, b"", Kind.UNAVAILABLE),
        (502, b"<html>", Kind.UNAVAILABLE),
        (503, error("server busy, please try again.  maximum pending requests exceeded"), Kind.OVERLOADED),
        (499, error("request canceled"), Kind.UNAVAILABLE),
        (401, error("unauthorized"), Kind.UNAVAILABLE),
        (429, error("too many requests"), Kind.RATE_LIMITED),
        (429, error("you have reached your weekly usage limit"), Kind.QUOTA_EXHAUSTED),
    ],
)
def test_every_refusal_has_its_kind(status, body, kind):
    assert failure_of(status, body, "nope").kind is kind


@pytest.mark.parametrize(
    ("status", "body", "model_only"),
    [
        (401, error("unauthorized"), True),
        (403, b"", True),
        (500, error("llama runner process has terminated: exit status 2"), True),
        (502, error("upstream error"), True),
        (502, b"<html>", False),
        (404, b"404 page not found", False),
    ],
)
def test_the_trouble_of_one_model_does_not_take_the_others_out(status, body, model_only):
    failure = failure_of(status, body, "m")
    assert (failure.kind, failure.model_only) == (Kind.UNAVAILABLE, model_only)


def test_a_missing_model_says_what_to_type_and_a_rate_limit_how_long_to_wait():
    assert str(failure_of(404, error("no"), "qwen3:14b")).endswith("ollama pull qwen3:14b")
    assert failure_of(429, error("slow"), "m", "7").retry_after_ms == 7000
    assert failure_of(429, error("slow"), "m", "Wed, 21 Oct").retry_after_ms is None


@given(st.integers(200, 599), st.binary(max_size=200), st.text(max_size=20))
def test_no_answer_of_a_server_breaks_the_translation(status, body, model):
    assert "\n" not in str(failure_of(status, body, model))


@given(st.binary(max_size=200))
def test_no_line_breaks_the_reading(data):
    """Bytes at random are a line of a chat with next to no probability."""
    with pytest.raises(ProviderFailure):
        read_line(data)
