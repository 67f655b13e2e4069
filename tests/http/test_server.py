"""The server on its socket: bad bytes, slow and silent clients, limits, and the stop."""

import json

import h11
import pytest
import trio

from llmux.failures import ConfigurationWrong
from llmux.http.server import serve
from tests.http.served import Client, Reply, connected, frames_of, gateway, settings_of

PROMPT = b'{"prompt":"hi"}'
SAY = "x" * 120
LONG_STREAM = json.dumps(
    {"prompt": "hi", "stream": True, "options": {"model": f"say={SAY},chunks=100000,gap=1"}}
).encode()
WEBSOCKET = (
    b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
MALFORMED = {
    "websocket upgrade": (WEBSOCKET, 200),
    "websocket upgrade and a byte": (WEBSOCKET + b"x", 200),
    "websocket upgrade and a frame": (WEBSOCKET + b"\x81\x85\x00\x00\x00\x00hello", 200),
    "h2c upgrade": (b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
                    b"http2-settings: AAMAAABkAAQAAP__\r\n\r\n", 200),
    "http/2 with prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 9, 400),
    "no http": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 64 + b"\r\n\r\n", 400),
    "nothing but lines": (b"\r\n\r\n\r\nhello\r\n\r\n", 400),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /health HTTP/1.1\r\nhost: localhost\r\nhost: evil.com\r\n\r\n", 400),
    "no target": (b"GET ?x HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
    "star": (b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
    "absolute target": (b"GET http://evil.com/health HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
    "broken absolute target": (b"GET http://[/ HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
    "connect": (b"CONNECT localhost:22 HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
    "two slashes": (b"GET //nope HTTP/1.1\r\nhost: localhost\r\n\r\n", 404),
    "bytes in the path": (b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
    "quoted rubbish in the path": (b"GET /%ff%00%zz HTTP/1.1\r\nhost: localhost\r\n\r\n", 404),
    "bad length": (b"POST /claude HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n", 400),
    "two lengths": (b"POST /claude HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 400),
    "smuggled length": (b"POST /claude HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                        b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nzz\r\n", 400),
    "bad chunk": (b"POST /claude HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                  b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400),
    "unknown encoding": (b"POST /claude HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip\r\n\r\n", 501),
    "head too large": (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 100_000 + b"\r\n\r\n", 431),
    "endless head": (b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 20_000, 431),
    "old http": (b"GET /health HTTP/0.9\r\n\r\n", 400),
    "http/1.0": (b"GET /health HTTP/1.0\r\nhost: localhost\r\n\r\n", 200),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
async def test_no_bytes_end_the_gateway_and_all_get_json(served, name):
    data, status = MALFORMED[name]
    async with connected(served) as client:
        await client.send(data)
        client.http.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        client.http.send(h11.EndOfMessage())
        with trio.fail_after(10):
            reply = await client.reply()
    assert reply.status == status
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert reply.headers["x-request-id"]
    if status >= 400:
        assert {"error", "code", "request_id"} <= set(reply.json)
    await _still_answers(served)


async def test_a_connection_that_ends_amid_a_request_ends_nothing_else(served):
    whole = (
        b"POST /claude HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n"
        + PROMPT
    )
    for cut in (0, 5, 40, len(whole) - 20, len(whole) - 1):
        async with connected(served) as client:
            await client.send(whole[:cut])
    await _still_answers(served)
    assert (await served.events()).count("RequestAccepted") == 1


async def test_many_requests_share_one_connection_and_may_come_at_once(served):
    async with connected(served) as client:
        for _ in range(5):
            await client.ask("POST", "/claude", PROMPT)
            assert (await client.reply()).status == 200
        one = (
            b"POST /ollama HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n"
            + PROMPT
        )
        await client.send(one * 3)
        for _ in range(3):
            client.http.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
            client.http.send(h11.EndOfMessage())
            assert (await client.reply()).json["provider"] == "ollama"


async def test_a_client_that_asks_before_it_sends_its_body_is_told_to_go_on(served):
    async with connected(served) as client:
        await client.ask(
            "POST",
            "/claude",
            b"",
            {"expect": "100-continue", "content-length": "15", "content-type": "application/json"},
        )
        go_on = await client.event()
        assert isinstance(go_on, h11.InformationalResponse)
        await client.send(client.http.send(h11.Data(data=PROMPT)))
        client.http.send(h11.EndOfMessage())
        assert (await client.reply()).status == 200


@pytest.mark.parametrize("path", ["/nope", "/health"])
async def test_a_client_whose_body_nobody_read_is_told_that_its_connection_ends(served, path):
    """It would use it again, and find it closed."""
    async with connected(served) as client:
        await client.ask("POST", path, b"{}")
        reply = await client.reply()
        assert reply.status in (404, 405)
        assert reply.headers["connection"] == "close"
        assert await client.rest() == b""
    async with connected(served) as client:
        for _ in range(3):
            await client.ask("POST", "/api/pull", b"{}")
            reply = await client.reply()
            assert (reply.status, reply.headers.get("connection")) == (403, None)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_client_that_is_still_sending_gets_to_read_its_413(tmp_path, chunked):
    async with gateway(settings_of(tmp_path, limits={"body_bytes_max": 1000}), serving=True) as here:
        async with connected(here) as client:
            length = ("transfer-encoding", "chunked") if chunked else ("content-length", "5000000")
            fields = [("host", "localhost"), ("content-type", "application/json"), length]
            await client.send(client.http.send(h11.Request(method="POST", target="/claude", headers=fields)))
            with trio.fail_after(10):
                for _ in range(50):
                    await client.send(client.http.send(h11.Data(data=b"x" * 100_000)))
                client.http.send(h11.EndOfMessage())
                reply = await client.reply()
        assert (reply.status, reply.json["code"]) == (413, "request_too_large")
        await _still_answers(here)


async def test_a_body_that_does_not_come_is_408(tmp_path):
    async with gateway(settings_of(tmp_path, limits={"body_wait_ms_max": 50}), serving=True) as here:
        async with connected(here) as client:
            await client.ask("POST", "/claude", b"", {"content-length": "15", "content-type": "application/json"})
            await client.send(PROMPT[:5])
            with trio.fail_after(10):
                reply = await client.reply()
        assert (reply.status, reply.json["code"]) == (408, "body_timeout")


async def test_a_head_that_does_not_come_and_an_idle_connection_are_closed(tmp_path):
    settings = settings_of(tmp_path, limits={"connection_idle_ms_max": 50})
    async with gateway(settings, serving=True) as here:
        await _still_answers(here)
        async with connected(here) as silent, connected(here) as slow, connected(here) as idle:
            await slow.send(b"GET /health HTTP/1.1\r\nhost: loc")
            await idle.ask("POST", "/claude", b'{"prompt":"hi","options":{"model":"delay=200,say=hi"}}')
            assert (await idle.reply()).status == 200, "a request under way is not idle"
            with trio.fail_after(10):
                assert await silent.rest() == await slow.rest() == await idle.rest() == b""


async def test_a_client_that_stops_reading_is_cut_off(tmp_path):
    async with gateway(settings_of(tmp_path, limits={"client_stall_ms_max": 100}), serving=True) as here:
        async with _unread(here):
            events = await here.until("RequestCancelled")
        assert events[-2:] == ["AttemptCancelled", "RequestCancelled"]
        await _still_answers(here)


async def test_a_client_that_stops_reading_does_not_hold_up_the_stop(tmp_path):
    async with gateway(settings_of(tmp_path, shutdown_grace_ms=100), serving=True) as here, _unread(here):
        here.stop.set()
        with trio.fail_after(10):
            await here.stopped.wait()
        await here.until("RequestCancelled")


async def test_a_slow_client_that_goes_on_reading_gets_everything(tmp_path):
    """The limit is for a stall, not for the whole answer."""
    async with gateway(settings_of(tmp_path, limits={"client_stall_ms_max": 1000}), serving=True) as here:
        async with _narrow(here) as client:
            body = {"prompt": "hi", "stream": True, "options": {"model": f"say={SAY},chunks=5000"}}
            await client.ask("POST", "/claude", json.dumps(body).encode())
            await client.head()
            received = b""
            with trio.fail_after(60):
                while not received.endswith(b"[DONE]\n\n"):
                    received += bytes((await client.event()).data)
        assert len(frames_of(received)) == 5002


async def test_at_the_stop_what_is_under_way_ends_well_and_nothing_new_comes_in(tmp_path):
    async with gateway(settings_of(tmp_path, shutdown_grace_ms=60_000), serving=True) as here:
        await _still_answers(here)
        async with connected(here) as busy, connected(here) as idle:
            await idle.ask("GET", "/health")
            assert (await idle.reply()).status == 200
            await busy.ask("POST", "/claude", b'{"prompt":"hi","options":{"model":"delay=300,say=late"}}')
            await here.until("AttemptStarted", 2)
            here.stop.set()
            with trio.fail_after(10):
                assert await idle.rest() == b""
                with pytest.raises(OSError):
                    await trio.open_tcp_stream("127.0.0.1", here.port)
                reply = await busy.reply()
                assert (reply.status, reply.json["response"]) == (200, "late")
                assert await busy.rest() == b""
                await here.stopped.wait()


async def test_a_stream_that_outlasts_the_grace_is_cut_and_cancelled(tmp_path):
    async with gateway(settings_of(tmp_path, shutdown_grace_ms=100), serving=True) as here, connected(here) as client:
        await client.ask("POST", "/claude", b'{"prompt":"hi","stream":true,"options":{"model":"say=a+b,hang,after=1"}}')
        assert (await client.head()).status_code == 200
        here.stop.set()
        with trio.fail_after(10):
            assert not (await client.rest()).endswith(b"0\r\n\r\n"), "a cut stream must not look whole"
            await here.stopped.wait()
        assert (await here.until("RequestCancelled"))[-1] == "RequestCancelled"


async def test_one_connection_too_many_is_told_so(tmp_path):
    async with gateway(settings_of(tmp_path, limits={"connections_max": 2}), serving=True) as here:
        async with connected(here) as first, connected(here):
            await first.ask("GET", "/health")
            assert (await first.reply()).status == 200
            async with connected(here) as third:
                await third.ask("GET", "/health")
                with trio.fail_after(10):
                    reply = await third.reply()
            assert (reply.status, reply.json["code"], reply.headers["retry-after"]) == (
                503,
                "too_many_connections",
                "1",
            )
        await _still_answers(here)


@pytest.mark.parametrize("more", [b"\r\n", b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n", b"x" * 100_000])
async def test_a_client_that_sends_too_much_and_goes_away_is_noticed_all_the_same(served, more):
    async with connected(served) as client:
        await client.ask("POST", "/claude", b'{"prompt":"hi","options":{"model":"hang"}}')
        await client.send(more)
        await served.until("AttemptStarted")
    await served.until("RequestCancelled")


async def test_connections_leave_no_tasks_behind(served):
    before = served.tasks()
    for number in range(20):
        async with connected(served) as client:
            if number % 4 == 0:
                await client.send(WEBSOCKET + b"x")
            elif number % 4 == 1:
                await client.send(b"rubbish\r\n\r\n")
            elif number % 4 == 2:
                await client.ask("POST", "/claude", b'{"prompt":"hi","options":{"model":"hang"}}')
            else:
                await client.ask("GET", "/health")
                await client.reply()
    with trio.fail_after(10):
        while served.tasks() != before:
            await trio.sleep(0.01)


async def test_a_port_that_is_taken_is_explained(served):
    settings = settings_of(served.system.settings.data_dir, port=served.port)
    with pytest.raises(ConfigurationWrong, match=f"Another program listens on 127.0.0.1:{served.port}"):
        await serve(served.app, settings, shutdown_trigger=trio.sleep_forever)


def _narrow(here) -> "Narrow":
    return Narrow(here.port)


class Narrow:
    """A connection whose receive buffer is small, so that a client that does not read is noticed soon."""

    def __init__(self, port: int):
        self._port = port

    async def __aenter__(self) -> Client:
        socket = trio.socket.socket()
        socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await socket.connect(("127.0.0.1", self._port))
        self._stream = trio.SocketStream(socket)
        return Client(self._stream)

    async def __aexit__(self, *_: object) -> None:
        await trio.aclose_forcefully(self._stream)


class _unread(Narrow):
    """A client that asks for a long stream, reads its head and then nothing more; entered once the gateway cannot send."""

    def __init__(self, here):
        super().__init__(here.port)
        self._here = here

    async def __aenter__(self) -> Client:
        client = await super().__aenter__()
        await client.ask("POST", "/claude", LONG_STREAM)
        await client.head()
        await self._here.until("AttemptStarted")
        return client


async def _still_answers(here) -> None:
    async with connected(here) as client:
        await client.ask("POST", "/claude", PROMPT)
        with trio.fail_after(10):
            reply: Reply = await client.reply()
    assert (reply.status, reply.json["response"]) == (200, "hello from claude")
