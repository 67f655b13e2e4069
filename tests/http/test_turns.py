"""Turns of one role become one, in every dialect alike."""

import time

import pytest

from llmux.http.turns import joined
from llmux.prompts import Image, Message, Part, Text, ToolResult

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
