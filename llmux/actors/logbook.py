"""What a flight records: facts that wait for its next append, and appends of which nobody knows whether they are on disk."""

from collections.abc import Awaitable, Callable

import trio

from llmux.actors.crew import Crew
from llmux.actors.request import Request, event_of
from llmux.events import Event, NewEvent
from llmux.failures import LLMuxError, OutcomeUnknown


class Logbook:
    """The facts of one flight and of its requests on their way into the log."""

    owner: Request
    """the request that started the flight: the flight's own facts are recorded in its name"""

    def __init__(self, flight: str, crew: Crew):
        self.begun: bool | None = None
        """its beginning is in the log; False when the store refused it, None before that is known"""
        self.settled = trio.Event()
        """`begun` is known, or will not be known any more before the flight's end is recorded"""
        self._flight = flight
        self._crew = crew
        self._pending: list[NewEvent] = []
        self._unsure: tuple[NewEvent, ...] = ()
        """an append whose outcome is unknown; it is found out before the next one"""

    def __repr__(self) -> str:
        return (
            f"<Logbook of {self._flight}: begun={self.begun} pending={len(self._pending)} unsure={len(self._unsure)}>"
        )

    def of_request(self, request: Request, fact: Event) -> NewEvent:
        """A fact of the request's own stream."""
        return event_of(request, fact, self._crew.clock)

    def of_flight(self, fact: Event) -> NewEvent:
        """A fact of the flight's stream."""
        owner = self.owner
        return NewEvent(f"flight-{self._flight}", fact, self._crew.clock.new_id(), owner.wish.principal.id, owner.id)

    def note(self, *events: NewEvent) -> None:
        """They travel with the next append."""
        self._pending += events

    async def begin(self, *events: NewEvent) -> None:
        """Records what is noted and `events`, in one append that no cancellation reaches. Raises LLMuxError."""
        await self._flush(self._crew.journal.append, *events)

    async def end(self, *events: NewEvent) -> None:
        """Records the last facts, without those of a beginning that the store refused. Raises LLMuxError.

        What cannot be recorded now is owed by the journal.
        """
        if self.begun is False:
            self._pending.clear()
        self._pending += events
        self.settled.set()
        try:
            await self._flush(self._crew.journal.append_end)
        except LLMuxError:
            if self._unsure and self._pending:  # the journal never saw the second half
                self._crew.journal.owe(*self._pending)
            raise

    async def _flush(self, append: Callable[..., Awaitable[object]], *more: NewEvent) -> None:
        with trio.CancelScope(shield=True):
            if self._unsure:
                await append(*self._unsure)
                self._unsure = ()
            batch = (*self._pending, *more)
            if not batch:
                return
            try:
                await append(*batch)
            except OutcomeUnknown:
                self._unsure = batch
                self._pending.clear()
                raise
            except LLMuxError:
                self.begun = self.begun or False
                self.settled.set()
                raise
            self.begun = True
            self.settled.set()
            self._pending.clear()
