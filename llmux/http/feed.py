"""The log as a live feed of server-sent events: `id` is the position, `event` the type, `data` the event as JSON.

A feed begins after `Last-Event-ID` (or `?after=`), sends what the log has, and then what is recorded, when it is recorded. In
silence comes a comment, with the position up to which nothing is missing, so that who comes back need not read it again.

Nothing is kept for a subscriber: it is given the next events when it has taken the last ones. Those who are at the end of the
log share what the journal keeps of it in memory, and the frames made of it, however many they are.
"""

from typing import TYPE_CHECKING

import msgspec
import trio
from quart import Response
from quart.wrappers.response import ResponseBody

from llmux.actors.recent import EVENTS_MAX
from llmux.actors.stories import plain_event
from llmux.failures import LLMuxError
from llmux.http.errors import problem_of
from llmux.http.exchange import Exchange
from llmux.http.native import error_body
from llmux.logs import report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from llmux.actors.history import Feed
    from llmux.events import RecordedEvent

RETRY_MS = 2_000
"""how long a browser waits before it comes back"""
KEEP_ALIVE = b": keep-alive\n\n"
GOOD_BYE = b": the gateway stops\n\n"


class LogFrames:
    """The frames of the newest events, each made once for all who follow."""

    def __init__(self, frames_max: int = EVENTS_MAX):
        self._made: dict[int, bytes] = {}
        self._frames_max = frames_max

    def __repr__(self) -> str:
        return f"<LogFrames {len(self._made)}>"

    def of(self, event: "RecordedEvent") -> bytes:
        """The event as a whole frame."""
        made = self._made.get(event.position)
        if made is None:
            data = msgspec.json.encode(plain_event(event))
            made = f"id: {event.position}\nevent: {event.type}\ndata: ".encode() + data + b"\n\n"
            if len(self._made) >= self._frames_max:
                del self._made[next(iter(self._made))]
            self._made[event.position] = made
        return made


def feed_response(exchange: Exchange, feed: "Feed", frames: LogFrames) -> Response:
    """The response that sends the feed until its client leaves or the gateway stops."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    exchange.filler = KEEP_ALIVE
    return Response(FeedBody(exchange, feed, frames), headers=headers, content_type="text/event-stream")


class FeedBody(ResponseBody):
    """The body of a feed. It owns nothing that would have to be given back."""

    def __init__(self, exchange: Exchange, feed: "Feed", frames: LogFrames):
        self._exchange, self._feed, self._frames = exchange, feed, frames
        self._keep_alive_s = exchange.system.settings.limits.keep_alive_ms / 1000
        self._said = feed.position
        self._ended = False
        self._opening = f"retry: {RETRY_MS}\n\n".encode()

    async def __aenter__(self) -> "FeedBody":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def __aiter__(self) -> "AsyncIterator[bytes]":
        return self

    async def make_conditional(self, begin: int, end: int | None) -> int:
        raise NotImplementedError("a feed has no ranges")

    async def __anext__(self) -> bytes:
        if self._opening:  # the head goes out with the first bytes
            opening, self._opening = self._opening, b""
            return opening
        if self._ended:
            raise StopAsyncIteration
        try:
            with trio.move_on_after(self._keep_alive_s):
                return await self._next()
            return self._still_here()
        except Exception as error:
            self._ended = True
            if not isinstance(error, LLMuxError):
                report(error, "unexpected failure", request_id=self._exchange.id)
            problem = problem_of(error, self._exchange.system.clock.now())
            return b"event: error\ndata: " + msgspec.json.encode(error_body(problem, self._exchange.id)) + b"\n\n"

    async def _next(self) -> bytes:
        events = await self._feed.next()
        if not events:
            self._ended = True
            return GOOD_BYE
        self._said = events[-1].position
        return b"".join(map(self._frames.of, events))

    def _still_here(self) -> bytes:
        """A comment; and an id without data, which moves a client's `Last-Event-ID` and shows it no event."""
        moved, self._said = self._feed.position > self._said, self._feed.position
        return f": keep-alive\n{f'id: {self._said}' if moved else ''}\n\n".encode()
