"""One client's connection: hypercorn's HTTP/1.1, with a guard for each habit of its own connection that would hurt a gateway.

* An exception of the protocol ended the whole process (hypercorn #225: a websocket upgrade and one byte more). Here nothing but
  cancellation leaves a connection, and there are no websockets and no HTTP/2 in clear text: an upgrade is simply not taken.
* A client that stops reading blocked the shutdown, because sending was shielded. Here every 64 KiB have `client_stall_ms_max`
  to get away, and cancellation ends a send.
* A client that went away was not noticed when it had sent more than one request. Here the reading never stops.
* The idle timer was a task that every request started anew, and that a cancellation could lose. Here it is one deadline.
* It closed on a client that was still sending, whose kernel then threw our answer (a 413, say) away. Here we listen on for a
  moment.

A client that closes its sending half is taken as gone: TCP does not tell the two apart.
"""

from collections.abc import Awaitable, Callable

import h11
import msgspec
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Request as StreamRequest
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import EventWrapper, WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState
from hypercorn.utils import parse_socket_addr

from llmux.config import Limits
from llmux.http.errors import Problem
from llmux.http.native import error_body
from llmux.logs import report

CHUNK_BYTES = 65_536
CHUNKS_AHEAD = 4
LINGER_S = 2.0


class Shared(msgspec.Struct, frozen=True):
    """What all connections of one server have in common."""

    app: AppWrapper
    config: Config
    context: WorkerContext
    limits: Limits
    new_id: Callable[[], str]


class Connection:
    """Serves one connection: `await Connection(shared, stream).run()`."""

    def __init__(self, shared: Shared, stream: trio.SocketStream, *, refused: int = 0):
        """`refused` is the status with which the client is turned away at once, 0 to serve it."""
        self._shared, self._stream, self._refused = shared, stream, refused
        self._sending = trio.Lock()
        self._busy = self._closing = False
        self._life = trio.CancelScope()
        """its deadline is the idle timer, and the end of the moment in which we listen on"""

    def __repr__(self) -> str:
        state = "closing" if self._closing else "busy" if self._busy else "idle"
        return f"<Connection {state}>"

    async def run(self) -> None:
        """Returns when the connection is closed. Raises nothing but Cancelled."""
        try:
            socket = self._stream.socket
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
            with self._life:
                self._idle()
                async with TaskGroup() as tasks:
                    self._protocol = PlainHttp(self._shared, tasks, client, server, self._send, self._read_ahead)
                    if self._refused:
                        await self._protocol.refuse(self._refused)
                    await self._read()
        except* OSError:
            pass  # the client is gone
        except* Exception as errors:
            report(errors, "unexpected failure")
        finally:
            await trio.aclose_forcefully(self._stream)

    def stop(self) -> None:
        """The server stops: an idle connection ends now, a busy one after its response."""
        if not self._busy:
            self._life.cancel()

    def _idle(self) -> None:
        self._life.deadline = trio.current_time() + self._shared.limits.connection_idle_ms_max / 1000

    async def _read(self) -> None:
        while True:
            try:
                data = bytes(await self._stream.receive_some(CHUNK_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if data and not self._closing:
                await self._protocol.handle(RawData(data))
            elif not data:
                break
        await self._protocol.handle(Closed())
        self._closing = True

    async def _send(self, event: Event) -> None:
        """What the protocol has to say to the client."""
        if isinstance(event, RawData):
            if event.data:
                async with self._sending:
                    await self._write(event.data)
        elif isinstance(event, Updated):
            self._busy = not event.idle
            if self._busy:
                self._life.deadline = float("inf")
            else:
                self._idle()
        elif isinstance(event, Closed):
            await self._hang_up()

    async def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                with trio.fail_after(self._shared.limits.client_stall_ms_max / 1000):
                    await self._stream.send_all(rest[:CHUNK_BYTES])
                rest = rest[CHUNK_BYTES:]
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            await self._lost()

    async def _lost(self) -> None:
        """The client is gone, or as good as gone: whatever is under way for it is cancelled."""
        self._life.cancel()
        await self._protocol.handle(Closed())

    async def _read_ahead(self) -> None:
        """Reads on while a response is under way and the client has sent more than its request, to notice when it goes away."""
        for _ in range(CHUNKS_AHEAD):
            try:
                data = bytes(await self._stream.receive_some(CHUNK_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                await self._lost()
            self._protocol.connection.receive_data(data)

    async def _hang_up(self) -> None:
        """Ends our half. What a client still sends is thrown away until it has ended its half too, or the moment is over."""
        self._life.deadline = trio.current_time() + (LINGER_S if self._protocol.still_hearing else 0)
        try:
            if not self._closing:
                self._closing = True
                await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            self._life.cancel()
        await self._protocol.handle(Closed())


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
        self._new_id = shared.new_id
        self.can_read = Pause(read_ahead)

    @property
    def still_hearing(self) -> bool:
        """Whether the client may still be sending what belongs to its last request."""
        return self.connection.their_state not in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)

    async def _check_protocol(self, event: h11.Request) -> None:
        """No upgrade is taken."""

    async def _create_stream(self, request: h11.Request) -> None:
        if not request.target.startswith(b"/") or request.http_version not in (b"1.0", b"1.1"):
            await self.refuse(400)
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


def refusal(status: int, request_id: str) -> tuple[bytes, list[tuple[str, str]]]:
    """The body (JSON, in LLMux's own dialect: nobody knows the caller's) and the headers of a refusal."""
    code, message = {
        403: ("permission_denied", "This socket is for the user who runs the gateway, and for root."),
        431: ("headers_too_large", "The head of the request is too large."),
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
