"""A canonical prompt in the words of the app-server's protocol."""

from pathlib import Path

import pytest

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Image, Message, Prompt, Sampling, Text, Tool, ToolCall, ToolResult, assistant, user
from llmux.providers.adapter import Call
from llmux.providers.codex.connection import encode
from llmux.providers.codex.request import TurnRequest, request_of

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def request(prompt: Prompt) -> TurnRequest:
    return request_of(Call(prompt, "named", "told"), Path("/empty"))


def test_a_conversation_is_items_in_its_order_and_the_turn_has_no_input_of_its_own() -> None:
    made = request(Prompt((user("one"), assistant("two"), user("three")), system="be brief"))
    assert [(item["role"], item["content"]) for item in made.items] == [
        ("developer", [{"type": "input_text", "text": "be brief"}]),
        ("user", [{"type": "input_text", "text": "one"}]),
        ("assistant", [{"type": "output_text", "text": "two"}]),
        ("user", [{"type": "input_text", "text": "three"}]),
    ]
    assert made.turn == {"input": []}
    assert made.thread["model"] == "told"
    assert made.ignored == ()


def test_the_items_of_a_longer_conversation_begin_with_those_of_the_shorter_one_byte_for_byte() -> None:
    short = request(Prompt((user("one"),), system="s")).items
    long = request(Prompt((user("one"), assistant("two"), user("three")), system="s")).items
    assert encode({"": long[: len(short)]}) == encode({"": short})
    assert len({item["id"] for item in long}) == len(long)


def test_images_stand_where_they_stood_between_the_texts() -> None:
    message = Message("user", (Text("look:"), Image("image/png", PIXEL), Text("well?")))
    (item,) = request(Prompt((message,))).items
    assert item["content"] == [
        {"type": "input_text", "text": "look:"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "original"},
        {"type": "input_text", "text": "well?"},
    ]


@pytest.mark.parametrize(
    "image",
    [Image("image/jpeg", PIXEL), Image("image/png", "!!"), Image("image/png", ""), Image("text/html", PIXEL)],
)
def test_an_image_that_codex_would_silently_leave_out_is_refused(image: Image) -> None:
    with pytest.raises(ProviderFailure) as caught:
        request(Prompt((Message("user", (image,)),)))
    assert caught.value.kind is Kind.INVALID_REQUEST


def test_wishes_that_the_protocol_has_no_word_for_are_named() -> None:
    sampling = Sampling(temperature=0.0, top_p=1.0, stop=("x",), max_tokens=5, seed=0, reasoning_effort="high")
    made = request(Prompt((user("q"),), sampling=sampling, json_schema={}))
    assert made.ignored == ("temperature", "top_p", "max_tokens", "seed", "json_schema")
    assert made.stop == ("x",), "the answer is cut here"
    assert made.turn == {"input": [], "effort": "high"}


def test_a_json_schema_goes_with_the_turn() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert request(Prompt((user("q"),), json_schema=schema)).turn["outputSchema"] == schema


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt((user("q"),), tools=(Tool("f"),)),
        Prompt((Message("assistant", (ToolCall("1", "f", "{}"),)), user("q"))),
        Prompt((Message("user", (ToolResult("1", (Text("r"),)),)),)),
        Prompt((Message("assistant", (Image("image/png", PIXEL),)), user("q"))),
    ],
)
def test_what_codex_cannot_be_given_is_refused_with_a_sentence(prompt: Prompt) -> None:
    with pytest.raises(ProviderFailure) as caught:
        request(prompt)
    assert caught.value.kind is Kind.UNSUPPORTED, "another provider may be able to"
    assert str(caught.value).endswith(".")


def test_a_line_is_valid_utf8_whatever_is_in_it() -> None:
    line = encode({"text": "a\ud800b\udfffc\x00\n\u2028€\ud83e\udd8a"})
    assert b"\n" not in line
    assert line.decode("utf-8") == '{"text":"a\ufffdb\ufffdc\\u0000\\n\u2028€🦊"}'
