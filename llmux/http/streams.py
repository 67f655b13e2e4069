"""Streams: the status is true, silence is filled with keep-alives, and what is ready goes out in one write.

The response's head waits for the first chunk, so that a failure before it gets its own status; but not longer than
`keep_alive_ms`: then 200 and a keep-alive go out, and a later failure becomes an error frame. A dialect writes the frames.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from urllib.parse import quote

import msgspec
import trio
from quart import Response
from quart.wrappers.response import ResponseBody

from llmux.failures import LLMuxError
from llmux.http.errors import Problem, problem_of
from llmux.http.exchange import RESUMABLE, Exchange
from llmux.http.idempotency import ANSWERED
from llmux.http.numbering import Numbering
from llmux.logs import report
from llmux.prompts import Chunk, Finish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from llmux.actors.request import Request
    from llmux.actors.resumables import Place

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
PRINTABLE = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")
"""what stands in a header as it is; of a model's name everything else is percent-encoded"""


class Frames(Protocol):
    """How one dialect writes one answer as a stream. Each method returns whole frames, or b"" for nothing to say.

    Equal calls give equal bytes: whoever makes it fixes ids and times beforehand.
    """

    media_type: ClassVar[str]
    keep_alive: ClassVar[bytes]
    """what fills a silence: nothing that a client takes for a part of the answer"""

    def opening(self) -> bytes:
        """Once, before the first chunk, when the request knows its route."""

    def chunk(self, chunk: Chunk) -> bytes:
        """For one chunk. The `Finish` brings the stream's end with it."""

    def failure(self, problem: Problem) -> bytes:
        """For a failure after the head went out: the error frame and the stream's end."""


def frame(payload: Any) -> bytes:
    """One event with JSON data."""
    return b"data: " + msgspec.json.encode(payload) + b"\n\n"


class EventFrames:
    """What all streams of server-sent events have in common."""

    media_type: ClassVar[str] = "text/event-stream"
    keep_alive: ClassVar[bytes] = KEEP_ALIVE


class Telling(msgspec.Struct, frozen=True):
    """How a stream is told, as often as somebody reads it: who began it, and what makes its frames."""

    exchange: Exchange
    make: Callable[[], Frames]


async def stream(exchange: Exchange, request: "Request", make: Callable[[], Frames]) -> Response:
    """The response that streams the answer of `request`. Raises the failure that comes before the first chunk.

    `make` makes the frames, as often as they are written: once more for each client that continues the stream.
    """
    keep_alive_s = exchange.system.settings.limits.keep_alive_ms / 1000
    with trio.move_on_after(keep_alive_s) as waiting:
        await request.started()
    frames, place, numbering = make(), exchange.place, None
    if place is not None and frames.media_type == EventFrames.media_type:
        place.how, numbering = Telling(exchange, make), Numbering()
    elif place is not None:  # then it ends with its connection
        exchange.ignore(RESUMABLE)
    body = EventStream(exchange, request, place or request, frames, numbering)
    body.silent = waiting.cancelled_caught
    exchange.filler = frames.keep_alive
    return Response(body, headers=stream_headers(exchange, request), content_type=frames.media_type)


def stream_headers(exchange: Exchange, request: "Request") -> dict[str, str]:
    """The head of a stream: also what answers, as far as that is known yet."""
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    if exchange.place is not None and exchange.place.how is not None:
        headers[RESUMABLE] = "true"
    return headers | (route_headers(exchange, request) if request.chunks or request.ended else {})


def route_headers(exchange: Exchange, request: "Request", finish: Finish | None = None) -> dict[str, str]:
    """What answered, known once the first chunk is there; and, once all of it is there, which wishes could not be carried out.

    A stream's head goes out before that: there, the last frame names them.
    """
    names = exchange.ignored_with(finish)
    return tried_headers(request) | ({"x-llmux-ignored": ", ".join(names)} if names else {})


def tried_headers(request: "Request") -> dict[str, str]:
    """Which route answered, or was tried last ("" = none was), after how many attempts, and what the cache had to do with it."""
    cache = {"cache": "hit", "joined": "joined"}.get(request.source, "miss")
    headers = {"x-llmux-attempts": str(request.attempts), "x-llmux-cache": cache}
    if request.again:
        headers[ANSWERED] = "joined" if request.source == "joined" else "replayed"
    if request.provider:
        model = quote(request.model, safe=PRINTABLE)
        headers |= {"x-llmux-provider": request.provider, "x-llmux-model": model}
    return headers


class EventStream(ResponseBody):
    """The body of a stream. Not an async generator: those leave their clean-up to chance when they are not run to the end.

    `reader` is the client's own place in the answer. `silent`: the first thing it sends is a keep-alive.
    """

    def __init__(
        self,
        exchange: Exchange,
        request: "Request",
        reader: "Reads",
        frames: Frames,
        numbering: Numbering | None = None,
    ):
        self._exchange, self._request, self._reader = exchange, request, reader
        self._frames, self._number = frames, numbering or _as_they_are
        self._keep_alive_s = exchange.system.settings.limits.keep_alive_ms / 1000
        self._caught_up = b""
        self.silent, self._opened, self.ended = False, False, False

    async def __aenter__(self) -> "EventStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.leave()

    def __aiter__(self) -> "AsyncIterator[bytes]":
        return self

    async def make_conditional(self, begin: int, end: int | None) -> int:
        raise NotImplementedError("a stream has no ranges")

    async def catch_up(self, place: "Place") -> bytes:
        """The first of what is there already and this client has not seen, without waiting for more; it goes out first."""
        try:
            while not self._caught_up and (chunks := place.ready()):
                self._caught_up = self._tell(chunks)
                await trio.lowlevel.checkpoint()  # a long backlog keeps nobody else from running
        except Exception as error:
            self._caught_up += self._failed(error)
        return self._caught_up

    async def __anext__(self) -> bytes:
        if self._caught_up:
            first, self._caught_up = self._caught_up, b""
            return first
        if self.ended:
            raise StopAsyncIteration
        if self.silent:
            self.silent = False
            return self._frames.keep_alive
        try:
            with trio.move_on_after(self._keep_alive_s):
                return await self._next()
            return self._frames.keep_alive
        except Exception as error:
            return self._failed(error)

    async def _next(self) -> bytes:
        """The frames of all chunks that are ready, at least one frame."""
        data = b""
        while not data:
            chunks = await self._reader.receive()
            if not chunks:
                raise RuntimeError("the answer ended without a Finish")
            data = self._tell(chunks)
        return data

    def _tell(self, chunks: list[Chunk]) -> bytes:
        opening = b"" if self._opened else self._frames.opening()
        self._opened = True
        self.ended = isinstance(chunks[-1], Finish)
        return self._number(opening + b"".join(map(self._frames.chunk, chunks)))

    def _failed(self, error: Exception) -> bytes:
        self.ended = True
        if not isinstance(error, LLMuxError):
            report(error, "unexpected failure", request_id=self._exchange.id)
        at = self._request.ended_at or self._exchange.system.clock.now()
        return self._number(self._frames.failure(problem_of(error, at)))


class Reads(Protocol):
    """A client's place in an answer."""

    async def receive(self) -> list[Chunk]:
        """See `Request.receive`."""

    def leave(self) -> None:
        """The client is gone."""


def _as_they_are(frames: bytes) -> bytes:
    return frames
