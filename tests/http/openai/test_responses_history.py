"""Going on from a kept response: the same prompt as sending the conversation, within the same limits. No gateway, no socket."""

import json
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmux.actors.messages import Principal
from llmux.config import Limits, replaced
from llmux.failures import ClientFailure
from llmux.http.openai.responses.history import History
from llmux.http.openai.responses.items import numbered
from llmux.http.openai.responses.object import ResponseObject, begun
from llmux.http.openai.responses.output import Output
from llmux.http.openai.responses.wish import Asked, asked_of
from llmux.prompts import ReasoningDelta, TextDelta, assistant, user
from tests.http.openai.asking_responses import PIXEL, SETTINGS, asked, history, part, says


def kept_after(first: Asked, hex: str, kept: History, *chunks: Any) -> ResponseObject:
    """The whole response to `first`, kept."""
    output = Output(hex, count())
    for chunk in chunks:
        output.take(chunk)
    output.close("completed")
    answered = msgspec.structs.replace(begun(f"resp_{hex}", 1, "m", first.body), output=output.items)
    kept.keep(answered, numbered(first.items, hex), first.previous)
    return answered


WORDS = st.text("ab \n", min_size=1, max_size=6).filter(str.strip)
INPUTS = st.one_of(
    WORDS,
    st.lists(
        st.one_of(
            st.builds(says, st.just("user"), WORDS),
            st.builds(says, st.sampled_from(["system", "developer"]), WORDS),
            st.builds(lambda a, b: says("user", [part(a), part(b)]), WORDS, WORDS),
            st.just(
                says("user", [{"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}]),
            ),
            st.just({"type": "function_call_output", "call_id": "c", "output": "42"}),
        ),
        max_size=2,
    ).flatmap(lambda items: WORDS.map(lambda text: [*items, says("user", text)])),
)
TURNS = st.lists(st.tuples(INPUTS, st.none() | WORDS, st.lists(WORDS, min_size=1, max_size=3)), min_size=1, max_size=4)


@given(TURNS, INPUTS)
@settings(max_examples=60)
def test_going_on_from_a_kept_response_is_the_prompt_that_the_client_would_have_sent(turns, last):
    """Byte for byte: vendors' prompt caches know a conversation by its beginning."""
    kept, sent, previous = history(), [], {}
    for number, (input, thought, texts) in enumerate(turns):
        short, full = asked(input, kept, **previous), asked([*sent, *as_items(input)])
        assert encoded(short) == encoded(full)
        thoughts = [ReasoningDelta(thought)] if thought else []
        answer = kept_after(short, f"{number:032x}", kept, *thoughts, *map(TextDelta, texts))
        sent += [*as_items(input), *json.loads(msgspec.json.encode(answer.output))]
        previous = {"previous_response_id": answer.id}
    assert encoded(asked(last, kept, **previous)) == encoded(asked([*sent, *as_items(last)]))
    assert [item.id for item in asked(last, kept, **previous).items] == [""] * len(as_items(last))


def as_items(input: Any) -> list[Any]:
    return [says("user", input)] if isinstance(input, str) else input


def encoded(it: Asked) -> bytes:
    return msgspec.json.encode(it.wish.prompt)


def test_instructions_are_of_their_own_turn_only():
    kept = history()
    first = asked([says("system", "for ever"), says("user", "hi")], kept, instructions="this once")
    id = kept_after(first, "0" * 32, kept, TextDelta("ho")).id
    got = asked("he", kept, previous_response_id=id).wish.prompt
    assert (got.system, got.messages) == ("for ever", (user("hi"), assistant("ho"), user("he")))


def test_a_reference_stands_for_the_item_itself():
    kept = history()
    answer = kept_after(asked("hi", kept), "a" * 32, kept, ReasoningDelta("hm"), TextDelta("ho"))
    references = [{"type": "item_reference", "id": item.id} for item in answer.output]
    got = asked([{"id": f"msg_{'a' * 32}_in0"}, *references, says("user", "he")], kept)
    assert got.wish.prompt.messages == (user("hi"), assistant("ho"), user("he"))
    with pytest.raises(ClientFailure) as caught:
        asked([{"id": f"msg_{'a' * 32}_9"}, says("user", "he")], kept)
    assert (caught.value.status, caught.value.code) == (404, "item_not_found")


@pytest.mark.parametrize(
    ("limits", "fits", "code"),
    [
        ({"messages_max": 3}, 1, "too_many"),
        ({"body_bytes_max": 10_000}, 1, "request_too_large"),
    ],
)
def test_a_conversation_cannot_grow_beyond_the_limits_turn_by_turn(limits, fits, code):
    """They are those of a conversation that a client sends itself."""
    kept, small = history(), replaced(SETTINGS, limits=Limits(**limits))
    id = kept_after(asked("hi", kept), "0" * 32, kept, TextDelta("ho")).id

    def follow(number: int) -> Asked:
        input = [says("user", "a" * 3_000)] * number
        body = json.dumps({"input": input, "previous_response_id": id}).encode()
        return asked_of(body, "/v1/responses", Principal(), small, kept)

    follow(fits)
    with pytest.raises(ClientFailure) as caught:
        follow(3)
    assert caught.value.code == code
