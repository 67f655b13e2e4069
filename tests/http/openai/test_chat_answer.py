"""Answers with tool calls, as OpenAI's clients read them."""

import msgspec

from llmux.http.openai.chat_answer import Delta, call_delta_of, message_of
from llmux.prompts import Finish, ReasoningDelta, TextDelta, ToolCallDelta, Usage, answer_of

CALLS = [
    ToolCallDelta(0, "c0", "weather", '{"in":'),
    ToolCallDelta(0, arguments='"Oslo"}'),
    ToolCallDelta(1, "c1", "time", "{}"),
]
FINISH = Finish("tool_calls", Usage())


def built(value: msgspec.Struct):
    return msgspec.json.decode(msgspec.json.encode(value))


def test_a_message_that_only_calls_tools_has_null_for_content():
    assert built(message_of(answer_of([*CALLS, FINISH]))) == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {"id": "c0", "type": "function", "function": {"name": "weather", "arguments": '{"in":"Oslo"}'}},
            {"id": "c1", "type": "function", "function": {"name": "time", "arguments": "{}"}},
        ],
    }


def test_what_is_said_beside_calls_and_an_empty_text_without_any_stay_texts():
    both = message_of(answer_of([ReasoningDelta("hm"), TextDelta("Looking."), *CALLS, FINISH]))
    assert (both.content, both.reasoning_content) == ("Looking.", "hm")
    assert built(message_of(answer_of([Finish("length", Usage())]))) == {
        "role": "assistant",
        "content": "",
        "refusal": None,
    }


def test_only_the_first_piece_of_a_call_has_its_id_and_name():
    pieces = [built(Delta(tool_calls=(call_delta_of(each),))) for each in CALLS]
    assert pieces[:2] == [
        {
            "tool_calls": [
                {"index": 0, "id": "c0", "type": "function", "function": {"name": "weather", "arguments": '{"in":'}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Oslo"}'}}]},
    ]
