"""HTTP/1.1 to one fixed server: kept-alive connections, one exchange at a time on each, nothing but h11 and trio.

Only the configured address is ever contacted: redirects are answers like any other, and proxies of the environment are not
asked. Leaving an exchange before its end, by whatever way, closes its connection at once, which stops the server's work. A kept
connection that turns out to be closed at once, before a byte of the answer has come, is replaced once.

Written here because httpcore hands bodies out as nested async generators: trio cannot end those when their reader is
cancelled between two chunks, the most ordinary way in which a client leaves.
"""

import math
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal, TypeVar
from urllib.parse import quote, urlsplit

import h11
import msgspec
import trio

READ_BYTES = 65_536
IDLE_SECONDS_MAX = 60
STALE_SECONDS_MAX = 1
"""a kept connection that is lost later than this after the request was open when it was asked: the server may have worked for it"""
Stage = Literal["connect", "head", "body"]
T = TypeVar("T")


class Lost(Exception):
    """The connection could not be made (`connect`), ended before the answer began (`head`), or in its midst (`body`)."""

    def __init__(self, stage: Stage, reason: str = ""):
        super().__init__(f"{stage}: {reason}")
        self.stage, self.reason = stage, reason


class TooLong(Exception):
    """A line or a whole body is longer than the caller's bound."""


