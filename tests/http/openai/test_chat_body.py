"""OpenAI's body -> the canonical prompt. Pure: no gateway, no socket."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmux.actors.messages import Principal
from llmux.config import Limits
from llmux.failures import ClientFailure
from llmux.http.openai.chat_body import ChatWish, chat_wish_of
from llmux.prompts import Image, Message, Text, ToolCall, ToolResult, assistant, user
from tests.http.served import settings_of

SETTINGS = settings_of(Path("/nowhere"))
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def asked(messages: Any, **fields: Any) -> ChatWish:
    body = json.dumps({"model": "m", "messages": messages, **fields}).encode()
    return chat_wish_of(body, "/v1/chat/completions", Principal(), SETTINGS)


def prompt(messages: Any, **fields: Any):
    return asked(messages, **fields).wish.prompt


def refused(messages: Any, **fields: Any) -> ClientFailure:
    with pytest.raises(ClientFailure) as caught:
        asked(messages, **fields)
    return caught.value


def says(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


HI = [says("user", "hi")]


def test_system_and_developer_texts_become_the_system_text():
    got = prompt([says("system", "a"), says("developer", [{"type": "text", "text": "b"}]), *HI, says("system", "c")])
    assert (got.system, got.messages) == ("a\n\nb\n\nc", (user("hi"),))


def test_turns_keep_their_order():
    got = prompt([*HI, says("assistant", "ho"), says("user", "he")])
    assert got.messages == (user("hi"), assistant("ho"), user("he"))


def test_neighbours_of_one_role_become_one_message_with_a_paragraph_between():
    got = prompt(
        [says("user", "a"), says("user", "b"), says("assistant", "c"), says("assistant", "d"), says("user", "e")]
    )
    assert got.messages == (user("a\n\nb"), assistant("c\n\nd"), user("e"))


def test_parts_with_text_and_an_inline_image():
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    assert prompt([says("user", parts)]).messages == (Message("user", (Text("look"), Image("image/png", PIXEL))),)


def test_an_image_url_may_be_a_plain_string():
    parts = [{"type": "image_url", "image_url": f"data:IMAGE/PNG;base64,{PIXEL}"}]
    assert prompt([says("user", parts)]).messages[0].parts == (Image("image/png", PIXEL),)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://example.com/cat.png",
        "file:///etc/passwd",
        "data:image/svg+xml;base64,AAAA",
        "data:image/png;base64,not base64!",
        "data:image/png;base64,",
        "data:image/png,raw",
        "",
    ],
)
def test_an_image_that_is_not_inline_is_refused_and_never_fetched(url):
    failure = refused([says("user", [{"type": "image_url", "image_url": {"url": url}}])])
    assert (failure.status, failure.code) == (400, "unsupported_image")
    assert failure.param == "messages[0].content[0].image_url"


def test_tool_messages_become_tool_results_of_the_user():
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    got = prompt([*HI, says("assistant", None, tool_calls=calls), says("tool", "42", tool_call_id="c1")])
    assert got.messages == (
        user("hi"),
        Message("assistant", (ToolCall("c1", "f", "{}"),)),
        Message("user", (ToolResult("c1", (Text("42"),)),)),
    )


def test_a_tool_message_without_its_call_is_refused():
    assert refused([*HI, says("tool", "42")]).param == "messages[1].tool_call_id"


def test_only_system_text_is_what_the_user_says():
    got = prompt([says("system", "tell me a joke")])
    assert (got.system, got.messages) == ("", (user("tell me a joke"),))


@pytest.mark.parametrize("messages", [[], None, [says("user", "")], [says("user", [])], [says("user", None)]])
def test_no_messages_is_the_sentence_of_v3(messages):
    failure = refused(messages)
    assert (str(failure), failure.code, failure.param) == ("No messages provided", "missing_messages", "messages")


@pytest.mark.parametrize("content", [" \n\t", [{"type": "text", "text": " "}, {"type": "text", "text": "\n"}]])
def test_a_last_message_of_blanks_only_is_refused_as_in_the_native_dialect(content):
    for before in ([], [says("system", "s")], [*HI, says("assistant", "ho")]):
        failure = refused([*before, says("user", content)])
        assert (failure.status, failure.code, failure.param) == (400, "blank_message", "messages")


def test_an_image_needs_no_text_and_a_tool_may_have_nothing_to_say():
    image = {"type": "image_url", "image_url": f"data:image/png;base64,{PIXEL}"}
    got = prompt([says("user", [{"type": "text", "text": " "}, image])])
    assert got.messages[-1].parts == (Text(" "), Image("image/png", PIXEL))
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    got = prompt([*HI, says("assistant", None, tool_calls=calls), says("tool", " ", tool_call_id="c1")])
    assert got.messages[-1].parts == (ToolResult("c1", (Text(" "),)),)


def test_a_conversation_that_ends_with_the_assistant_is_refused():
    assert refused([*HI, says("assistant", "ho")]).code == "unsupported_parameter"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (says("wizard", "x"), "messages[0].role"),
        (says("function", "x"), "messages[0].role"),
        (says("user", 5), "messages[0].content"),
        (says("user", [{"type": "input_audio", "input_audio": {}}]), "messages[0].content[0].type"),
        (says("user", [{"type": "file", "file": {"file_id": "f"}}]), "messages[0].content[0].type"),
        (says("assistant", None, audio={"id": "a"}), "messages[0].audio"),
        (says("assistant", None, function_call={"name": "f", "arguments": ""}), "messages[0].function_call"),
        (says("assistant", None, tool_calls=[{"id": "c", "type": "custom", "custom": {}}]), "messages[0].tool_calls"),
        (says("user", [{"type": "text"}]), "messages[0].content[0]"),
        (says("user", ["text"]), "messages[0].content[0]"),
        (says("system", [{"type": "image_url", "image_url": f"data:image/png;base64,{PIXEL}"}]), "messages[0].content"),
        ({"content": "x"}, "messages[0]"),
        ("x", "messages[0]"),
    ],
)
def test_a_message_that_cannot_be_read_is_named(message, param):
    failure = refused([message])
    assert (failure.status, failure.param) == (400, param)


def test_sampling_is_taken_over():
    fields = {"temperature": 0, "top_p": 0.5, "stop": "END", "max_tokens": 5, "max_completion_tokens": 7, "seed": 9}
    sampling = prompt(HI, **fields, reasoning_effort="low").sampling
    assert (sampling.temperature, sampling.top_p, sampling.stop) == (0.0, 0.5, ("END",))
    assert (sampling.max_tokens, sampling.seed, sampling.reasoning_effort) == (7, 9, "low")
    assert prompt(HI, stop=["a", "b"]).sampling.stop == ("a", "b")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 2.1),
        ("temperature", -1),
        ("temperature", "1"),
        ("top_p", 1.5),
        ("max_tokens", 0),
        ("max_completion_tokens", -5),
        ("max_tokens", 10**30),
        ("seed", 10**30),
        ("seed", 1.5),
        ("stop", 5),
        ("stop", [""]),
        ("stop", ""),
        ("n", 0),
        ("n", "1"),
        ("stream", "true"),
        ("stream", 1),
        ("model", 5),
        ("model", ["m"]),
        ("reasoning_effort", "extreme"),
        ("response_format", "json"),
        ("stream_options", []),
        ("messages", {}),
        ("messages", "hi"),
        ("tools", {}),
    ],
)
def test_a_field_that_cannot_be_used_is_named(field, value):
    failure = refused(**{"messages": HI, field: value})
    assert failure.status == 400
    assert (failure.param or "").startswith(field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "auto"),
        ("functions", [{"name": "f"}]),
        ("function_call", "auto"),
        ("modalities", ["text", "audio"]),
        ("web_search_options", {}),
        ("moderation", {"model": "m", "policy": {"input": {"mode": "block"}}}),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(field, value):
    failure = refused(HI, **{field: value})
    assert (failure.status, failure.code, failure.param) == (400, "unsupported_parameter", field)


def test_what_says_nothing_or_changes_no_answer_is_taken_without_a_word():
    nothing = {"n": 1, "tools": [], "tool_choice": None, "functions": None, "modalities": ["text"], "moderation": None}
    bounds = {"frequency_penalty": 0, "logprobs": False, "verbosity": "medium", "store": False, "service_tier": "auto"}
    asking = {"user": "u", "safety_identifier": "s", "metadata": {"a": "b"}}
    caching = {"prompt_cache_key": "k", "prompt_cache_retention": "24h", "prompt_cache_options": {"mode": "implicit"}}
    got = asked(HI, **nothing, **bounds, **asking, **caching, parallel_tool_calls=True, a_field_of_tomorrow=[1])
    assert got.ignored == ()
    assert got.wish.prompt == prompt(HI)


def test_what_is_left_out_is_reported():
    got = asked(
        HI, frequency_penalty=1, presence_penalty=0, logprobs=False, logit_bias={"5": 1}, verbosity="low", top_k=4
    )
    assert got.ignored == ("frequency_penalty", "logit_bias", "verbosity", "top_k")
    got = asked(HI, store=True, service_tier="flex", prediction={"type": "content", "content": "x"}, top_logprobs=3)
    assert got.ignored == ("top_logprobs", "prediction", "store", "service_tier")


def test_the_greatest_effort_is_not_told_apart_from_the_next_and_says_so():
    got = asked(HI, reasoning_effort="max")
    assert (got.wish.prompt.sampling.reasoning_effort, got.ignored) == ("xhigh", ("reasoning_effort",))
    assert asked(HI, reasoning_effort="xhigh").ignored == ()


def test_response_formats():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert prompt(HI, response_format={"type": "text"}).json_schema is None
    assert prompt(HI, response_format={"type": "json_object"}).json_schema == {}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    assert prompt(HI, response_format=form).json_schema == schema
    form["json_schema"]["description"] = "A list of one."
    assert prompt(HI, response_format=form).json_schema == {"description": "A list of one.", **schema}
    own = {"name": "x", "description": "theirs", "schema": {**schema, "description": "its own"}}
    assert prompt(HI, response_format={"type": "json_schema", "json_schema": own}).json_schema == own["schema"]
    assert refused(HI, response_format={"type": "json_schema"}).param == "response_format.json_schema.schema"
    assert refused(HI, response_format={"type": "xml"}).param == "response_format.type"


def test_a_schema_nested_too_deep_is_422():
    schema: dict[str, Any] = {}
    for _ in range(Limits().json_depth_max + 1):
        schema = {"a": schema}
    failure = refused(HI, response_format={"type": "json_schema", "json_schema": {"schema": schema}})
    assert (failure.status, failure.code) == (422, "too_deep")


def test_too_many_messages_and_stops_are_422():
    limits = Limits()
    assert refused(HI * (limits.messages_max + 1)).status == 422
    assert refused(HI, stop=["x"] * (limits.stop_sequences_max + 1)).status == 422


def test_a_stream_asks_for_its_usage():
    assert asked(HI, stream=True, stream_options={"include_usage": True}).include_usage is True
    assert asked(HI, stream=True, stream_options={}).include_usage is False
    assert asked(HI, stream=True).wish.stream is True
