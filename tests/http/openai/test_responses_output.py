"""The items of a response and its events, for any answer: what the events tell is what the items are. Pure."""

from itertools import count
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from llmux.http.openai.responses.output import Output
from llmux.prompts import Finish, ReasoningDelta, TextDelta, Usage, answer_of

TEXT = st.text(min_size=1, max_size=4)
CHUNKS = st.lists(st.builds(TextDelta, TEXT) | st.builds(ReasoningDelta, TEXT), max_size=12)
STATUS = st.sampled_from(["completed", "incomplete"])


def plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def accumulated(events: list[Any]) -> list[Any]:
    """What a client makes of the events: places are filled, parts added, deltas appended, and each `done` says the same."""
    items: dict[int, Any] = {}
    for event in events:
        kind, index = event["type"], event["output_index"]
        if kind == "response.output_item.added":
            assert index == len(items)
            items[index] = event["item"]
            continue
        item = items[index]
        if kind == "response.output_item.done":
            item["status"] = event["item"]["status"]
            assert item == event["item"]
            continue
        parts = item["content"] if item["type"] == "message" else item["summary"]
        place = event["content_index"] if item["type"] == "message" else event["summary_index"]
        assert (event["item_id"], item["status"]) == (item["id"], "in_progress")
        if kind.endswith("part.added"):
            assert place == len(parts)
            parts.append(event["part"])
        elif kind.endswith(".delta"):
            parts[place]["text"] += event["delta"]
        elif kind.endswith("part.done"):
            assert parts[place] == event["part"]
        else:
            assert parts[place]["text"] == event["text"]
    return [items[index] for index in range(len(items))]


@given(CHUNKS, STATUS)
def test_what_the_events_tell_is_what_the_items_are(chunks, status):
    output = Output("f" * 32, count(2))
    events = [event for chunk in chunks for event in output.take(chunk)]
    events = plain(events + output.close(status))
    assert [event["sequence_number"] for event in events] == list(range(2, 2 + len(events)))
    items = plain(output.items)
    assert accumulated(events) == items
    assert len({item["id"] for item in items}) == len(items)
    whole = answer_of([*chunks, Finish("stop", Usage())])
    messages = [item for item in items if item["type"] == "message"]
    assert [each["content"][0]["text"] for each in messages] == ([whole.text] if whole.text else [])
    thoughts = [item["summary"][0]["text"] for item in items if item["type"] == "reasoning"]
    assert "".join(thoughts) == whole.reasoning
    assert all(item["status"] in ("completed", status) for item in items)
    assert output.close(status) == []


@given(CHUNKS)
def test_an_answer_that_broke_off_leaves_what_it_said_as_incomplete(chunks):
    output, whole = Output("f" * 32, count()), Output("f" * 32, count())
    for chunk in chunks:
        output.take(chunk)
        whole.take(chunk)
    whole.close("incomplete")
    assert output.broken_off() == whole.items


def test_thoughts_end_where_the_answer_begins_and_may_go_on_beside_it():
    output = Output("0" * 32, count())
    for chunk in (ReasoningDelta("hm"), TextDelta("a"), ReasoningDelta("oh"), TextDelta("b")):
        output.take(chunk)
    output.close("incomplete")
    assert [(item["id"][:3], item["status"]) for item in plain(output.items)] == [
        ("rs_", "completed"),
        ("msg", "incomplete"),
        ("rs_", "completed"),
    ]
