"""HTTP/1.0 and 1.1 over hypercorn's protocol: which heads are taken, how a refusal looks, and what can be said amid a response."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import h11
import msgspec
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event
from hypercorn.protocol.events import Request as StreamRequest
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import EventWrapper, WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState

from llmux.config import Limits
from llmux.http.errors import Problem
from llmux.http.exchange import KEY, Exchange
from llmux.http.native import error_body


class Shared(msgspec.Struct, frozen=True):
    """What all connections of one server have in common."""

    app: AppWrapper
    config: Config
    context: WorkerContext
    limits: Limits
    new_id: Callable[[], str]


class Pause(EventWrapper):
    """What the reading task waits on while h11 wants no more bytes: until the response is over, with an eye on the client."""

    def __init__(self, read_ahead: Callable[[], Awaitable[None]]):
        super().__init__()
        self._read_ahead = read_ahead

    async def wait(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_ahead)
            await super().wait()
            nursery.cancel_scope.cancel()


class PlainHttp(H11Protocol):
    """HTTP/1.0 and 1.1, and nothing else."""

    def __init__(
        self,
        shared: Shared,
        tasks: TaskGroup,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
        send: Callable[[Event], Awaitable[None]],
        read_ahead: Callable[[], Awaitable[None]],
    ):
        state = ConnectionState(LifespanState({}))
        super().__init__(shared.app, shared.config, shared.context, tasks, state, False, client, server, send)
        self._new_id, self._limits = shared.new_id, shared.limits
        self.can_read = Pause(read_ahead)

    @property
    def still_hearing(self) -> bool:
        """Whether the client may still be sending what belongs to its last request."""
        return self.connection.their_state not in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)

    async def prod(self) -> bool:
        """Sends something that no client takes for a part of its response. False when nothing of that sort is known."""
        state = self.connection.our_state
        if state is h11.SEND_RESPONSE and cast("h11.Connection", self.connection).their_http_version == b"1.1":
            await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))
        elif state is h11.SEND_RESPONSE:
            return False
        elif state is h11.SEND_BODY and self.stream is not None:
            exchange: Exchange | None = cast("dict[str, Any]", self.stream.scope).get(KEY)
            if exchange is not None and exchange.filler:
                await self._send_h11_event(h11.Data(data=exchange.filler))
            else:
                return exchange is not None and not exchange.under_way
        return True

    async def _check_protocol(self, event: h11.Request) -> None:
        """No upgrade is taken."""

    async def _create_stream(self, request: h11.Request) -> None:
        status = refusable(request, self._limits)
        if status:
            await self.refuse(status)
            return
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            StreamRequest(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1

    async def refuse(self, status: int) -> None:
        """Answers what never becomes a request that the application sees, and hangs up."""
        await self._send_error_response(status)
        await self.send(Closed())

    async def _send_error_response(self, status_code: int) -> None:
        body, headers = refusal(status_code, self._new_id())
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


def refusable(request: h11.Request, limits: Limits) -> int:
    """The status with which a head is turned away that h11 has read, 0 when it is not.

    (h11 bounds only what it has not yet read whole: a head that arrives in one piece passes it.)
    A length beside `transfer-encoding`, and that in HTTP/1.0, are how a request is smuggled past a proxy that reads it otherwise.
    """
    names = [name for name, _ in request.headers]
    fields_bytes = sum(len(name) + len(value) + len(": \r\n") for name, value in request.headers)
    line_bytes = len(request.method) + len(request.target) + len("  HTTP/1.1\r\n\r\n")
    if len(names) > limits.headers_max or line_bytes + fields_bytes > limits.header_bytes_max:
        return 431
    coded = b"transfer-encoding" in names
    if coded and (b"content-length" in names or request.http_version == b"1.0"):
        return 400
    return 0 if request.target.startswith(b"/") and request.http_version in (b"1.0", b"1.1") else 400


def refusal(status: int, request_id: str) -> tuple[bytes, list[tuple[str, str]]]:
    """The body (JSON, in LLMux's own dialect: nobody knows the caller's) and the headers of a refusal."""
    code, message = {
        403: ("permission_denied", "This socket is for the user who runs the gateway, and for root."),
        431: ("headers_too_large", "The head of the request is too large, or has too many fields."),
        503: ("too_many_connections", "The gateway has too many connections open."),
    }.get(status, ("bad_request", "This is no HTTP request that the gateway can read."))
    problem = Problem(status=status, code=code, message=message, retry_after_ms=1000 if status == 503 else None)
    body = msgspec.json.encode(error_body(problem, request_id))
    headers = {
        "content-type": "application/json; charset=utf-8",
        "content-length": str(len(body)),
        "connection": "close",
        "x-request-id": request_id,
        **problem.headers(),
    }
    return body, list(headers.items())
