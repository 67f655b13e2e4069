"""Ollama's bodies -> the canonical prompt. Pure but for the names of models, which a stand-in of the system knows."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmux.actors.messages import Principal
from llmux.config import Limits
from llmux.failures import ClientFailure
from llmux.http.bodies import decoded
from llmux.http.ollama.bodies import Asked, ChatBody, GenerateBody, chat_asked, generate_asked
from llmux.prompts import Image, Message, Sampling, Text, ToolCall, ToolResult, assistant, user
from tests.http.served import settings_of

HOUSE: Any = SimpleNamespace(settings=settings_of(Path("/nowhere")), models=lambda: ())
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HI = [{"role": "user", "content": "hi"}]


def asked(messages: Any = HI, **fields: Any) -> Asked:
    body = json.dumps({"model": "m", "messages": messages, **fields}).encode()
    return chat_asked(decoded(body, ChatBody), "/api/chat", Principal(), HOUSE)


def generating(**fields: Any) -> Asked:
    body = json.dumps({"model": "m", "prompt": "p", **fields}).encode()
    return generate_asked(decoded(body, GenerateBody), "/api/generate", Principal(), HOUSE)


def prompt(messages: Any = HI, **fields: Any):
    wish = asked(messages, **fields).wish
    assert wish is not None
    return wish.prompt


def says(role: str, content: Any = "", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def test_system_texts_and_turns():
    got = prompt([says("system", "a"), says("user", "b"), says("user", "c"), says("assistant", "d"), says("user", "e")])
    assert (got.system, got.messages) == ("a", (user("b\n\nc"), assistant("d"), user("e")))
    assert prompt([says("system", "only this")]).messages == (user("only this"),)


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PIXEL, "image/png"),
        ("/9j/4AAQSkZJRgABAQ==", "image/jpeg"),
        ("R0lGODlhAQABAAAAACw=", "image/gif"),
        ("UklGRiQAAABXRUJQVlA4", "image/webp"),
    ],
)
def test_an_image_is_what_its_first_bytes_say(data, media_type):
    got = prompt([says("user", "look", images=[data])])
    assert got.messages == (Message("user", (Text("look"), Image(media_type, data))),)
    assert generating(images=[data]).wish.prompt.messages[0].parts == (Text("p"), Image(media_type, data))


@pytest.mark.parametrize("data", ["", "AAAA", "not base64!", "http://example.com/cat.png", "/etc/passwd", "é"])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(ClientFailure) as caught:
        prompt([says("user", "look", images=[data])])
    assert caught.value.code == "unsupported_image"


def test_results_find_the_calls_they_belong_to_by_name_and_then_by_order():
    calls = [{"function": {"name": name, "arguments": {"n": i}}} for i, name in enumerate(("f", "g", "f"))]
    got = prompt(
        [
            *HI,
            says("assistant", tool_calls=calls),
            says("tool", "of g", tool_name="g"),
            says("tool", "of the first"),
            says("tool", "of the last", tool_name="f"),
        ]
    )
    made, results = got.messages[1].parts, got.messages[2].parts
    assert [(call.name, call.arguments) for call in made] == [("f", '{"n":0}'), ("g", '{"n":1}'), ("f", '{"n":2}')]
    assert [(each.call_id, each.content) for each in results] == [
        (made[1].id, (Text("of g"),)),
        (made[0].id, (Text("of the first"),)),
        (made[2].id, (Text("of the last"),)),
    ]
    assert all(isinstance(each, ToolCall) for each in made)
    assert all(isinstance(each, ToolResult) for each in results)
    with pytest.raises(ClientFailure, match="no tool call"):
        prompt([*HI, says("tool", "x")])


def test_options_are_wishes_and_the_rest_of_them_is_named():
    got = asked(
        options={"temperature": 0, "top_p": 0.5, "stop": ["a"], "num_predict": 7, "seed": 3, "min_p": 0.1, "x": 1}
    )
    assert got.wish.prompt.sampling == Sampling(temperature=0.0, top_p=0.5, stop=("a",), max_tokens=7, seed=3)
    assert got.ignored == ("options.min_p",)
    endless = prompt(options={"num_predict": -1, "seed": -1, "stop": "b"}).sampling
    assert endless == Sampling(stop=("b",))
    assert asked(logprobs=True, top_logprobs=3).ignored == ("logprobs", "top_logprobs")
    assert asked(keep_alive="5m", tools=[], options={}, format="").ignored == ()


@pytest.mark.parametrize(
    ("think", "effort"), [(True, "medium"), (False, "none"), ("low", "low"), ("high", "high"), (None, None)]
)
def test_thinking_is_an_effort(think, effort):
    assert prompt(think=think).sampling.reasoning_effort == effort
    assert generating(think=think).wish.prompt.sampling.reasoning_effort == effort


def test_a_format_is_a_schema_or_any_json():
    assert prompt(format="json").json_schema == {}
    assert prompt(format={"type": "object"}).json_schema == {"type": "object"}
    assert prompt(format=None).json_schema is None


def test_a_stream_is_the_default():
    assert [asked(**each).wish.stream for each in ({}, {"stream": True}, {"stream": False})] == [True, True, False]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"format": "xml"}, "format"),
        ({"format": 5}, "format"),
        ({"think": "a bit"}, "think"),
        ({"options": {"temperature": 3}}, "options.temperature"),
        ({"options": {"stop": ["a", ""]}}, "options.stop"),
        ({"options": []}, "options"),
        ({"messages": [says("god", "x")]}, "messages[0].role"),
        ({"messages": [*HI, says("assistant", "x")]}, "messages"),
        ({"messages": [says("user", "  ")]}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"model": ""}, "model"),
    ],
)
def test_what_cannot_be_done_is_named(fields, param):
    with pytest.raises(ClientFailure) as caught:
        asked(**{"messages": HI, **fields})
    assert caught.value.param == param


def test_counts_and_depths_are_bounded():
    deep: Any = {}
    for _ in range(Limits().json_depth_max + 1):
        deep = {"a": deep}
    for fields in (
        {"format": deep},
        {"messages": HI * (Limits().messages_max + 1)},
        {"options": {"stop": ["a"] * (Limits().stop_sequences_max + 1)}},
    ):
        with pytest.raises(ClientFailure) as caught:
            asked(**{"messages": HI, **fields})
        assert caught.value.status == 422


@pytest.mark.parametrize("name", ["suffix", "template", "raw", "context"])
def test_generate_refuses_what_would_make_another_prompt_of_it(name):
    value = {"raw": True, "context": [1, 2]}.get(name, "x")
    with pytest.raises(ClientFailure) as caught:
        generating(**{name: value})
    assert caught.value.param == name
    empty = {"raw": False, "context": []}.get(name, "")
    assert generating(**{name: empty}).wish is not None


def test_generate_is_one_message_and_a_system_text():
    got = generating(system="s").wish.prompt
    assert (got.system, got.messages) == ("s", (user("p"),))
    assert generating(prompt="").wish is None
    assert generating(prompt=None).wish is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("messages", "options", "format", "think", "images", "tools", "stream", "prompt", "model", "context")


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5), st.lists(JSON, max_size=3))
def test_translation_is_total(fields, messages):
    """Whatever the body holds, it is a wish or a ClientFailure."""
    for body in (fields, {**fields, "messages": messages}, {**fields, "model": "m", "messages": [{"role": "user"}]}):
        data = json.dumps(body).encode()
        for read, kind in ((chat_asked, ChatBody), (generate_asked, GenerateBody)):
            try:
                got = read(decoded(data, kind), "/api/chat", Principal(), HOUSE)
            except ClientFailure:
                continue
            assert got.wish is None or got.wish.prompt.messages
