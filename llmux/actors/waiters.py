"""The requests that wait for one flight: who joins it, who leaves it, and until when it goes on for them."""

from collections.abc import Iterator
from contextlib import suppress

import trio

from llmux.actors.crew import Crew
from llmux.actors.landing import Landing, out_of_time
from llmux.actors.logbook import Logbook
from llmux.actors.request import Request
from llmux.events import RequestAccepted, RequestJoined
from llmux.failures import LLMuxError, OutcomeUnknown


class Waiters:
    """Everybody who waits. `scope` is the flight's: its deadline is the latest one of all, and the last who leaves cancels it.

    Whoever ends before the flight lands gets a terminal fact at that moment, from here.
    """

    def __init__(self, scope: trio.CancelScope, log: Logbook, landing: Landing, crew: Crew):
        self._scope, self._log, self._landing, self._crew = scope, log, landing, crew
        self._waiting: list[Request] = []
        self._interested = 0
        self._shared = False

    def __repr__(self) -> str:
        return f"<Waiters {len(self._waiting)} waiting, {self._interested} interested>"

    def __iter__(self) -> Iterator[Request]:
        return iter(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def interested(self) -> int:
        """How many want the answer, those who are about to join included."""
        return self._interested

    def board(self, owner: Request) -> None:
        """The request that starts the flight takes its place."""
        self._waiting.append(owner)
        self._interested += 1
        self._scope.deadline = owner.deadline

    def hold(self, request: Request) -> None:
        """A request is about to join: the flight goes on for it, until its deadline at least."""
        self._interested += 1
        if not self._shared:  # alone, the first request had the flight's own deadline
            self._shared = True
            self._crew.spawn(self._expire, self._log.owner)
        self._crew.spawn(self._expire, request)
        self._scope.deadline = max(self._scope.deadline, request.deadline)

    async def join(self, request: Request, accepted: RequestAccepted, flight: str) -> None:
        """A request that holds the flight shares it. Returns when it is among the waiters, or has its terminal fact."""
        opening = [self._log.of_request(request, fact) for fact in (accepted, RequestJoined(flight=flight))]
        try:
            with trio.CancelScope(shield=True):
                await self._crew.journal.append(*opening)
        except OutcomeUnknown as failure:  # it may have begun, so it needs an end
            request.own_end = failure
            with suppress(LLMuxError):
                await self._crew.journal.append_end(*opening)
        except LLMuxError as failure:
            self._release(1)
            request.end(failure)
            return
        if self._landing.begun or request.has_left or request.own_end is not None:
            await self._end_one(request)
            self._release(1)
        else:
            self._waiting.append(request)
            request.stir()  # it may have missed chunks while it was not among the waiters

    def left(self, request: Request) -> None:
        """A waiter leaves. The last one takes the flight with it; any other gets its terminal fact at once."""
        if request in self._waiting and not self._landing.begun:
            if self._interested > 1 and (self._log.begun or request is not self._log.owner):
                self._waiting.remove(request)
                self._crew.spawn(self._end_one, request)
            self._release(1)

    def cut(self, request: Request, failure: LLMuxError) -> None:
        """A waiter's answer ends here. Others go on; the last one takes the flight with it. Whose end is being written, is let be."""
        if self._landing.begun:
            return
        request.own_end, request.is_cut = failure, True
        request.stir()
        if request in self._waiting and self._interested > 1:
            self._crew.spawn(self._end_apart, request)
        elif request in self._waiting:
            self._release(1)  # and it ends with the flight; whoever is about to join ends in `join`

    async def _end_apart(self, request: Request) -> None:
        """Ends one of several waiters, once the log knows that it has begun."""
        if request is self._log.owner:
            await self._log.settled.wait()
        if request in self._waiting and not self._landing.begun:
            self._waiting.remove(request)
            await self._end_one(request)
            self._release(1)

    def stir(self) -> None:
        """There is news for everybody."""
        for request in self._waiting:
            request.stir()

    def disembark(self) -> list[Request]:
        """All who still wait: the flight has landed, and nobody waits any more."""
        waiting, self._waiting = self._waiting, []
        return waiting

    async def _expire(self, request: Request) -> None:
        """Ends a request that shares the flight at its own deadline; the others go on."""
        with trio.move_on_at(request.deadline):
            await request.over()
        if request.ended or request.has_left or request.is_cut or self._landing.begun:
            return
        request.own_end = out_of_time()
        if request in self._waiting:
            self._waiting.remove(request)
            await self._end_one(request)
            self._release(1)

    def _release(self, places: int) -> None:
        self._interested -= places
        if self._interested == 0:
            self._scope.cancel()

    async def _end_one(self, request: Request) -> None:
        """Writes the terminal fact of a request that ends apart from the flight, or joined too late for its end."""
        ended = self._landing.end_of(request)
        try:
            if self._log.begun is not False or request is not self._log.owner:
                terminal = self._log.of_request(request, self._landing.terminal(request))
                await self._crew.journal.append_end(terminal)
        except LLMuxError as failure:
            ended = failure
        request.end(ended)
