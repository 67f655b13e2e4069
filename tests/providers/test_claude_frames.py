"""What is written to Claude Code for a prompt."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Image, Message, Prompt, Sampling, Text, ToolCall, ToolResult, assistant, user
from llmux.providers.claude.frames import Frames, awaits_result, frames_of, thinking_tokens
from llmux.providers.claude.wire import encode

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # 1 x 1, PNG


def requests(frames: Frames) -> dict[str, Any]:
    return {control["request"]["subtype"]: control["request"] for control in frames.controls}


def said(frames: Frames) -> list[tuple[str, Any]]:
    return [(turn["type"], turn["message"]["content"]) for turn in frames.turns]


def test_a_plain_question_is_one_setting_and_one_line() -> None:
    frames = frames_of(Prompt((user("Hello"),), system="Be brief."))
    assert requests(frames) == {"initialize": {"subtype": "initialize", "systemPrompt": ["Be brief."]}}
    content = [{"type": "text", "text": "Hello"}]
    assert frames.turns == ({"type": "user", "message": {"role": "user", "content": content}},)


def test_without_system_text_the_list_is_empty_and_not_absent() -> None:
    """Absent would mean the CLI's own coding prompt; an empty text would be refused by the API."""
    assert requests(frames_of(Prompt((user("Hello"),))))["initialize"]["systemPrompt"] == []


def test_only_past_user_lines_await_a_result_and_every_answer_has_its_own_id() -> None:
    frames = frames_of(Prompt((user("a"), assistant("b"), user("c"), assistant("d"), user("e"))))
    assert [awaits_result(turn) for turn in frames.turns] == [True, False, True, False, False]
    ids = [turn["message"]["id"] for turn in frames.turns if turn["type"] == "assistant"]
    assert len(set(ids)) == 2


def test_a_longer_conversation_begins_with_the_same_bytes() -> None:
    """Else the vendor's prompt cache would not work."""
    past = (user("a"), assistant("b"), user("c"))
    short, longer = frames_of(Prompt(past)), frames_of(Prompt((*past, assistant("d"), user("e"))))
    assert [encode(turn) for turn in longer.turns[:2]] == [encode(turn) for turn in short.turns[:2]]


def test_neighbours_of_one_role_are_one_turn_and_empty_ones_vanish() -> None:
    frames = frames_of(Prompt((user("a"), assistant(""), user("b"), assistant("c"), assistant("d"), user("e"))))
    blocks = [{"type": "text", "text": text} for text in "abcd"]
    last = [{"type": "text", "text": "e"}]
    assert said(frames) == [("user", blocks[:2]), ("assistant", blocks[2:]), ("user", last)]


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (user(""),),
        (user(" \n\t"),),
        (user("a"), assistant("b")),
        (user("a"), assistant("b"), user("")),
    ],
)
def test_a_prompt_that_asks_nothing_is_refused(messages: tuple[Message, ...]) -> None:
    """The CLI would drop the text and send its reminder of the date alone."""
    with pytest.raises(ProviderFailure) as caught:
        frames_of(Prompt(messages))
    assert caught.value.kind is Kind.INVALID_REQUEST


def test_an_image_alone_is_a_question() -> None:
    frames = frames_of(Prompt((Message("user", (Image("image/png", PIXEL),)),)))
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    assert said(frames) == [("user", [{"type": "image", "source": source}])]


def test_a_slash_in_the_last_text_is_guarded_and_nowhere_else() -> None:
    frames = frames_of(
        Prompt(
            (
                Message("user", (Text("/a"), Text("/b"))),
                assistant("/c"),
                Message("user", (Text("/d"), Image("image/png", PIXEL))),
            )
        )
    )
    assert [block["text"] for block in said(frames)[0][1]] == ["/a", " /b"]
    assert said(frames)[1][1][0]["text"] == "/c"
    assert said(frames)[2][1][0]["text"] == " /d"


def test_results_of_tools_come_first_in_their_turn() -> None:
    call = Message("assistant", (ToolCall("c1", "f", '{"x":1}'), ToolCall("c2", "g", "")))
    results = Message("user", (Text("so?"), ToolResult("c1", (Text("1"),)), ToolResult("c2", (), is_error=True)))
    frames = frames_of(Prompt((user("a"), call, results)))
    assert [block["input"] for block in said(frames)[1][1]] == [{"x": 1}, {}]
    first, second, text = said(frames)[2][1]
    assert (first["tool_use_id"], first["content"], "is_error" in first) == (
        "c1",
        [{"type": "text", "text": "1"}],
        False,
    )
    assert (second["tool_use_id"], second["is_error"], text["text"]) == ("c2", True, "so?")


