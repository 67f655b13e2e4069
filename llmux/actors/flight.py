"""One answer being produced: tries routes in order until one answers, for all requests that wait for it."""

from collections.abc import Callable
from contextlib import suppress

import trio

from llmux.actors import attempt as attempts
from llmux.actors.attempt import Attempt
from llmux.actors.cache import CachedAnswer
from llmux.actors.crew import Crew
from llmux.actors.facts.quotas import rest_of
from llmux.actors.provider import NoteRefusal
from llmux.actors.quota_tracker import NoteAnswer, NoteFailure
from llmux.actors.request import Request, event_of
from llmux.actors.router import Route, Routing
from llmux.actors.verdict import blame_of, names, what_is_left
from llmux.events import (
    Event,
    NewEvent,
    RequestAccepted,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
    RequestJoined,
)
from llmux.failures import (
    Excluded,
    Kind,
    LLMuxError,
    OutcomeUnknown,
    ProviderFailure,
    ShuttingDown,
)
from llmux.logs import report
from llmux.prompts import Chunk, Finish, ReasoningDelta, TextDelta, Usage

TRIES_MAX = 5
RETRY_WAIT_MS_MAX = 5_000
"""a provider that asks for a longer wait is not tried again by the same flight"""


class Flight:
    """An answer in the making. The requests that wait for it read `chunks`; `run` owns the attempts and all terminal facts.

    It lives until its last waiter leaves. What it costs is charged to the request that started it.
    """

    def __init__(self, id: str, fingerprint: str, routing: Routing, crew: Crew, landed: Callable[["Flight"], None]):
        self.id = id
        self.fingerprint = fingerprint
        self.provider = self.account = self.model = ""
        self.chunks: list[Chunk] = []
        self.attempts = 0
        self.ending = False
        """no request may join any more"""
        self._routing = routing
        self._crew = crew
        self._landed = landed
        self._waiters: list[Request] = []
        self._interested = 0
        self._bytes = 0
        self._pending: list[NewEvent] = []
        self._scope = trio.CancelScope()
        self._stopped_by = "client"
        self._was_stopped = False
        self._current: Attempt | None = None
        self.outcome: Finish | LLMuxError | None = None
        """how it ended, once its last facts are being written"""

    def __repr__(self) -> str:
        state = "ending" if self.ending else "under way"
        return (
            f"<Flight {self.id} {state} {self.provider or '?'} chunks={len(self.chunks)} waiters={len(self._waiters)}>"
        )

    # --- waiters ----------------------------------------------------------------------------------------------------

    def board(self, request: Request) -> None:
        """The request that starts the flight takes its place."""
        self._owner = request
        self._waiters.append(request)
        self._interested += 1

    def hold(self) -> None:
        """A request is about to join: the flight goes on for it."""
        self._interested += 1

    async def join(self, request: Request, accepted: RequestAccepted) -> None:
        """A request that holds the flight shares it. Returns when it is among the waiters, or has its terminal fact."""
        opening = (accepted, RequestJoined(flight=self.id))
        try:
            with trio.CancelScope(shield=True):
                await self._crew.journal.append(*(self._event(request, fact) for fact in opening))
        except LLMuxError as failure:
            self._release(1)
            request.end(failure)
            return
        if self.ending or request.has_left:
            self._release(request.has_left)
            await self._end_one(request)
        else:
            self._waiters.append(request)
            request.stir()  # it may have missed chunks while it was not among the waiters

    def left(self, request: Request) -> None:
        """A waiter leaves. The last one takes the flight with it; any other gets its terminal fact at once."""
        if request in self._waiters and not self.ending:
            if self._interested > 1:
                self._waiters.remove(request)
                self._crew.spawn(self._end_one, request)
            self._release(1)

    def stop(self) -> None:
        """The gateway stops: every waiter's request is cancelled by it."""
        self._stopped_by = "gateway"
        self._scope.cancel()

    def _release(self, places: int) -> None:
        self._interested -= places
        if self._interested == 0:
            self._scope.cancel()

    async def _end_one(self, request: Request) -> None:
        """Writes the terminal fact of a request that left early or joined too late to be among the waiters."""
        ended: Finish | LLMuxError = self.outcome or ShuttingDown("The answer was cancelled.")
        try:
            with trio.CancelScope(shield=True):
                await self._crew.journal.append(self._event(request, self._terminal(request)))
        except LLMuxError as failure:
            ended = failure
        request.end(ended)

    # --- the flight -------------------------------------------------------------------------------------------------

    async def run(self, accepted: RequestAccepted, timeout_ms: int) -> None:
        """Makes the attempts; returns when every waiter has its terminal fact."""
        self._pending.append(self._event(self._owner, accepted))
        deadline = trio.current_time() + timeout_ms / 1000
        outcome: Finish | LLMuxError | None = None
        self._scope.deadline = deadline
        try:
            with self._scope:
                outcome = await self._fly()
        except LLMuxError as failure:
            outcome = failure
        except Exception as error:  # a bug of ours ends this answer, not the gateway
            report(error, "flight failed", flight=self.id)
            outcome = LLMuxError("The gateway failed unexpectedly.")
        finally:
            with trio.CancelScope(shield=True):
                await self._land(outcome, timed_out=trio.current_time() >= deadline)

    async def _fly(self) -> Finish:
        """Tries the routes in order. Raises the LLMuxError that is left when none of them answers."""
        crew, routing = self._crew, self._routing
        failed: list[tuple[Route, ProviderFailure]] = []
        skipped: list[Excluded] = []
        for route in routing.candidates:
            rest = rest_of(crew.journal.facts.quotas, route.provider, route.account, route.model)
            if rest is not None and (
                rest.until > crew.clock.now() or not crew.tracker.claim_probe(route.provider, route.account)
            ):
                sentence = "It began to rest a moment ago."
                skipped.append(Excluded(*names(route), reason=rest.kind, sentence=sentence, until=rest.until))
                continue
            try:
                return await self._try_route(route)
            except ProviderFailure as failure:
                failed.append((route, failure))
                if self.chunks or not failure.policy.falls_back:
                    break
            finally:
                if rest is not None:
                    crew.tracker.release_probe(route.provider, route.account)
        raise what_is_left(failed, (*routing.excluded, *skipped), routing.pinned, crew.clock.now())

    async def _try_route(self, route: Route) -> Finish:
        """All tries of one route. Raises the ProviderFailure of the last one, when the tracker knows of it."""
        wish = self._owner.wish
        tried = 0
        while True:
            tried += 1
            try:
                return await self._try_once(route)
            except ProviderFailure as failure:
                tries = failure.policy.tries
                if wish.tries is not None:  # the client's number counts where trying again can help at all
                    tries = min(wish.tries, TRIES_MAX) if tries > 1 else 1
                wait_ms = self._backoff_ms(failure, tried)
                if self.chunks or tried >= tries or wait_ms > RETRY_WAIT_MS_MAX:
                    await self._blame(route, failure)
                    raise
                await trio.sleep(wait_ms / 1000)

    async def _try_once(self, route: Route) -> Finish:
        crew = self._crew
        self.attempts += 1
        attempt = Attempt(self._owner.id, self.attempts, route, crew.clock.monotonic())
        await self._flush(self._flight_event(attempt.started()))
        self._current = attempt
        self.provider, self.account, self.model = route.provider, route.account, route.model
        try:
            finish = await attempts.run(
                attempt, crew.providers[route.provider], self._owner.wish.prompt, self._pass_on, crew.clock.monotonic
            )
        except ProviderFailure as failure:
            self._current = None
            self._pending.append(self._flight_event(attempt.failed(failure, crew.clock.monotonic())))
            raise
        self._current = None
        self._pending.append(self._flight_event(attempt.succeeded(finish, crew.clock.monotonic())))
        return finish

    def _pass_on(self, chunk: Chunk) -> None:
        if isinstance(chunk, TextDelta | ReasoningDelta):
            self._bytes += len(chunk.text)
        if self._bytes > self._crew.settings.limits.answer_bytes_max:
            raise ProviderFailure(
                Kind.GARBLED, "The answer is longer than is allowed.", evidence="gateway.answer_bound"
            )
        self.chunks.append(chunk)
        for request in self._waiters:
            request.stir()

    def _backoff_ms(self, failure: ProviderFailure, tried: int) -> int:
        if failure.retry_after_ms is not None:
            return failure.retry_after_ms
        backoff_ms: int = failure.policy.backoff_ms << (tried - 1)
        return backoff_ms + self._crew.clock.draw(backoff_ms // 10 + 1)

    async def _blame(self, route: Route, failure: ProviderFailure) -> None:
        """Tells the actors concerned what the failure means for requests to come."""
        crew = self._crew
        try:
            if failure.kind in (Kind.LOGGED_OUT, Kind.INELIGIBLE):
                await crew.providers[route.provider].ask(NoteRefusal(route.account, failure.kind, failure.evidence))
            elif failure.kind is not Kind.OVERLOADED or not failure.evidence.startswith("gateway."):  # our own queue
                note = NoteFailure(
                    route.provider,
                    route.account,
                    route.model,
                    failure.kind,
                    failure.evidence,
                    failure.resets_at,
                    failure.retry_after_ms,
                )
                await crew.tracker.ask(note)
        except LLMuxError:
            return  # the route is not cooled this time; the next failure says it again

    # --- the end ----------------------------------------------------------------------------------------------------

    async def _land(self, outcome: Finish | LLMuxError | None, *, timed_out: bool) -> None:
        """Writes the last facts: of the attempt, and one terminal fact for every waiter. Then the waiters hear of it."""
        self.ending = True
        self._landed(self)
        attempt, self._current = self._current, None
        now = self._crew.clock.monotonic()
        if outcome is None and timed_out and self._stopped_by == "client" and self._interested > 0:
            outcome = ProviderFailure(
                Kind.TIMED_OUT, "The request took longer than it may.", evidence="gateway.total", phase="total"
            )
            if attempt is not None:
                self._pending.append(self._flight_event(attempt.failed(outcome, now)))
        elif attempt is not None:
            self._pending.append(self._flight_event(attempt.cancelled(now)))
        waiters, self._waiters = self._waiters, []
        self._outcome_known(outcome)
        self._pending += [self._event(request, self._terminal(request)) for request in waiters]
        try:
            await self._flush()
        except LLMuxError as failure:
            self.outcome = failure  # nobody is told of an end that is not on disk; the next start closes the requests
        assert self.outcome is not None
        if isinstance(self.outcome, Finish):
            self._keep(self.outcome)  # before anybody hears of it: who asks again at once finds it in the cache
        for request in waiters:
            request.end(self.outcome)

    def _outcome_known(self, outcome: Finish | LLMuxError | None) -> None:
        self.outcome = outcome or ShuttingDown("The answer was cancelled.")
        self._was_stopped = outcome is None

    def _terminal(self, request: Request) -> Event:
        """The terminal fact of a request, given how the flight ended."""
        outcome = self.outcome
        if request.has_left or self._was_stopped or outcome is None:
            by = "client" if request.has_left else self._stopped_by
            return RequestCancelled(by=by, duration_ms=request.duration_ms)
        if isinstance(outcome, Finish):
            return RequestCompleted(
                provider=self.provider,
                account=self.account,
                model=self.model,
                finish=outcome.reason,
                attempts=self.attempts,
                duration_ms=request.duration_ms,
                usage=outcome.usage if request.source == "flight" else Usage(),
                source=request.source,
            )
        return RequestFailed(
            code=outcome.code,
            blame=blame_of(outcome),
            attempts=self.attempts,
            duration_ms=request.duration_ms,
            provider=self.provider,
            account=self.account,
            model=self.model,
        )

    def _keep(self, finish: Finish) -> None:
        """After a good answer: the cache may keep it, and a route that rested is well again."""
        crew = self._crew
        if self._owner.wish.use_cache and finish.reason in ("stop", "length"):
            answer = CachedAnswer(self.provider, self.account, self.model, (*self.chunks, finish))
            crew.cache.keep(self.fingerprint, answer)
        if rest_of(crew.journal.facts.quotas, self.provider, self.account, self.model) is not None:
            with suppress(LLMuxError):  # a full or crashed tracker costs nobody the answer
                crew.tracker.tell(NoteAnswer(self.provider, self.account, self.model))

    # --- recording --------------------------------------------------------------------------------------------------

    def _event(self, request: Request, fact: Event) -> NewEvent:
        return event_of(request, fact, self._crew.clock)

    def _flight_event(self, fact: Event) -> NewEvent:
        owner = self._owner
        return NewEvent(f"flight-{self.id}", fact, self._crew.clock.new_id(), owner.wish.principal.id, owner.id)

    async def _flush(self, *more: NewEvent) -> None:
        """Records what is pending and `more`, in one append that no cancellation reaches.

        When the outcome is unknown, appending the same events again finds it out.
        """
        batch = (*self._pending, *more)
        with trio.CancelScope(shield=True):
            try:
                await self._crew.journal.append(*batch)
            except OutcomeUnknown:
                await self._crew.journal.append(*batch)
        self._pending.clear()
