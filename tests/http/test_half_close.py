"""Clients that end their sending half: those that wait for their answer get it, those that are gone are noticed at once."""

from contextlib import asynccontextmanager

import h11
import pytest
import trio

from llmux.http.streams import KEEP_ALIVE
from tests.http.served import Client, connected, frames_of

HANG = b'{"prompt":"hi","options":{"model":"hang"}}'
HANGING_STREAM = b'{"prompt":"hi","stream":true,"options":{"model":"say=one+two,hang,after=1"}}'
SLOW = b'{"prompt":"hi","options":{"model":"delay=400,say=late"}}'
SLOW_STREAM = b'{"prompt":"hi","stream":true,"options":{"model":"gap=200,say=one+two+three"}}'
SOON_S = 1.0


async def reply_of(client: Client):
    """The response behind all interim ones, and how many of these there were."""
    interim = 0
    while isinstance(event := await client.event(), h11.InformationalResponse):
        assert event.status_code == 100
        interim += 1
    assert event.status_code == 200
    body = b""
    while isinstance(event := await client.event(), h11.Data):
        body += bytes(event.data)
    return body, interim


async def cancelled_since(here, began: float) -> float:
    await here.until("RequestCancelled")
    return trio.current_time() - began


@pytest.mark.parametrize("body", [SLOW, SLOW_STREAM])
async def test_a_client_that_only_has_nothing_more_to_say_gets_its_answer(served, body):
    async with connected(served) as client:
        await client.ask("POST", "/claude", body)
        await client.stream.send_eof()
        with trio.fail_after(10):
            received, interim = await reply_of(client)
            assert interim <= 4
            assert await client.rest() == b"", "and then the connection ends"
    if body is SLOW:
        assert b'"response":"late"' in received
    else:
        assert "".join(each.get("content", "") for each in frames_of(received)[:-1]) == "one two three"
    assert (await served.events())[-1] == "RequestCompleted"


async def test_a_half_closed_stream_is_filled_with_comments_alone(served):
    async with connected(served) as client:
        await client.ask("POST", "/claude", SLOW_STREAM)
        assert (await client.head()).status_code == 200
        await client.stream.send_eof()
        received = b""
        with trio.fail_after(10):
            while isinstance(event := await client.event(), h11.Data):
                received += bytes(event.data)
    assert 1 <= received.count(KEEP_ALIVE) <= 4
    assert frames_of(received)[-1] == "[DONE]"


async def test_all_requests_of_a_pipeline_are_answered_after_its_end(served):
    one = (
        b"POST /claude HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        + b"content-length: %d\r\n\r\n" % len(SLOW)
        + SLOW
    )
    async with connected(served) as client:
        await client.send(one * 2)
        await client.stream.send_eof()
        with trio.fail_after(10):
            received = await client.rest()
    assert received.count(b'"response":"late"') == received.count(b"HTTP/1.1 200") == 2


async def test_http_1_0_has_no_word_for_it_before_its_head_and_keeps_a_stream_after_it(served):
    """There is nothing that could be sent before the head: such a client is taken as gone."""
    head = b"POST /claude HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    async with connected(served) as client:
        await client.send(head % len(HANG) + HANG)
        await served.until("AttemptStarted")
        await client.stream.send_eof()
        await served.until("RequestCancelled")
    async with connected(served) as client:
        await client.send(head % len(SLOW_STREAM) + SLOW_STREAM)
        received = await client.stream.receive_some(65_536)
        await client.stream.send_eof()
        with trio.fail_after(10):
            received += await client.rest()
    assert received.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("body", [HANG, HANGING_STREAM])
async def test_a_client_that_is_gone_is_noticed_at_once(served, body):
    async with connected(served) as client:
        await client.ask("POST", "/claude", body)
        await served.until("AttemptStarted")
        if body is HANGING_STREAM:
            await client.head()
    assert await cancelled_since(served, trio.current_time()) < SOON_S


@pytest.mark.parametrize("body", [HANG, HANGING_STREAM])
async def test_a_client_that_ends_its_half_and_is_gone_later_is_noticed_too(served, body):
    async with connected(served) as client:
        await client.ask("POST", "/claude", body)
        await served.until("AttemptStarted")
        await client.stream.send_eof()
        await trio.sleep(0.1)
        assert "RequestCancelled" not in await served.events()
    assert await cancelled_since(served, trio.current_time()) < SOON_S


@asynccontextmanager
async def forwarder(port: int):
    """A forwarder that passes the end of either half on and goes on with the other, as Docker's and ssh's do. Gives its port."""

    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        while data := await source.receive_some(65_536):
            await sink.send_all(data)
        await sink.send_eof()

    async def forward(client: trio.SocketStream) -> None:
        try:
            async with await trio.open_tcp_stream("127.0.0.1", port) as gateway, trio.open_nursery() as nursery:
                nursery.start_soon(pump, client, gateway)
                nursery.start_soon(pump, gateway, client)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.aclose_forcefully(client)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, forward, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("body", [HANG, HANGING_STREAM])
async def test_behind_a_forwarder_too(served, body):
    async with forwarder(served.port) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            client = Client(stream)
            await client.ask("POST", "/claude", body)
            await served.until("AttemptStarted")
            if body is HANGING_STREAM:
                await client.head()
        assert await cancelled_since(served, trio.current_time()) < SOON_S
