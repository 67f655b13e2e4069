"""Each limit of what a client may send or hold takes what is just within it, and refuses one more with a code of its own."""

import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
import trio

from tests.http.served import connected, gateway, settings_of

CHAT = "/v1/chat/completions"
TURN = {"role": "user", "content": "hi"}


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [TURN], **more}


def padded(size: int) -> bytes:
    """A prompt whose JSON has so many bytes."""
    empty = len(json.dumps({"prompt": ""}).encode())
    return json.dumps({"prompt": "x" * (size - empty)}).encode()


def schema(depth: int) -> dict[str, Any]:
    """A JSON schema that is nested so deep."""
    inner: dict[str, Any] = {"type": "string"}
    for _ in range(depth - 1):
        inner = {"items": inner}
    return chat(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": inner}})


class Case(msgspec.Struct, frozen=True):
    """A limit, and what is sent to `path` for an amount of it: (body, headers)."""

    limit: str
    most: int
    path: str
    sent: Callable[[int], tuple[Any, dict[str, str]]]
    status: int
    code: str


# What `Client.ask` sends of its own: host, content-length, content-type.
OWN_FIELDS = 3
OWN_BYTES = len(
    b"POST /claude HTTP/1.1\r\nhost: localhost\r\ncontent-length: 16\r\ncontent-type: application/json\r\nx: \r\n\r\n"
)
CASES = (
    Case("body_bytes_max", 500, "/claude", lambda n: (padded(n), {}), 413, "request_too_large"),
    Case("messages_max", 3, CHAT, lambda n: (chat(messages=[TURN] * n), {}), 422, "too_many"),
    Case("stop_sequences_max", 2, CHAT, lambda n: (chat(stop=["x"] * n), {}), 422, "too_many"),
    Case("json_depth_max", 5, CHAT, lambda n: (schema(n), {}), 422, "too_deep"),
    Case(
        "headers_max",
        10,
        "/claude",
        lambda n: ({"prompt": "hi"}, {f"x-{i}": "y" for i in range(n - OWN_FIELDS)}),
        431,
        "headers_too_large",
    ),
    Case(
        "header_bytes_max",
        500,
        "/claude",
        lambda n: ({"prompt": "hi"}, {"x": "y" * (n - OWN_BYTES)}),
        431,
        "headers_too_large",
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.limit)
async def test_what_a_request_may_hold(tmp_path, case):
    async with gateway(settings_of(tmp_path, limits={case.limit: case.most}), serving=True) as here:
        for amount, status in ((case.most, 200), (case.most + 1, case.status)):
            body, headers = case.sent(amount)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            async with connected(here) as client:
                await client.ask("POST", case.path, data, headers)
                reply = await client.reply()
            assert reply.status == status, reply
        error = reply.json["error"]
        assert (error if isinstance(error, dict) else reply.json)["code"] == case.code
        assert (await here.events()).count("RequestAccepted") == 1, "what is refused makes no event"


HELD = {
    "connections_max": (2, 503, "too_many_connections"),
    "flights_max": (2, 503, "gateway_overloaded"),
    "provider_queue_max": (1, 503, "provider_overloaded"),
    "resumable_streams_max": (2, 503, "gateway_overloaded"),
}
"""limit -> (most, status, code)"""


@pytest.mark.parametrize("limit", HELD)
async def test_how_much_may_be_under_way(tmp_path, limit):
    most, status, code = HELD[limit]
    settings = settings_of(tmp_path, limits={limit: most})
    claude = msgspec.structs.replace(settings.providers["claude"], concurrency=1)
    if limit == "provider_queue_max":
        settings = msgspec.structs.replace(settings, providers={"claude": claude})
    under_way = most + (limit == "provider_queue_max")  # one has the slot
    body = b'{"prompt":"hi","stream":true,"options":{"model":"say=a+b,hang,after=1","retries":0}}'
    headers = {"x-llmux-resumable": "true"} if limit == "resumable_streams_max" else {}
    async with gateway(settings, serving=True) as here, AsyncExitStack() as clients:
        for _ in range(under_way):
            client = await clients.enter_async_context(connected(here))
            await client.ask("POST", "/claude", body, headers)
        await here.until("AttemptStarted", under_way)
        async with connected(here) as one_more:
            await one_more.ask("POST", "/claude", body, headers)
            with trio.fail_after(10):
                reply = await one_more.reply()
        assert (reply.status, reply.json["code"]) == (status, code)
