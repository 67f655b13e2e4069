"""Turns of a conversation, as all dialects make them."""

import pytest

from llmux.failures import ClientFailure
from llmux.http.turns import check_end, closed, join
from llmux.prompts import Image, Message, Text, ToolResult, assistant, user

PICTURE = Image("image/png", "AAAA")


def test_neighbours_of_one_role_are_one_turn_and_texts_that_meet_are_a_paragraph_apart():
    turns: list[Message] = []
    for turn in (user("a"), Message("user", ()), user("b"), Message("user", (PICTURE,)), user("c"), assistant("d")):
        join(turns, turn)
    assert turns == [Message("user", (Text("a\n\nb"), PICTURE, Text("c"))), assistant("d")]


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
