"""Requests that go on without their client: its connection may have been lost, and it may come back to read on.

Such a request is held from its beginning. Once nobody reads it, it waits for `resumable_wait_ms_max`, whether it is still being
answered or has ended; then it is let go, which cancels it as any client's leaving does. Nothing of it is recorded: what is held
is runtime, and does not outlive the process.
"""

from typing import Any

import msgspec
import trio

from llmux.actors.messages import Principal
from llmux.actors.request import Reader, Request
from llmux.config import Limits
from llmux.failures import ClientFailure, Overloaded
from llmux.prompts import Chunk, Finish, ToolCallDelta, Vectors

CHUNK_BYTES = 100
"""about what a chunk weighs beside its text"""


class ResumableStatistics(msgspec.Struct, frozen=True):
    """How many requests are held, how many of them nobody reads, and what the answers of those weigh."""

    held: int
    unread: int
    unread_bytes: int


class Held:
    """One request that can be read again. `how` is what its dialect needs to tell it again, None until it has begun to."""

    def __init__(self, request: Request):
        self.request = request
        self.how: Any = None
        self.readers = 0
        self.left_at = 0.0
        """when the last reader left, in seconds of trio's clock"""
        self.bytes = 0
        self.waiting = trio.CancelScope()
        """what ends the wait for a reader"""
        self._weighed = 0

    def __repr__(self) -> str:
        return f"<Held {self.request.id} readers={self.readers}>"

    def weigh(self) -> int:
        """How many bytes the answer has grown by since it was last weighed."""
        fresh = self.request.chunks[self._weighed :]
        self._weighed += len(fresh)
        grown = sum(map(weight_of, fresh))
        self.bytes += grown
        return grown


class Place:
    """A reader's place in a held request; to be left exactly once, which is synchronous and never fails."""

    def __init__(self, resumables: "Resumables", held: Held):
        self._resumables, self._held = resumables, held
        self._reader: Reader = held.request.reader()
        self._left = False
        held.readers += 1

    def __repr__(self) -> str:
        return f"<Place in {self._held!r}>"

    @property
    def request(self) -> Request:
        """What is read here."""
        return self._held.request

    @property
    def how(self) -> Any:
        """See `Held.how`. A request whose telling has not begun is cancelled when its client leaves."""
        return self._held.how

    @how.setter
    def how(self, how: Any) -> None:
        self._held.how = how

    def ready(self) -> list[Chunk]:
        """See `Reader.ready`."""
        return self._reader.ready()

    async def receive(self) -> list[Chunk]:
        """See `Request.receive`."""
        return await self._reader.receive()

    def leave(self) -> None:
        """The reader is gone. When it was the last one, the request waits for another."""
        if not self._left:
            self._left = True
            self._resumables.left(self._held)


class Resumables:
    """All requests that are held. `run` is the task in which they wait."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._held: dict[str, Held] = {}
        self._unread_bytes = 0
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        return f"<Resumables held={len(self._held)} unread={len(self._unread())}>"

    def statistics(self) -> ResumableStatistics:
        return ResumableStatistics(len(self._held), len(self._unread()), self._unread_bytes)

    def make_room(self) -> None:
        """Lets the oldest unread request go when there are too many. Raises Overloaded when all of them are being read."""
        while len(self._held) >= self._limits.resumable_streams_max:
            if not self._let_one_go():
                raise Overloaded("Too many resumable streams are being read.")

    def hold(self, request: Request) -> Place:
        """Holds a request that has just begun; its first reader gets the place. `make_room` comes before."""
        held = self._held[request.id] = Held(request)
        return Place(self, held)

    def resume(self, id: str, principal: Principal) -> Place:
        """Another place in the request `id`, at its beginning. Raises ClientFailure (404), for one of another principal too."""
        held = self._held.get(id)
        if held is None or held.how is None or held.request.wish.principal.id != principal.id:
            raise ClientFailure(
                "No stream of that request can be continued: it was not resumable, nobody read it for too long, or it is not yours.",
                status=404,
                code="stream_not_found",
            )
        if not held.readers:
            self._unread_bytes -= held.bytes
            held.waiting.cancel()
        return Place(self, held)

    def left(self, held: Held) -> None:
        """A reader has left."""
        held.readers -= 1
        if held.readers:
            return
        if self._held.get(held.request.id) is not held:  # everything was let go
            held.request.leave()
            return
        held.left_at = trio.current_time()
        held.weigh()
        self._unread_bytes += held.bytes
        if held.how is None or self._nursery is None:
            self._let_go(held)
            return
        held.waiting = trio.CancelScope(deadline=held.left_at + self._limits.resumable_wait_ms_max / 1000)
        self._nursery.start_soon(self._wait, held, held.waiting)
        self._shed()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Holds the waits. Cancelled, it lets go of everything; the requests end with the gateway."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._held.clear()
            self._unread_bytes = 0

    async def _wait(self, held: Held, scope: trio.CancelScope) -> None:
        """Waits until somebody reads on, or the time is over."""
        with scope:
            while not held.request.ended:
                await held.request.news()
                if self._waits(held, scope):
                    self._unread_bytes += held.weigh()
                    self._shed()
            await trio.sleep_forever()
        if self._waits(held, scope):
            self._let_go(held)

    def _waits(self, held: Held, scope: trio.CancelScope) -> bool:
        """Whether it is still this wait that the request is in: it may have been let go, or been read and left again."""
        return held.waiting is scope and not held.readers and self._held.get(held.request.id) is held

    def _shed(self) -> None:
        while self._unread_bytes > self._limits.resumable_bytes_max and self._let_one_go():
            pass

    def _let_one_go(self) -> bool:
        """Lets go of what was left longest ago, but rather of an answer that has ended than of one under way."""
        unread = self._unread()
        if unread:
            self._let_go(min(unread, key=lambda held: (not held.request.ended, held.left_at)))
        return bool(unread)

    def _unread(self) -> list[Held]:
        return [held for held in self._held.values() if not held.readers]

    def _let_go(self, held: Held) -> None:
        if self._held.pop(held.request.id, None) is not None:
            self._unread_bytes -= held.bytes
            held.waiting.cancel()
            held.request.leave()


def weight_of(chunk: Chunk) -> int:
    """Roughly what a chunk costs in memory, in bytes."""
    if isinstance(chunk, Finish):
        return CHUNK_BYTES
    if isinstance(chunk, Vectors):
        return CHUNK_BYTES + sum(map(len, chunk.values))
    return CHUNK_BYTES + len(chunk.arguments if isinstance(chunk, ToolCallDelta) else chunk.text)
