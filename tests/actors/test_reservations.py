"""What is held for a request is no less than it can take."""

from hypothesis import given
from hypothesis import strategies as st

from llmux.actors.reservations import ANSWER_TOKENS, IMAGE_TOKENS, PROGRAM_TOKENS, Reservation, reservation_of
from llmux.prompts import Image, Message, Prompt, Sampling, Text, ToolResult, embed, user


def test_text_counts_by_its_bytes_and_an_image_as_the_dearest_one():
    image = Image("image/png", "A" * 100_000)
    result = ToolResult("1", (Text("äöü"), image))
    prompt = Prompt((Message("user", (Text("12345"), image, result)),), system="1")
    assert reservation_of(prompt).input == PROGRAM_TOKENS + 4 + 2 * IMAGE_TOKENS


def test_the_answer_is_bounded_where_the_prompt_bounds_it():
    capped = reservation_of(Prompt((user("hi!"),), sampling=Sampling(max_tokens=90)))
    assert capped == Reservation(PROGRAM_TOKENS + 1, 90)
    assert capped.least == capped.within(10_000) == PROGRAM_TOKENS + 91
    open_ended = reservation_of(Prompt((user("hi!"),)))
    assert open_ended.least == PROGRAM_TOKENS + 2
    assert open_ended.within(10_000) == PROGRAM_TOKENS + 1 + ANSWER_TOKENS
    vectors = reservation_of(embed("one", "two"))
    assert vectors.least == vectors.within(10_000) == PROGRAM_TOKENS + 2


@given(st.integers(0, 9_000), st.none() | st.integers(0, 9_000), st.integers(0, 30_000))
def test_what_is_held_is_at_least_what_is_needed_and_never_more_than_is_left(asked, answer, more):
    wanted = Reservation(asked, answer)
    left = wanted.least + more
    assert wanted.least <= wanted.within(left) <= left