class _Connection:
    """One TCP (or TLS) connection and the state of the protocol on it."""

    def __init__(self, stream: trio.abc.Stream, socket: trio.socket.SocketType):
        self.stream, self.socket = stream, socket
        self.protocol = h11.Connection(h11.CLIENT)
        self.idle_since = 0.0
        self.used = self.heard = False
        """whether it has carried an exchange before; whether a byte of the present answer has come"""
        self.asked_at = math.inf
        """when the present request was written, in seconds of trio's clock"""

    def usable(self) -> bool:
        """Whether an idle connection can take another request: the server has neither closed it nor said anything."""
        return trio.current_time() - self.idle_since < IDLE_SECONDS_MAX and not self.socket.is_readable()

    def reusable(self) -> bool:
        """Whether both sides have said all there was to say and no more, and mean to stay."""
        if self.protocol.our_state is not h11.DONE or self.protocol.their_state is not h11.DONE:
            return False
        if self.protocol.trailing_data[0]:  # it would be taken for the next answer
            return False
        self.protocol.start_next_cycle()
        self.used, self.heard = True, False
        self.asked_at = math.inf
        return True

    def stale(self) -> bool:
        """Whether, now that it is lost, it was so when it was asked: then the server has not seen the request."""
        return self.used and not self.heard and trio.current_time() - self.asked_at <= STALE_SECONDS_MAX

    async def send(self, *events: h11.Event) -> None:
        data = b"".join(self.protocol.send(event) or b"" for event in events)
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Lost("head", str(error)) from None
        self.asked_at = trio.current_time()

    async def event(self, stage: Stage) -> h11.Event:
        while True:
            try:
                event = self.protocol.next_event()
            except h11.RemoteProtocolError as error:
                raise Lost(stage, str(error)) from None
            if event is h11.NEED_DATA:
                try:
                    data = bytes(await self.stream.receive_some(READ_BYTES))
                    self.heard |= bool(data)
                    self.protocol.receive_data(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    raise Lost(stage, str(error)) from None
            elif isinstance(event, h11.Event):
                return event
            else:
                raise Lost(stage, "the server changed the protocol")


class Exchange:
    """The answer to one request: `status`, `headers` (names in lower case), and the body, read piece by piece."""

    def __init__(self, connection: _Connection, head: h11.Response):
        self._connection = connection
        self._buffer = bytearray()
        self.status = head.status_code
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}

    async def more(self) -> bytes | None:
        """The next piece of the body, None after its end. Raises Lost."""
        event = await self._connection.event("body")
        return bytes(event.data) if isinstance(event, h11.Data) else None

    async def line(self, bytes_max: int) -> bytes | None:
        """The next line without its newline, None after the last one. Raises Lost, and TooLong."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            if len(self._buffer) > bytes_max:
                raise TooLong
            searched = len(self._buffer)
            piece = await self.more()
            if piece is None:
                rest = bytes(self._buffer)
                self._buffer.clear()
                return rest or None
            self._buffer += piece
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def whole(self, bytes_max: int) -> bytes:
        """All of the body. Raises Lost, and TooLong."""
        body = bytearray()
        while (piece := await self.more()) is not None:
            body += piece
            if len(body) > bytes_max:
                raise TooLong
        return bytes(body)


class Server:
    """The one server behind `url`. Connections are kept for the next request between `keep` and `close` only."""

    def __init__(self, url: str, *, connect_ms_max: int):
        parts = urlsplit(url)
        self.url = url
        self.host, self.port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        self._authority, self._path = parts.netloc.rpartition("@")[2], quote(parts.path, safe="/%")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._idle_max, self._connect_seconds_max = 0, connect_ms_max / 1000
        self._idle: list[_Connection] = []
        self.connected = 0
        """connections made since the start"""

    @property
    def idle(self) -> int:
        return len(self._idle)

    @asynccontextmanager
    async def exchange(self, method: str, path: str, body: bytes = b"") -> AsyncGenerator[Exchange, None]:
        """Sends one request and opens its answer once status and headers are there. Raises Lost."""
        headers = [("Host", self._authority), ("User-Agent", "llmux"), ("Accept", "application/json")]
        if body:
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        request = h11.Request(method=method, target=f"{self._path}{path}", headers=headers)
        connection = await self._connection()
        kept = False
        try:
            try:
                head = await self._head(connection, request, body)
            except Lost:
                if not connection.stale():
                    raise
                await _close(connection)
                connection = await self._connect()
                head = await self._head(connection, request, body)
            yield Exchange(connection, head)
            kept = len(self._idle) < self._idle_max and connection.reusable()
        finally:
            if kept:
                connection.idle_since = trio.current_time()
                self._idle.append(connection)
            else:
                await _close(connection)

    async def read(self, path: str, form: type[T], bytes_max: int) -> T:
        """What a GET of `path` answers, as `form`. Raises Lost, TooLong, and msgspec's errors for anything else than that."""
        async with self.exchange("GET", path) as exchange:
            body = await exchange.whole(bytes_max)
            return msgspec.json.decode(body if exchange.status == 200 else b"", type=form)

    async def _head(self, connection: _Connection, request: h11.Request, body: bytes) -> h11.Response:
        parts = (h11.Data(data=body),) if body else ()
        await connection.send(request, *parts, h11.EndOfMessage())
        head = await connection.event("head")
        while isinstance(head, h11.InformationalResponse):
            head = await connection.event("head")
        if not isinstance(head, h11.Response):
            raise Lost("head", "the server closed the connection")
        return head

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                return connection
            await _close(connection)
        return await self._connect()

    async def _connect(self) -> _Connection:
        try:
            with trio.fail_after(self._connect_seconds_max):
                tcp = await trio.open_tcp_stream(self.host, self.port)
                try:
                    tcp.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
                    stream: trio.abc.Stream = tcp
                    if self._tls is not None:
                        secure = trio.SSLStream(tcp, self._tls, server_hostname=self.host, https_compatible=True)
                        await secure.do_handshake()
                        stream = secure
                except BaseException:
                    await trio.aclose_forcefully(tcp)
                    raise
        except trio.TooSlowError:
            raise Lost("connect", "it takes too long") from None
        except (OSError, UnicodeError) as error:
            raise Lost("connect", str(error)) from None
        except trio.BrokenResourceError as error:
            raise Lost("connect", f"TLS: {error.__cause__}") from None
        self.connected += 1
        return _Connection(stream, tcp.socket)

    def keep(self, idle_max: int) -> None:
        """From now on up to `idle_max` connections stay open when nobody uses them. Whoever calls this calls `close` too."""
        self._idle_max = idle_max

    async def tend(self) -> None:
        """Closes connections that nobody has used for a while. Runs until cancelled."""
        while True:
            await trio.sleep(IDLE_SECONDS_MAX / 4)
            stale = [connection for connection in self._idle if not connection.usable()]
            self._idle = [connection for connection in self._idle if connection not in stale]
            for connection in stale:
                await _close(connection)

    async def close(self) -> None:
        """Closes the connections that nobody uses, and keeps none from now on."""
        self._idle_max = 0
        while self._idle:
            await _close(self._idle.pop())


async def _close(connection: _Connection) -> None:
    """At once, without farewell, and also when the caller is being cancelled."""
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(connection.stream)
