"""Streams: the status is true, silence is filled with keep-alives, and what is ready goes out in one write.

The response's head waits for the first chunk, so that a failure before it gets its own status; but not longer than
`keep_alive_ms`: then 200 and a keep-alive go out, and a later failure becomes an error frame. A dialect writes the frames.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import msgspec
import trio
from quart import Response
from quart.wrappers.response import ResponseBody

from llmux.failures import LLMuxError
from llmux.http.errors import Problem, problem_of
from llmux.http.exchange import Exchange
from llmux.logs import report
from llmux.prompts import Chunk, Finish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from llmux.actors.request import Request

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


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


async def stream(exchange: Exchange, request: "Request", make: Callable[[], Frames]) -> Response:
    """The response that streams the answer of `request`. Raises the failure that comes before the first chunk.

    `make` makes the frames, as often as they are written.
    """
    keep_alive_s = exchange.system.settings.limits.keep_alive_ms / 1000
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    with trio.move_on_after(keep_alive_s) as waiting:
        await request.started()
    if not waiting.cancelled_caught:
        headers |= route_headers(exchange, request)
    frames = make()
    body = EventStream(exchange, request, frames, keep_alive_s, silent=waiting.cancelled_caught)
    return Response(body, headers=headers, content_type=frames.media_type)


def route_headers(exchange: Exchange, request: "Request", finish: Finish | None = None) -> dict[str, str]:
    """What answered, known once the first chunk is there; and, once all of it is there, which wishes could not be carried out.

    A stream's head goes out before that: there, the last frame names them.
    """
    cache = {"cache": "hit", "joined": "joined"}.get(request.source, "miss")
    headers = {"x-llmux-provider": request.provider, "x-llmux-attempts": str(request.attempts), "x-llmux-cache": cache}
    names = exchange.ignored_with(finish)
    return headers | ({"x-llmux-ignored": ", ".join(names)} if names else {})


class EventStream(ResponseBody):
    """The body of a stream. Not an async generator: those leave their clean-up to chance when they are not run to the end."""

    def __init__(self, exchange: Exchange, request: "Request", frames: Frames, keep_alive_s: float, *, silent: bool):
        self._exchange, self._request, self._frames = exchange, request, frames
        self._keep_alive_s = keep_alive_s
        self._silent, self._opened, self._ended = silent, False, False

    async def __aenter__(self) -> "EventStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._request.leave()

    def __aiter__(self) -> "AsyncIterator[bytes]":
        return self

    async def make_conditional(self, begin: int, end: int | None) -> int:
        raise NotImplementedError("a stream has no ranges")

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        if self._silent:
            self._silent = False
            return self._frames.keep_alive
        try:
            with trio.move_on_after(self._keep_alive_s):
                return await self._ready()
            return self._frames.keep_alive
        except Exception as error:
            self._ended = True
            if not isinstance(error, LLMuxError):
                report(error, "unexpected failure", request_id=self._exchange.id)
            return self._frames.failure(problem_of(error, self._exchange.system.clock.now()))

    async def _ready(self) -> bytes:
        """The frames of all chunks that are ready, at least one frame."""
        data = b""
        while not data:
            chunks = await self._request.receive()
            if not chunks:
                raise RuntimeError("the answer ended without a Finish")
            opening = b"" if self._opened else self._frames.opening()
            self._opened = True
            data = opening + b"".join(map(self._frames.chunk, chunks))
            self._ended = isinstance(chunks[-1], Finish)
        return data
