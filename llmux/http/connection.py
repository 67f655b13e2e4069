"""One client's connection: hypercorn's HTTP/1.1, with a guard for each habit of its own connection that would hurt a gateway.

* An exception of the protocol ended the whole process (hypercorn #225: a websocket upgrade and one byte more). Here nothing but
  cancellation leaves a connection, and there are no websockets and no HTTP/2 in clear text: an upgrade is simply not taken.
* A client that stops reading blocked the shutdown, because sending was shielded. Here every 64 KiB have `client_stall_ms_max`
  to get away, and cancellation ends a send.
* A client that went away was not noticed when it had sent more than one request. Here the reading never stops.
* The idle timer was a task that every request started anew, and that a cancellation could lose. Here it is one deadline.
* It closed on a client that was still sending, whose kernel then threw our answer (a 413, say) away. Here we listen on for a
  moment.
* A client that ended its sending half was taken as gone. Here it is asked (see `llmux.http.half_close`).
* A head that dripped in had the whole idle time. Here it has `header_wait_ms_max` from its first byte on.
* Two lengths that contradict each other were settled in favour of one. Here nobody guesses where a request ends.
"""

import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.utils import parse_socket_addr

from llmux.http.half_close import stays
from llmux.http.plain_http import PlainHttp, Shared
from llmux.logs import report

CHUNK_BYTES = 65_536
CHUNKS_AHEAD = 4
LINGER_S = 2.0


class Connection:
    """Serves one connection: `await Connection(shared, stream).run()`."""

    def __init__(self, shared: Shared, stream: trio.SocketStream, *, refused: int = 0):
        """`refused` is the status with which the client is turned away at once, 0 to serve it."""
        self._shared, self._stream, self._refused = shared, stream, refused
        self._sending = trio.Lock()
        self._busy = self._closing = False
        self._heading = False
        """the head of a request has begun to arrive"""
        self._over = trio.Event()
        """the response under way is over"""
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
        self._heading = False
        self._life.deadline = trio.current_time() + self._shared.limits.connection_idle_ms_max / 1000

    def _head_begins(self) -> None:
        if not (self._busy or self._heading or self._closing):
            self._heading = True
            self._life.deadline = trio.current_time() + self._shared.limits.header_wait_ms_max / 1000

    async def _read(self) -> None:
        while True:
            try:
                data = bytes(await self._stream.receive_some(CHUNK_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if data and not self._closing:
                self._head_begins()
                await self._protocol.handle(RawData(data))
            elif not data:
                break
        if self._busy and not self._protocol.still_hearing:
            await self._ask_whether_gone()
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
                self._over = trio.Event()
                self._life.deadline = float("inf")
            else:
                self._over.set()
                self._idle()
                if self._protocol.connection.trailing_data[0]:
                    self._head_begins()
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

    async def _ask_whether_gone(self) -> None:
        """The client has ended its half. Returns when the response under way is over; ends it when there is nobody to hear it."""
        if not await stays(self._protocol.prod, self._over, self._stream.socket):
            await self._lost()

    async def _read_ahead(self) -> None:
        """Reads on while a response is under way and the client has sent more than its request, to notice when it goes away."""
        for _ in range(CHUNKS_AHEAD):
            try:
                data = bytes(await self._stream.receive_some(CHUNK_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                await self._ask_whether_gone()
                return
            self._protocol.connection.receive_data(data)

    async def _hang_up(self) -> None:
        """Ends our half. What a client still sends is thrown away until it has ended its half too, or the moment is over."""
        self._life.deadline = trio.current_time() + (LINGER_S if self._protocol.still_hearing else 0)
        try:
            if not self._closing:
                self._closing = True
                self._over.set()
                await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            self._life.cancel()
        await self._protocol.handle(Closed())
