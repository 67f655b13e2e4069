"""What clients put into messages beside text. Pure: no gateway, no socket."""

from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmux.failures import ClientFailure
from llmux.prompts import assistant, user
from tests.http.openai.test_chat_body import HI, PIXEL, asked, prompt, says


def test_names_of_participants_and_the_detail_of_images_are_left_out_and_reported():
    assert asked([says("user", "hi", name="ann")]).ignored == ("messages.name",)
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    history = [*HI, says("assistant", None, tool_calls=calls), says("tool", "42", tool_call_id="c1", name="f")]
    assert asked(history).ignored == (), "a tool is known by its call"
    for detail, ignored in (("high", ("image_url.detail",)), ("auto", ())):
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": detail}}
        assert asked([says("user", [image])]).ignored == ignored


def test_a_refusal_is_what_the_assistant_said():
    said = says("assistant", None, refusal="I cannot.")
    assert prompt([*HI, said, says("user", "why?")]).messages[1] == assistant("I cannot.")
    parts = [{"type": "refusal", "refusal": "I cannot."}]
    assert prompt([*HI, says("assistant", parts), says("user", "why?")]).messages[1] == assistant("I cannot.")


def test_the_answer_of_an_earlier_request_can_be_sent_back_as_it_came():
    answer = {"role": "assistant", "content": "ho", "refusal": None, "reasoning_content": "hm", "audio": None}
    more = {"tool_calls": None, "function_call": None, "annotations": None}
    got = asked([*HI, {**answer, **more}, says("user", "he")])
    assert (got.wish.prompt.messages, got.ignored) == ((user("hi"), assistant("ho"), user("he")), ())


TEXTS = st.none() | st.text(max_size=8)
ANYTHING = TEXTS | st.integers() | st.lists(TEXTS, max_size=2) | st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=2)
CALL = st.fixed_dictionaries({}, optional={"id": TEXTS, "type": TEXTS, "function": ANYTHING})
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "refusal", "image_url", "input_audio", "file"])},
    optional={"text": TEXTS, "refusal": TEXTS, "image_url": ANYTHING},
)
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system", "developer", "tool", "function"]),
        "content": TEXTS | st.lists(PART, max_size=3),
    },
    optional={
        "name": TEXTS,
        "refusal": TEXTS,
        "tool_calls": st.none() | st.lists(CALL, max_size=2),
        "tool_call_id": TEXTS,
        "audio": st.none() | ANYTHING,
        "function_call": st.none() | ANYTHING,
    },
)


@given(st.lists(MESSAGE, max_size=5))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_messages_are_turns_that_alternate_or_a_client_failure(messages):
    try:
        got = asked(messages)
    except ClientFailure:
        return
    roles = [turn.role for turn in got.wish.prompt.messages]
    assert roles[-1] == "user"
    assert all(before != after for before, after in pairwise(roles))
    assert all(turn.parts for turn in got.wish.prompt.messages)
    assert set(got.ignored) <= {"messages.name", "image_url.detail"}
