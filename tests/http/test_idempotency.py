"""`Idempotency-Key` over HTTP: in every dialect that generates, with the status, the headers and the shape that clients expect."""

import json

import pytest
import trio

from tests.http.served import JSON, connected
from tests.http.test_resuming import gone

KEY = "Idempotency-Key"
HI = [{"role": "user", "content": "hi"}]
DIALECTS = {
    "/api/smart": {"prompt": "hi"},
    "/claude": {"prompt": "hi"},
    "/api/generate": {"prompt": "hi"},
    "/v1/chat/completions": {"model": "auto", "messages": HI},
    "/v1/completions": {"model": "auto", "prompt": "hi"},
    "/v1/responses": {"model": "auto", "input": "hi"},
    "/v1/embeddings": {"model": "ollama-plain", "input": "hi"},
    "/v1/messages": {"model": "auto", "max_tokens": 50, "messages": HI},
    "/api/chat": {"model": "auto", "messages": HI, "stream": False},
    "/ollama/api/generate": {"model": "auto", "prompt": "hi", "stream": False},
    "/api/embed": {"model": "ollama-plain", "input": "hi"},
}


def keyed(key: str, **more: str) -> dict[str, str]:
    return {KEY: key, "cache-control": "no-cache", **more}


async def test_every_route_that_generates_and_no_other_takes_a_key(door):
    document = (await door.get("/openapi.json")).json
    takes = {
        path
        for path, methods in document["paths"].items()
        for told in methods.values()
        if KEY in [each["name"] for each in told.get("parameters", ())]
    }
    assert takes >= DIALECTS.keys()
    for path, methods in document["paths"].items():
        for told in methods.values():
            assert (path in takes) == ("502" in told["responses"]), path
            assert path not in takes or "409" in told["responses"]


async def test_a_repeated_request_gets_its_answer_in_every_dialect_and_another_one_is_refused(door):
    for count, (path, body) in enumerate(DIALECTS.items(), 1):
        first = await door.post(path, body, keyed(path))
        assert (first.status, first.headers.get("x-llmux-idempotency")) == (200, None), first
        again = await door.post(path, body, keyed(path))
        told = (again.headers["x-llmux-idempotency"], again.headers["x-llmux-cache"])
        assert (again.status, *told) == (200, "replayed", "hit"), again
        assert again.headers["x-request-id"] != first.headers["x-request-id"]
        other = await door.post(path, json.dumps(body).replace('"hi"', '"bye"').encode(), keyed(path))
        assert (other.status, b"idempotency_key_reused" in other.body) == (422, True), other
        assert (await door.events()).count("AttemptStarted") == count


async def test_a_stream_and_a_whole_answer_are_one_order_and_so_are_dialects(door, virtual_time):
    model = "claude/say=one+two,gap=50"
    chat = {"model": model, "messages": HI}
    told = {}

    async def ask(name, path, body, after):
        await trio.sleep(after)
        told[name] = await door.post(path, body, keyed("key-1"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "whole", "/v1/chat/completions", chat, 0)
        nursery.start_soon(ask, "stream", "/v1/chat/completions", {**chat, "stream": True}, 0.02)
        nursery.start_soon(ask, "other", "/api/smart", {"prompt": "hi", "options": {"model": model}}, 0.03)
    assert told["whole"].json["choices"][0]["message"]["content"] == told["other"].json["response"] == "one two"
    pieces = [each["choices"][0]["delta"].get("content", "") for each in told["stream"].frames[:-1]]
    assert "".join(pieces) == "one two"
    assert [told[name].headers.get("x-llmux-idempotency") for name in ("whole", "stream", "other")] == [
        None,
        "joined",
        "joined",
    ]
    again = await door.post("/v1/chat/completions", {**chat, "stream": True}, keyed("key-1"))
    assert again.headers["x-llmux-idempotency"] == "replayed"
    assert again.frames[-1] == "[DONE]"


async def test_another_body_is_422_and_says_what_to_do(door):
    path = "/v1/chat/completions"
    await door.post(path, DIALECTS[path], keyed("key-1"))
    reply = await door.post(path, {"model": "auto", "messages": [{"role": "user", "content": "bye"}]}, keyed("key-1"))
    assert (reply.status, reply.headers["x-should-retry"]) == (422, "false")
    assert (reply.json["error"]["code"], reply.json["error"]["param"]) == ("idempotency_key_reused", KEY)
    assert "new key" in reply.json["error"]["message"]


async def test_an_answer_that_is_gone_is_409_and_clients_are_told_not_to_try_again(door):
    first = await door.post("/v1/messages", DIALECTS["/v1/messages"], keyed("key-1"))
    answers = door.system.idempotency._answers
    answers._drop(next(iter(answers._entries)))
    reply = await door.post("/v1/messages", DIALECTS["/v1/messages"], keyed("key-1"))
    assert (reply.status, reply.headers["x-should-retry"]) == (409, "false")
    assert "retry-after" not in reply.headers
    assert (reply.json["error"]["type"], reply.json["error"]["details"]["error_code"]) == (
        "conflict_error",
        "answer_unavailable",
    )
    assert first.headers["x-request-id"] in reply.json["error"]["message"]


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "ümlaut"])
async def test_a_key_is_1_to_255_printable_characters(door, key):
    reply = await door.post("/api/smart", {"prompt": "hi"}, {KEY: key})
    assert (reply.status, reply.json["code"], reply.json["param"]) == (400, "invalid_idempotency_key", KEY)
    nothing_to_do = await door.post("/api/embed", {"model": "ollama-plain", "input": []}, {KEY: key})
    assert nothing_to_do.status == 400
    assert await door.events() == []


async def test_the_longest_key_and_one_with_blanks_are_keys(door):
    for key in ("~" * 255, "a key of mine"):
        assert (await door.post("/api/smart", {"prompt": "hi"}, {KEY: key})).status == 200


async def test_a_client_that_lost_its_connection_joins_its_own_request(door, virtual_time):
    """It had read a part of the stream; the one that comes back reads it from the beginning."""
    body = {"model": "claude/say=one+two+three,gap=5000", "messages": HI, "stream": True}
    async with door.app.test_client().request(
        "/v1/chat/completions", method="POST", headers={**JSON, **keyed("key-1")}
    ) as client:
        await client.send(json.dumps(body).encode())
        await client.send_complete()
        assert b"one" in await client.receive()
        assert "x-llmux-resumable" not in client.headers
        await gone(client)
    await trio.sleep(2)
    again = await door.post("/v1/chat/completions", body, keyed("key-1"))
    assert again.headers["x-llmux-idempotency"] == "joined"
    assert b"one" in again.body
    assert (await door.events()).count("AttemptStarted") == 1
    assert "RequestCancelled" not in await door.events()


async def test_two_keys_in_one_request_are_400(served):
    async with connected(served) as client:
        body = b'{"prompt": "hi"}'
        await client.send(
            b"POST /api/smart HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 16\r\n"
            b"idempotency-key: one\r\nidempotency-key: two\r\nconnection: close\r\n\r\n" + body
        )
        assert b"invalid_idempotency_key" in await client.rest()
