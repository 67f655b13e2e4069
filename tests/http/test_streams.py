"""Streams: true statuses, keep-alive comments, error frames, and clients that go away."""

import pytest
import trio

from llmux.failures import Kind
from llmux.http.streams import KEEP_ALIVE
from llmux.prompts import Finish, TextDelta, Usage
from tests.http.served import JSON, connected, frames_of

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]


def native(model: str, **more) -> dict:
    return {"prompt": "hi", "stream": True, "options": {"model": model, "retries": 0, "useCache": False}, **more}


def chat(model: str, **more) -> dict:
    return {"model": f"claude/{model}", "messages": HI, "stream": True, **more}


@pytest.mark.parametrize(
    ("kind", "status"),
    [("rate_limited", 429), ("logged_out", 503), ("crashed", 502), ("timed_out", 504), ("refused", 400)],
)
async def test_a_failure_before_the_first_chunk_has_its_true_status(door, virtual_time, kind, status):
    for path, body in (("/claude", native(f"fail={kind},delay=1")), (CHAT, chat(f"fail={kind}"))):
        reply = await door.post(path, body)
        assert reply.status == status, reply
        assert reply.headers["content-type"].startswith("application/json")
        if kind == "logged_out":
            break  # the second request finds no route at all


async def test_a_failure_after_the_first_chunk_is_an_error_frame_and_the_end_in_each_dialect(door):
    reply = await door.post("/claude", native("say=one+two+three,fail=crashed,after=2"))
    assert reply.status == 200
    *pieces, error, done = reply.frames
    assert [each["content"] for each in pieces] == ["one ", "two "]
    assert isinstance(error["error"], str)
    assert (error["done"], error["code"]) == (True, "provider_crashed")
    assert done == "[DONE]"

    reply = await door.post(CHAT, chat("say=one+two+three,fail=crashed,after=2"))
    *chunks, error, done = reply.frames
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in chunks) == "one two "
    assert set(error["error"]) == {"message", "type", "param", "code"}
    assert (error["error"]["type"], error["error"]["code"]) == ("server_error", "provider_crashed")
    assert done == "[DONE]"
    assert (await door.until("RequestFailed", 2)).count("RequestCompleted") == 0


async def test_silence_before_the_first_chunk_is_filled_with_comments(door, virtual_time):
    """40 s of silence: after 15 s the head and a comment go out, after 30 s another one."""
    reply = await door.post("/claude", native("delay=40000,say=hi"))
    assert reply.status == 200
    assert reply.body.startswith(KEEP_ALIVE * 2 + b'data: {"content":"hi"')
    assert reply.body.count(b": keep-alive") == 2
    assert "x-llmux-provider" not in reply.headers
    assert frames_of(reply.body)[-1] == "[DONE]"


async def test_silence_between_chunks_is_filled_too(door, virtual_time):
    reply = await door.post(CHAT, chat("gap=20000,say=one+two"))
    assert reply.headers["x-llmux-provider"] == "claude"
    before, comment, after = reply.body.partition(KEEP_ALIVE)
    assert b'"one "' in before
    assert comment
    assert b'"two"' in after
    assert reply.body.count(b": keep-alive") == 1


async def test_a_failure_after_the_head_went_out_early_is_an_error_frame(door, virtual_time):
    reply = await door.post(CHAT, chat("delay=20000,say=x,fail=overloaded,after=0"))
    assert reply.status == 200
    assert reply.body.startswith(KEEP_ALIVE)
    error, done = frames_of(reply.body)
    assert (error["error"]["code"], done) == ("provider_overloaded", "[DONE]")


async def test_what_is_ready_goes_out_in_one_write(door, monkeypatch):
    """Quart passes on one piece of the body for all chunks that `receive` returned together."""
    request = _Canned([[TextDelta("a"), TextDelta("b")], [TextDelta("c"), Finish("stop", Usage())]])
    monkeypatch.setattr(door.system, "request", lambda wish: request)
    async with door.app.test_client().request("/api/smart", method="POST", headers=JSON) as connection:
        await connection.send(b'{"prompt":"hi","stream":true}')
        await connection.send_complete()
        pieces = [await connection.receive(), await connection.receive()]
    assert [len(frames_of(piece)) for piece in pieces] == [3, 3]


