"""The body of /v1/responses -> the canonical prompt. No gateway, no socket."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmux.actors.messages import Principal
from llmux.failures import ClientFailure
from llmux.http.openai.responses.body import ResponsesBody
from llmux.http.openai.responses.items import GivenItem, GivenPart
from llmux.http.openai.responses.wish import asked_of
from llmux.prompts import Image, Message, Text, ToolCall, ToolResult, assistant, user
from tests.http.openai.asking_responses import PIXEL, SETTINGS, asked, history, part, prompt, refused, says


def test_a_text_a_short_message_and_a_full_one_are_the_same_prompt():
    full = {"type": "message", "id": "msg_1", "status": "completed", **says("user", [part("hi")])}
    assert prompt("hi") == prompt([says("user", "hi")]) == prompt([full])
    assert prompt("hi").messages == (user("hi"),)


def test_an_answer_may_come_back_in_either_form():
    full = {"type": "message", "id": "m", **says("assistant", [{**part("ho", "output_text"), "annotations": []}])}
    turns = (user("hi"), assistant("ho"), user("he"))
    for answer in (full, says("assistant", "ho"), says("assistant", [{"type": "refusal", "refusal": "ho"}])):
        assert prompt([says("user", "hi"), answer, says("user", "he")]).messages == turns


def test_instructions_come_first_in_the_system_text():
    got = prompt([says("system", "b"), says("user", "hi"), says("developer", [part("c")])], instructions="a")
    assert (got.system, got.messages) == ("a\n\nb\n\nc", (user("hi"),))


def test_images_come_inline_and_nothing_else_is_taken():
    image = {"type": "input_image", "detail": "low", "image_url": f"data:image/png;base64,{PIXEL}"}
    assert prompt([says("user", [part("what?"), image])]).messages == (
        Message("user", (Text("what?"), Image("image/png", PIXEL))),
    )
    where = "input[1].content[0]"
    for given_part, param in (
        ({"type": "input_image", "image_url": "https://x/y.png"}, f"{where}.image_url"),
        ({"type": "input_image", "file_id": "file-1"}, where),
        ({"type": "input_file", "file_id": "file-1"}, f"{where}.type"),
        ({"type": "input_text"}, where),
    ):
        assert refused([says("user", "hi"), says("user", [given_part])]).param == param
    assert refused([says("assistant", [image]), says("user", "hi")]).code == "unsupported_parameter"


def test_tool_calls_and_their_results_stand_in_the_history():
    got = prompt(
        [
            says("user", "weather?"),
            says("assistant", "I look."),
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"at": "Ulm"}'},
            {"type": "function_call", "call_id": "c2", "name": "time", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            {"type": "function_call_output", "call_id": "c2", "output": [part("noon")]},
        ]
    )
    calls = (ToolCall("c1", "weather", '{"at": "Ulm"}'), ToolCall("c2", "time", "{}"))
    results = (ToolResult("c1", (Text("rain"),)), ToolResult("c2", (Text("noon"),)))
    assert got.messages == (
        user("weather?"),
        Message("assistant", (Text("I look."), *calls)),
        Message("user", results),
    )
    assert refused([{"type": "function_call_output", "output": "x"}]).param == "input[0].call_id"
    assert refused([{"type": "function_call", "call_id": "c"}]).param == "input[0]"


def test_what_a_model_thought_is_not_told_to_it_again_and_that_is_said():
    thought = {"type": "reasoning", "id": "rs_1", "summary": [part("hm", "summary_text")], "encrypted_content": "x"}
    got = asked([says("user", "hi"), thought, says("assistant", "ho"), says("user", "he")])
    assert got.wish.prompt.messages == (user("hi"), assistant("ho"), user("he"))
    assert got.ignored == ("input.reasoning",)


def test_sampling_and_formats_reach_the_prompt():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    got = prompt("hi", temperature=0.5, top_p=0.9, max_output_tokens=7, reasoning={"effort": "low", "summary": "auto"})
    assert (got.sampling.temperature, got.sampling.top_p) == (0.5, 0.9)
    assert (got.sampling.max_tokens, got.sampling.reasoning_effort) == (7, "low")
    for form, expected in (
        ({"type": "text"}, None),
        ({"type": "json_object"}, {}),
        ({"type": "json_schema", "name": "A", "schema": schema, "strict": True}, schema),
    ):
        assert prompt("hi", text={"format": form}).json_schema == expected
    assert refused("hi", text={"format": {"type": "json_schema", "name": "A"}}).param == "text.format.schema"


def test_an_effort_and_a_schema_mean_what_they_mean_in_a_chat():
    got = asked("hi", reasoning={"effort": "max"})
    assert (got.wish.prompt.sampling.reasoning_effort, got.ignored) == ("xhigh", ("reasoning.effort",))
    form = {"type": "json_schema", "name": "A", "schema": {"type": "object"}, "description": "A city"}
    assert prompt("hi", text={"format": form}).json_schema == {"description": "A city", "type": "object"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "web_search"}]),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "name": "f"}),
        ("background", True),
        ("conversation", "conv_1"),
        ("prompt", {"id": "pmpt_1"}),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(field, value):
    failure = refused("hi", **{field: value})
    assert (failure.status, failure.code, failure.param) == (400, "unsupported_parameter", field)


def test_what_makes_a_little_difference_is_named():
    wished = {
        "include": ["reasoning.encrypted_content"],
        "top_logprobs": 2,
        "truncation": "auto",
        "service_tier": "flex",
        "text": {"verbosity": "low"},
        "reasoning": {"summary": "detailed"},
        "stream_options": {"include_obfuscation": True},
    }
    assert set(asked("hi", **wished).ignored) == {
        "include",
        "top_logprobs",
        "truncation",
        "service_tier",
        "text.verbosity",
        "reasoning.summary",
        "stream_options.include_obfuscation",
    }


def test_what_changes_nothing_is_taken_without_a_word():
    harmless = {
        "tools": [],
        "tool_choice": "none",
        "parallel_tool_calls": True,
        "max_tool_calls": 3,
        "include": [],
        "truncation": "disabled",
        "service_tier": "auto",
        "prompt_cache_key": "k",
        "user": "u",
        "safety_identifier": "s",
        "metadata": {"a": "b"},
        "background": False,
        "a_field_of_tomorrow": 1,
    }
    assert asked("hi", **harmless).ignored == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": []}, "input"),
        ({"input": "  "}, "input"),
        ({"input": [says("assistant", "ho")]}, "input"),
        ({"input": [says("robot", "hi")]}, "input[0].role"),
        ({"input": [{"type": "message", "role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input[0].type"),
        ({"input": [{}]}, "input[0]"),
        ({"input": [{"type": "item_reference"}]}, "input[0].id"),
        ({"input": [{"id": "msg_nothing"}]}, "input[0].id"),
        ({"metadata": {"a": 1}}, "metadata[...]"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"previous_response_id": "resp_nothing"}, "previous_response_id"),
    ],
)
def test_what_is_wrong_is_named(fields, param):
    failure = refused(**{"input": "hi", **fields})
    assert failure.param == param
    assert failure.status in (400, 404)


LEAVES = st.none() | st.booleans() | st.integers(-3, 30) | st.text(max_size=3)
TYPES = ("message", "reasoning", "function_call", "function_call_output", "item_reference", "json_schema")
PART_TYPES = ("input_text", "output_text", "input_image", "refusal", "summary_text", "text")
TOKENS = st.sampled_from((*TYPES, *PART_TYPES, "user", "assistant", "system", "auto", "hi"))
NAMES = sorted({*ResponsesBody.__struct_fields__, *GivenItem.__struct_fields__, *GivenPart.__struct_fields__, "format"})
VALUES = st.recursive(
    LEAVES | TOKENS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
)
PARTS = st.lists(
    st.fixed_dictionaries({"type": TOKENS}, optional={"text": TOKENS, "refusal": TOKENS, "image_url": TOKENS}),
    max_size=3,
)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("type", "role", "id", "call_id", "name", "arguments"), TOKENS),
        **dict.fromkeys(("content", "output"), TOKENS | PARTS),
        "summary": PARTS,
    },
)
BODIES = VALUES | st.fixed_dictionaries({"input": VALUES | st.lists(ITEMS, max_size=4)}, optional={"text": VALUES})


@given(BODIES)
@settings(max_examples=400)
def test_any_json_is_a_wish_or_a_client_failure(value):
    try:
        got = asked_of(json.dumps(value).encode(), "/v1/responses", Principal(), SETTINGS, history())
    except ClientFailure:
        return
    last = got.wish.prompt.messages[-1]
    assert last.role == "user"
    assert last.parts