@pytest.mark.parametrize("arguments", ["{", "[1]", '"x"'])
def test_past_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    messages = (user("a"), Message("assistant", (ToolCall("c1", "f", arguments),)), user("b"))
    with pytest.raises(ProviderFailure) as caught:
        frames_of(Prompt(messages))
    assert caught.value.kind is Kind.INVALID_REQUEST


@pytest.mark.parametrize(
    ("sampling", "tokens"),
    [
        (Sampling(), None),
        (Sampling(reasoning_effort="high"), None),
        (Sampling(reasoning_effort="none"), 0),
        (Sampling(reasoning_effort="minimal"), 0),
        (Sampling(temperature=0.0), 0),
        (Sampling(top_p=0.5, reasoning_effort="high"), 0),
        (Sampling(max_tokens=8000), 0),
        (Sampling(max_tokens=8000, reasoning_effort="low"), 4000),
        (Sampling(max_tokens=2000, reasoning_effort="low"), 0),
    ],
)
def test_thinking_is_off_where_it_would_clash(sampling: Sampling, tokens: int | None) -> None:
    assert thinking_tokens(sampling) == tokens
    frames = frames_of(Prompt((user("a"),), sampling=sampling))
    wanted = requests(frames).get("set_max_thinking_tokens", {"max_thinking_tokens": None})
    assert wanted["max_thinking_tokens"] == tokens


def test_sampling_travels_in_settings() -> None:
    sampling = Sampling(temperature=0.3, top_p=0.9, stop=('"}',), max_tokens=9, reasoning_effort="minimal")
    frames = frames_of(Prompt((user("a"),), sampling=sampling))
    settings = requests(frames)["apply_flag_settings"]["settings"]
    body = json.loads(settings["env"]["CLAUDE_CODE_EXTRA_BODY"])
    assert body == {"temperature": 0.3, "top_p": 0.9, "stop_sequences": ['"}']}
    assert settings["env"]["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "9"
    assert settings["effortLevel"] == "low"
    assert frames.ignored == ("reasoning_effort",)


@pytest.mark.parametrize(
    ("sampling", "carried"),
    [
        (Sampling(reasoning_effort="high"), True),
        (Sampling(reasoning_effort="none"), True),
        (Sampling(reasoning_effort="none", temperature=0.5), True),
        (Sampling(reasoning_effort="low", max_tokens=8000), True),
        (Sampling(temperature=0.5, max_tokens=9), True),
        (Sampling(reasoning_effort="minimal"), False),
        (Sampling(reasoning_effort="high", temperature=0.5), False),
        (Sampling(reasoning_effort="high", top_p=0.5), False),
        (Sampling(reasoning_effort="high", max_tokens=2000), False),
    ],
)
def test_an_effort_that_cannot_be_made_is_named(sampling: Sampling, carried: bool) -> None:
    frames = frames_of(Prompt((user("a"),), sampling=sampling))
    assert frames.ignored == (() if carried else ("reasoning_effort",))


def test_what_has_no_place_is_named() -> None:
    frames = frames_of(Prompt((user("a"),), sampling=Sampling(temperature=1.7, seed=1)))
    body = json.loads(requests(frames)["apply_flag_settings"]["settings"]["env"]["CLAUDE_CODE_EXTRA_BODY"])
    assert body == {"temperature": 1.0}
    assert frames.ignored == ("temperature", "seed")


def test_a_schema_is_that_of_an_object() -> None:
    frames = frames_of(Prompt((user("a"),), json_schema={"properties": {}}))
    assert requests(frames)["initialize"]["jsonSchema"] == {"type": "object", "properties": {}}
    with pytest.raises(ProviderFailure) as caught:
        frames_of(Prompt((user("a"),), json_schema={"type": "array"}))
    assert caught.value.kind is Kind.UNSUPPORTED, "another provider may be able to"


@given(st.text(alphabet=st.characters(), min_size=1))
def test_any_text_is_one_line_that_says_the_same(text: str) -> None:
    """Hypothesis's alphabet includes half surrogates, which have no form in UTF-8."""
    line = encode({"type": "user", "text": text})
    assert b"\n" not in line
    assert b"\r" not in line
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert msgspec.json.decode(line)["text"] == whole