async def test_an_answer_that_breaks_its_promise_is_an_error_frame_and_not_a_cut(door, monkeypatch):
    for chunks in ([[TextDelta("a")], []], [[TextDelta("a")], ZeroDivisionError("inside")]):
        request = _Canned(chunks)
        monkeypatch.setattr(door.system, "request", lambda wish, request=request: request)
        reply = await door.post("/api/smart", {"prompt": "hi", "stream": True})
        *_, error, done = reply.frames
        assert (error["code"], error["done"], done) == ("internal_error", True, "[DONE]")
        assert "inside" not in reply.body.decode()
        assert request.has_left


class _Canned:
    """A request whose chunks come as they are given here."""

    id, provider, account, model = "01a204b9-c91d-7001-b5ff-4e9368896d68", "claude", "default", "m"
    attempts, source, again, duration_ms, ended, ended_at = 1, "flight", False, 5, False, None

    def __init__(self, chunks):
        self.chunks = list(chunks)
        self.has_left = False

    async def started(self):
        await trio.lowlevel.checkpoint()

    async def receive(self):
        await trio.lowlevel.checkpoint()
        chunks = self.chunks.pop(0)
        if isinstance(chunks, Exception):
            raise chunks
        return chunks

    def leave(self):
        self.has_left = True


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/claude", CHAT])
async def test_a_client_that_goes_away_before_the_first_chunk_cancels_its_attempt(served, path, stream):
    body = (
        b'{"prompt":"hi","options":{"model":"hang"},'
        if path == "/claude"
        else b'{"model":"claude/hang","messages":[{"role":"user","content":"hi"}],'
    ) + (b'"stream":true}' if stream else b'"stream":false}')
    async with connected(served) as client:
        await client.ask("POST", path, body)
        await served.until("AttemptStarted")
    events = await served.until("RequestCancelled")
    assert events == ["RequestAccepted", "AttemptStarted", "AttemptCancelled", "RequestCancelled"]
    assert served.system.active_requests == 0


async def test_a_client_that_goes_away_amid_a_stream_cancels_its_attempt(served):
    async with connected(served) as client:
        await client.ask(
            "POST",
            CHAT,
            b'{"model":"claude/say=one+two,hang,after=1","stream":true,"messages":[{"role":"user","content":"x"}]}',
        )
        assert (await client.head()).status_code == 200
        assert b'"one "' in bytes((await client.event()).data)
    events = await served.until("RequestCancelled")
    assert events[-2:] == ["AttemptCancelled", "RequestCancelled"]


async def test_a_client_that_resets_its_connection_cancels_its_attempt(served):
    async with connected(served) as client:
        await client.ask("POST", "/claude", b'{"prompt":"hi","options":{"model":"hang"}}')
        await served.until("AttemptStarted")
        client.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    await served.until("RequestCancelled")


async def test_one_of_two_who_wait_for_the_same_answer_may_go_without_harm(served):
    body = b'{"prompt":"same","stream":true,"options":{"model":"delay=300,say=hi"}}'
    async with connected(served) as staying:
        async with connected(served) as leaving:
            await staying.ask("POST", "/api/smart", body)
            await served.until("AttemptStarted")
            await leaving.ask("POST", "/api/smart", body)
            await served.until("RequestJoined")
        reply = await staying.reply()
    assert frames_of(reply.body)[-1] == "[DONE]"
    events = await served.until("RequestCancelled")
    assert events.count("RequestCompleted") == 1
    assert "AttemptCancelled" not in events


async def test_every_kind_of_failure_has_a_status_clients_know(door, virtual_time):
    known = {400, 401, 403, 404, 409, 413, 415, 422, 429, 502, 503, 504, 507}
    for kind in Kind:
        reply = await door.post(CHAT, chat(f"say=x,fail={kind}"))
        assert reply.status in known
