"""One client's place in an answer: it reads a flight's chunks, and it has exactly one terminal fact."""

from collections.abc import Callable
from typing import Protocol

import trio

from llmux.actors.messages import Wish
from llmux.clock import Clock
from llmux.events import Event, NewEvent
from llmux.failures import LLMuxError
from llmux.prompts import Answer, Chunk, Finish, answer_of

READY_MAX = 256
"""chunks that are handed out at once: writing them as frames takes about a millisecond"""


class Produces(Protocol):
    """What a request reads from: a flight, or a cached answer."""

    provider: str
    account: str
    model: str
    attempts: int
    chunks: list[Chunk]
    """all that has been produced so far, without the Finish"""

    def left(self, request: "Request") -> None:
        """The request is no longer interested."""

    def cut(self, request: "Request", failure: LLMuxError) -> None:
        """The request ends now, with this failure."""


class Request:
    """An answer under way, for one client. `with system.request(wish) as request:` leaves at the end of the block.

    `id` is the request id, `source` "flight", "joined" or "cache"; `provider`, `account` and `model` tell the route that
    answers ("" until the first chunk is there), `attempts` how many were made so far.
    """

    def __init__(self, id: str, wish: Wish, source: str, producer: Produces, clock: Clock, timeout_ms: int):
        self.id = id
        self.deadline = clock.monotonic() + timeout_ms / 1000
        """in seconds of trio's clock"""
        self.wish = wish
        self.source = source
        self._producer = producer
        self._clock = clock
        self._began = clock.monotonic()
        self._took_ms: int | None = None
        self.taken = 0
        """how many chunks some client has taken"""
        self.outcome: Finish | LLMuxError | None = None
        """how it ended, once it has"""
        self.ended_at: int | None = None
        """wall time in ms"""
        self._own = Reader(self)
        self._news = trio.Event()
        self.ended = False
        """its terminal fact is on disk (or the store refused it: then there is a failure)"""
        self.has_left = False
        self.again = False
        """its idempotency key was known: it was given what an earlier request has begun"""
        self.lingers: Callable[[], bool] | None = None
        """asked when its client goes away: whether it goes on without it, for now"""
        self.own_end: LLMuxError | None = None
        """why it ends apart from its flight, if it does"""
        self.is_cut = False
        """it gets nothing more but its failure"""
        self.on_end: Callable[[Request], None] = _nothing
        """called once, when it has ended"""

    def __repr__(self) -> str:
        state = "ended" if self.ended else "left" if self.has_left else "open"
        return f"<Request {self.id} {state} {self.source} {self.provider or '?'} chunks={self.taken}>"

    def __enter__(self) -> "Request":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    @property
    def provider(self) -> str:
        return self._producer.provider

    @property
    def account(self) -> str:
        return self._producer.account

    @property
    def model(self) -> str:
        return self._producer.model

    @property
    def attempts(self) -> int:
        return self._producer.attempts

    @property
    def duration_ms(self) -> int:
        """How long the request has taken, in ms; final once it has ended."""
        if self._took_ms is not None:
            return self._took_ms
        return int((self._clock.monotonic() - self._began) * 1000)

    @property
    def answered(self) -> tuple[Chunk, ...]:
        """The answer so far, without the Finish: all there is, or, of a client that has left or was cut off, what it took before."""
        chunks = self._producer.chunks
        return tuple(chunks[: self.taken] if self.has_left or self.is_cut else chunks)

    @property
    def chunks(self) -> list[Chunk]:
        """All that has been produced so far, without the Finish. Not to be changed."""
        return self._producer.chunks

    async def started(self) -> None:
        """Returns when the first chunk is there or the answer has ended well; raises what made it fail before that."""
        while not self._producer.chunks and not self.ended:
            await self._news.wait()
        if isinstance(self.outcome, LLMuxError) and not self._producer.chunks:
            raise self.outcome.with_traceback(None)

    async def receive(self) -> list[Chunk]:
        """The chunks that are ready, 1 to `READY_MAX`; the `Finish` comes last, once its terminal fact is on disk.

        [] after the end. Raises the LLMuxError that ended the answer, after the chunks that came before it.
        """
        return await self._own.receive()

    def reader(self) -> "Reader":
        """Another place in the answer, at its beginning."""
        return Reader(self)

    async def answer(self) -> Answer:
        """The whole answer. Raises like `receive`."""
        chunks: list[Chunk] = []
        while ready := await self.receive():
            chunks += ready
        return answer_of(chunks)

    def leave(self) -> None:
        """This client is no longer interested. The attempt is cancelled when nobody else waits. No-op after the end."""
        if self.ended or self.has_left or self.is_cut:
            return
        if self.lingers is None or not self.lingers():
            self.has_left = True
            self._producer.left(self)

    def cut(self, failure: LLMuxError) -> None:
        """The answer ends here for this client, who hears of `failure`. No-op after the end."""
        if not self.ended and not self.has_left and self.own_end is None:
            self._producer.cut(self, failure)

    async def over(self) -> None:
        """Returns when the request has ended."""
        while not self.ended:
            await self._news.wait()

    async def news(self) -> None:
        """Returns when something has happened."""
        await self._news.wait()

    # --- for the producer -------------------------------------------------------------------------------------------

    def stir(self) -> None:
        """There is news: whoever waits looks again."""
        self._news.set()
        self._news = trio.Event()

    def end(self, outcome: Finish | LLMuxError) -> None:
        """The terminal fact is on disk; no more chunks come."""
        self._took_ms = self.duration_ms
        self.ended_at = self._clock.now()
        self.ended = True
        self.outcome = outcome
        self.on_end(self)
        self.stir()


class Reader:
    """A place in the answer of a request. Each reader has the whole answer, at its own pace."""

    def __init__(self, request: Request):
        self._request = request
        self._cursor = 0

    def __repr__(self) -> str:
        return f"<Reader {self._request.id} chunks={self._cursor}>"

    def ready(self) -> list[Chunk]:
        """Like `receive`, but [] also when there is nothing yet."""
        request = self._request
        ready = [] if request.is_cut else request.chunks[self._cursor : self._cursor + READY_MAX]
        if not ready and request.outcome is not None and (request.is_cut or self._cursor == len(request.chunks)):
            if isinstance(request.outcome, LLMuxError):
                raise request.outcome.with_traceback(None)
            ready = [request.outcome]
        self._cursor += len(ready)
        request.taken = max(request.taken, min(self._cursor, len(request.chunks)))
        return ready

    async def receive(self) -> list[Chunk]:
        """See `Request.receive`."""
        while True:
            if len(self._request.chunks) - self._cursor >= READY_MAX and not self._request.is_cut:
                await trio.lowlevel.checkpoint()  # a long backlog keeps nobody else from running
            if ready := self.ready():
                return ready
            if self._request.ended:
                return []
            await self._request.news()


def _nothing(request: Request) -> None:
    """Nobody wants to know."""


def event_of(request: Request, fact: Event, clock: Clock) -> NewEvent:
    """A fact of the request's own stream."""
    return NewEvent(f"request-{request.id}", fact, clock.new_id(), request.wish.principal.id, request.id)
