"""Anthropic's messages and blocks as a conversation. Pure: no gateway, no socket."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmux.failures import ClientFailure
from llmux.prompts import Image, Message, Text, ToolCall, ToolResult, assistant, user
from tests.http.anthropic.asking import HI, IMAGE, PIXEL, asked, prompt, says, text

CALL = {"type": "tool_use", "id": "t1", "name": "f", "input": {"n": [1, "é"]}}


def test_texts_are_turns_that_alternate():
    got = prompt([says("user", "a"), says("user", text("b")), says("assistant", "c"), says("user", "d")])
    assert got.messages == (user("a\n\nb"), assistant("c"), user("d"))


def test_system_text_comes_from_its_field_and_from_messages_but_not_the_note_to_the_bill():
    billing = text("x-anthropic-billing-header: cc_version=1; cc_entrypoint=cli;")
    got = prompt([says("system", "c"), *HI], system=[billing, text("a"), text("b")])
    assert (got.system, got.messages) == ("a\n\nb\n\nc", (user("hi"),))
    assert prompt(system="x-anthropic-billing-header: y").system == ""


def test_earlier_thoughts_are_dropped():
    thought = {"type": "thinking", "thinking": "hm", "signature": "abc"}
    redacted = {"type": "redacted_thinking", "data": "xyz"}
    got = prompt([*HI, says("assistant", thought, redacted, text("ho")), *HI])
    assert got.messages == (user("hi"), assistant("ho"), user("hi"))
    assert prompt([*HI, says("assistant", thought), *HI]).messages == (user("hi\n\nhi"),)


def test_calls_and_results_in_the_history_translate():
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [text("42"), IMAGE], "is_error": True}
    got = prompt([*HI, says("assistant", text("ho"), CALL), says("user", result, text("and now?"))])
    assert got.messages[1] == Message("assistant", (Text("ho"), ToolCall("t1", "f", '{"n": [1, "\\u00e9"]}')))
    parts = (ToolResult("t1", (Text("42"), Image("image/png", PIXEL)), is_error=True), Text("and now?"))
    assert got.messages[2] == Message("user", parts)
    empty = {"type": "tool_result", "tool_use_id": "t1"}
    assert prompt([*HI, says("assistant", CALL), says("user", empty)]).messages[2].parts == (ToolResult("t1", ()),)


def test_images_and_plain_documents_stand_where_they_stood():
    plain = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "D"}}
    mixed = {"type": "document", "context": "C", "source": {"type": "content", "content": [text("D"), IMAGE]}}
    got = prompt([says("user", text("look"), IMAGE, plain, mixed)])
    image = Image("image/png", PIXEL)
    assert got.messages[0].parts == (
        Text("look"), image, Text("T\n\n"), Text("D"), Text("C\n\n"), Text("D"), image,
    )  # fmt: skip


def test_citations_are_left_out_and_named():
    source = {"type": "text", "media_type": "text/plain", "data": "D"}
    for enabled, ignored in ((True, ("citations",)), (False, ())):
        document = {"type": "document", "source": source, "citations": {"enabled": enabled}}
        assert asked([says("user", document)]).ignored == ignored


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (
            says("user", {"type": "image", "source": {"type": "url", "url": "http://x/"}}),
            "messages[0].content[0].source",
        ),
        (says("user", {"type": "image", "source": {"type": "file", "file_id": "f"}}), "messages[0].content[0].source"),
        (says("user", {"type": "image"}), "messages[0].content[0].source"),
        (says("user", {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "!"}}), None),
        (
            says("user", {"type": "image", "source": {"type": "base64", "media_type": "image/tiff", "data": PIXEL}}),
            None,
        ),
        (says("user", {"type": "document", "source": {"type": "base64", "data": PIXEL}}), None),
        (says("user", {"type": "document", "source": {"type": "url", "url": "http://x/"}}), None),
        (says("user", text("a"), {"type": "search_result"}), "messages[0].content[1].type"),
        (says("user", {"type": "text"}), "messages[0].content[0].text"),
        (says("user", CALL), "messages[0].content[0].type"),
        (says("user", {"type": "tool_result"}), "messages[0].content[0].tool_use_id"),
        (says("assistant", IMAGE), "messages[0].content[0].type"),
        (says("assistant", {**CALL, "input": []}), "messages[0].content[0]"),
        (says("assistant", {**CALL, "id": ""}), "messages[0].content[0]"),
        (says("assistant", {"type": "server_tool_use"}), "messages[0].content[0].type"),
        (says("system", IMAGE), "messages[0].content[0].type"),
    ],
)
def test_what_is_not_taken_is_refused_with_its_place(message, param):
    with pytest.raises(ClientFailure) as caught:
        asked([message, *HI])
    assert caught.value.status == 400
    assert caught.value.param == (param or "messages[0].content[0].source")


def test_an_answer_can_be_sent_back_as_it_came():
    answer = [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "ho", "citations": None},
    ]
    assert prompt([*HI, says("assistant", *answer), *HI]).messages == (user("hi"), assistant("ho"), user("hi"))


TEXTS = st.text(max_size=8)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
KINDS = ("text", "image", "document", "thinking", "redacted_thinking", "tool_use", "tool_result", "fallback")
SOURCE = st.fixed_dictionaries(
    {"type": st.sampled_from(["base64", "text", "content", "url"])},
    optional={
        "media_type": st.sampled_from(["image/png", ""]),
        "data": st.sampled_from([PIXEL, "x"]),
        "content": TEXTS,
    },
)
PLAIN = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional={
        "text": TEXTS,
        "source": SOURCE,
        "title": TEXTS,
        "id": TEXTS,
        "name": TEXTS,
        "input": ANYTHING,
        "tool_use_id": TEXTS,
        "content": TEXTS,
        "is_error": st.booleans(),
        "citations": ANYTHING,
    },
)
BLOCK = PLAIN | st.builds(lambda block, inner: {**block, "content": inner}, PLAIN, st.lists(PLAIN, max_size=2))
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "user", "assistant", "system", "tool"]),
        "content": TEXTS | st.lists(BLOCK, max_size=3),
    }
)


@given(st.lists(MESSAGE, max_size=4))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_messages_are_turns_that_alternate_or_a_client_failure(messages):
    try:
        got = asked(messages)
    except ClientFailure:
        return
    turns = got.wish.prompt.messages
    assert turns[-1].role == "user"
    assert all(before.role != after.role for before, after in pairwise(turns))
    assert all(turn.parts for turn in turns)
    assert set(got.ignored) <= {"citations"}


FIELDS = ("messages", "system", "thinking", "output_config", "tools", "stop_sequences", "temperature", "max_tokens")


@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=3))
@settings(max_examples=200, deadline=None)
def test_any_fields_are_a_wish_or_a_client_failure(fields):
    try:
        got = asked(**{"messages": HI, **fields})
    except ClientFailure:
        return
    assert got.wish.prompt.messages
