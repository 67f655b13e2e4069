"""Streams of /v1/messages, event by event."""

import json
from typing import Any

import pytest

from llmux.failures import ClientFailure
from llmux.http.anthropic.frames import MessageFrames
from llmux.http.errors import problem_of
from llmux.http.exchange import Exchange
from llmux.http.streams import KEEP_ALIVE
from llmux.prompts import Finish, ReasoningDelta, TextDelta, Usage
from tests.http.anthropic.asking import asked, body
from tests.http.test_resuming import begun, last_id, resume

MESSAGES = "/v1/messages"
THINKING = {"type": "adaptive"}


def events_of(stream: bytes) -> list[tuple[str, Any]]:
    """(name, data) of each event, comments left out."""
    events = []
    for part in stream.decode().split("\n\n")[:-1]:
        lines = [line for line in part.split("\n") if not line.startswith((":", "id: "))]
        if lines:
            name, data = lines
            events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


async def streamed(here, **fields: Any) -> list[tuple[str, Any]]:
    reply = await here.post(MESSAGES, body(stream=True, **fields))
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
    return events_of(reply.body)


async def test_a_stream_has_a_start_one_block_and_an_end_with_the_whole_usage(door):
    reply = await door.post(MESSAGES, body(stream=True, model="say=one+two"))
    events = events_of(reply.body)
    assert all(name == data["type"] for name, data in events)
    started = events[0][1]["message"]
    assert started["id"] == "msg_" + reply.headers["request-id"].replace("-", "")
    assert (started["content"], started["stop_reason"], started["model"]) == ([], None, "say=one+two")
    assert (started["usage"]["input_tokens"], started["usage"]["output_tokens"]) == (0, 0)
    assert "_meta" not in started
    block = {"type": "text", "text": "", "citations": None}
    assert [data for _, data in events[1:-2]] == [
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "two"}},
        {"type": "content_block_stop", "index": 0},
    ]
    end = events[-2][1]
    assert end["type"] == "message_delta"
    assert end["delta"] == {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None, "container": None}
    assert (end["usage"]["input_tokens"], end["usage"]["output_tokens"]) == (1, 2)
    assert (end["_meta"]["provider"], end["_meta"]["request_id"]) == ("claude", reply.headers["request-id"])
    assert events[-1] == ("message_stop", {"type": "message_stop"})


async def test_thoughts_are_a_block_of_their_own_before_the_text(door):
    model = "reason=let+me+see,say=42"
    events = await streamed(door, model=model, thinking=THINKING)
    told = [(data["type"], data.get("index")) for _, data in events[1:-2]]
    assert told == [(f"content_block_{what}", index) for index in (0, 1) for what in ("start", "delta", "stop")]
    assert events[1][1]["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    assert events[2][1]["delta"] == {"type": "thinking_delta", "thinking": "let me see"}
    hidden = await streamed(door, model=model)
    assert [data["content_block"]["type"] for name, data in hidden if name == "content_block_start"] == ["text"]


async def test_the_stop_sequence_is_named_in_the_end(door):
    events = await streamed(door, model="say=one+two+three", stop_sequences=["two"], top_k=1)
    end = dict(events)["message_delta"]
    assert (end["delta"]["stop_reason"], end["delta"]["stop_sequence"]) == ("stop_sequence", "two")
    assert end["_meta"]["ignored"] == ["top_k"]


async def test_a_failure_after_the_first_chunk_is_an_error_event_and_the_end(door):
    events = await streamed(door, model="claude/say=one+two+three,fail=overloaded,after=2")
    assert [name for name, _ in events] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_delta", "error",
    ]  # fmt: skip
    error = events[-1][1]
    assert (error["type"], error["error"]["type"]) == ("error", "overloaded_error")
    assert "script fails" in error["error"]["message"]
    assert error["request_id"]


async def test_silence_is_filled_with_comments_that_no_client_reads(door, virtual_time):
    reply = await door.post(MESSAGES, body(stream=True, model="delay=40000,say=one+two,gap=20000"))
    assert reply.body.startswith(KEEP_ALIVE)
    assert reply.body.count(KEEP_ALIVE) == 3
    names = [name for name, _ in events_of(reply.body)]
    assert "ping" not in names
    assert names[0] == "message_start"


async def test_a_stream_from_the_cache_has_the_same_events(door):
    first, second = [await streamed(door, model="say=again+and+again") for _ in range(2)]
    assert second[-2][1]["_meta"]["cached"] is True
    assert [data for _, data in first[1:-2]] == [data for _, data in second[1:-2]]
    assert first[-2][1]["usage"] == second[-2][1]["usage"]


@pytest.fixture
def resumable_body(monkeypatch):
    """What `begun` sends to /v1/messages."""
    starts = {MESSAGES: lambda model: body(model=f"claude/{model}", stream=True, thinking=THINKING)}
    monkeypatch.setattr("tests.http.test_resuming.STARTS", starts)


async def test_a_lost_stream_goes_on_behind_its_last_event(door, virtual_time, resumable_body):
    model = "reason=hm,say=one+two+three+four,gap=50"
    async with begun(door, model, MESSAGES, pieces=2) as (id, received):
        pass
    rest = await resume(door, id, last_id(received))
    whole = await resume(door, id)
    assert received + rest.body.replace(KEEP_ALIVE, b"") == whole.body
    numbers = [int(part.partition(b"\n")[0].removeprefix(b"id: ")) for part in whole.body.split(b"\n\n")[:-1]]
    assert numbers == list(range(1, len(numbers) + 1))
    events = events_of(whole.body)
    assert events[-1][0] == "message_stop"
    assert len(events) == len(numbers)


async def test_frames_can_be_made_again_byte_for_byte(door):
    exchange = Exchange(door.system)
    wish = asked(model="reason=hm,say=one+two", stream=True).wish
    with door.system.request(wish) as request:
        chunks = []
        while more := await request.receive():
            chunks += more
    first, second = (MessageFrames(exchange, request, shows_thinking=True) for _ in range(2))
    made = first.opening() + b"".join(map(first.chunk, chunks))
    assert made == second.opening() + b"".join(map(second.chunk, chunks))
    problem = problem_of(ClientFailure("no"), 0)
    assert first.failure(problem) == second.failure(problem)


async def test_blocks_never_overlap_however_thoughts_and_text_alternate(door):
    with door.system.request(asked(model="echo").wish) as request:
        await request.answer()
    frames = MessageFrames(Exchange(door.system), request, shows_thinking=True)
    chunks = [ReasoningDelta("a"), TextDelta("b"), TextDelta("c"), ReasoningDelta("d"), Finish("stop", Usage())]
    events = events_of(frames.opening() + b"".join(map(frames.chunk, chunks)))
    assert [(data["type"].removeprefix("content_block_"), data.get("index")) for _, data in events[1:-2]] == [
        ("start", 0), ("delta", 0), ("stop", 0),
        ("start", 1), ("delta", 1), ("delta", 1), ("stop", 1),
        ("start", 2), ("delta", 2), ("stop", 2),
    ]  # fmt: skip
