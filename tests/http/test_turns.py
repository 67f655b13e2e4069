"""Turns of one role become one, in every dialect alike."""

import time

import pytest

from llmux.failures import ClientFailure
from llmux.http.turns import check_end, closed, joined
from llmux.prompts import Image, Message, Part, Text, ToolResult, assistant, user

PICTURE = Image("image/png", "iVBORw0KGgo=")
RESULT = ToolResult("call", (Text("42"),))


def says(*parts: Part | str) -> Message:
    return Message("user", tuple(Text(part) if isinstance(part, str) else part for part in parts))


@pytest.mark.parametrize(
    ("turns", "parts"),
    [
        ([says("a"), says("b"), says("c")], says("a\n\nb\n\nc")),
        ([says("a", "b"), says("c", "d")], says("a", "b\n\nc", "d")),
        ([says(PICTURE), says("a"), says(PICTURE, "b"), says("c")], says(PICTURE, "a", PICTURE, "b\n\nc")),
        ([says(RESULT), says(RESULT), says("a")], says(RESULT, RESULT, "a")),
        ([says(), says("a"), says()], says("a")),
    ],
    ids=["paragraphs", "parts", "images", "results", "silence"],
)
def test_neighbours_of_one_role_are_one_turn_a_paragraph_apart(turns: list[Message], parts: Message) -> None:
    assert joined(turns) == [parts]


def test_another_role_begins_another_turn() -> None:
    answer = Message("assistant", (Text("b"),))
    assert joined([says("a"), answer, says("c"), says("d")]) == [says("a"), answer, says("c\n\nd")]


def test_ten_thousand_turns_of_one_role_hold_nobody_up() -> None:
    began = time.process_time()
    (turn,) = joined([says("x" * 1_000)] * 10_000)
    assert time.process_time() - began < 1  # copied from turn to turn, they would take ten times that
    assert turn.parts == (Text("\n\n".join(["x" * 1_000] * 10_000)),)


def test_system_text_alone_is_what_the_user_says():
    assert closed(["a", "b"], [], "input") == ("", (user("a\n\nb"),))
    assert closed(["a", "b"], [user("c")], "input") == ("a\n\nb", (user("c"),))


@pytest.mark.parametrize(
    ("system", "turns", "code"),
    [
        ([], [], "missing_messages"),
        ([" "], [], "missing_messages"),
        (["a"], [user(" \n")], "blank_message"),
        ([], [user("a"), assistant("b")], "unsupported_parameter"),
    ],
)
def test_a_conversation_that_asks_nothing_is_refused_under_the_name_of_its_field(system, turns, code):
    with pytest.raises(ClientFailure) as caught:
        closed(system, turns, "input")
    assert (caught.value.code, caught.value.param) == (code, "input")


def test_a_picture_or_a_result_is_something_to_answer_and_a_dialect_says_in_its_words_what_it_wants():
    check_end([Message("user", (Text(" "), PICTURE))], "messages", "no")
    check_end([Message("user", (ToolResult("c", ()),))], "messages", "no")
    with pytest.raises(ClientFailure, match=r"^in our words$"):
        check_end([assistant("a")], "messages", "in our words")
