"""One answer being produced: tries routes in order until one answers, for all requests that wait for it."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from llmux.actors import attempt as attempts
from llmux.actors.attempt import Attempt
from llmux.actors.cache import CachedAnswer
from llmux.actors.crew import Crew
from llmux.actors.facts.quotas import lasts, rest_of
from llmux.actors.provider import NoteRefusal
from llmux.actors.quota_tracker import NoteAnswer, NoteFailure
from llmux.actors.request import Request, event_of
from llmux.actors.router import Route, Routing
from llmux.actors.verdict import blame_of, is_our_own_queue, names, wait_before, what_is_left
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
from llmux.prompts import Chunk, Finish, ReasoningDelta, TextDelta, Usage, Vectors


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
        self._shared = False
        self._bytes = 0
        self._pending: list[NewEvent] = []
        self._unsure: tuple[NewEvent, ...] = ()
        """an append whose outcome is unknown; it is found out before the next one"""
        self._begun: bool | None = None
        """its beginning is in the log; False when the store refused it, None before that is known"""
        self._tried_at = 0
        """wall time of the latest attempt's beginning, in ms"""
        self._probe: str | None = None
        """the rest after which this flight alone is trying"""
        self._scope = trio.CancelScope()
        """its deadline is the latest one of all waiters"""
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
        self._scope.deadline = request.deadline

    @property
    def joinable(self) -> bool:
        """Whether the answer is still being produced: not once it has ended, was cancelled, or is out of time."""
        return not self.ending and not self._scope.cancel_called

    def hold(self, request: Request) -> None:
        """A request is about to join: the flight goes on for it, until its deadline at least."""
        self._interested += 1
        if not self._shared:  # alone, the first request had the flight's own deadline
            self._shared = True
            self._crew.spawn(self._expire, self._owner)
        self._crew.spawn(self._expire, request)
        self._scope.deadline = max(self._scope.deadline, request.deadline)

    async def _expire(self, request: Request) -> None:
        """Ends a request that shares the flight at its own deadline; the others go on."""
        with trio.move_on_at(request.deadline):
            await request.over()
        if request.ended or request.has_left or self.ending:
            return
        request.own_end = _out_of_time()
        if request in self._waiters:
            self._waiters.remove(request)
            await self._end_one(request)
            self._release(1)

    async def join(self, request: Request, accepted: RequestAccepted) -> None:
        """A request that holds the flight shares it. Returns when it is among the waiters, or has its terminal fact."""
        opening = [self._event(request, fact) for fact in (accepted, RequestJoined(flight=self.id))]
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
        if self.ending or request.has_left or request.own_end is not None:
            await self._end_one(request)
            self._release(1)
        else:
            self._waiters.append(request)
            request.stir()  # it may have missed chunks while it was not among the waiters

    def left(self, request: Request) -> None:
        """A waiter leaves. The last one takes the flight with it; any other gets its terminal fact at once."""
        if request in self._waiters and not self.ending:
            if self._interested > 1 and (self._begun or request is not self._owner):
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
        """Writes the terminal fact of a request that ends apart from the flight, or joined too late for its end."""
        ended = request.own_end or self.outcome or ShuttingDown("The answer was cancelled.")
        try:
            if self._begun is not False or request is not self._owner:
                await self._crew.journal.append_end(self._event(request, self._terminal(request)))
        except LLMuxError as failure:
            ended = failure
        request.end(ended)

    # --- the flight -------------------------------------------------------------------------------------------------

    async def run(self, accepted: RequestAccepted) -> None:
        """Makes the attempts; returns when every waiter has its terminal fact."""
        self._pending.append(self._event(self._owner, accepted))
        outcome: Finish | LLMuxError | None = None
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
                await self._land(outcome, timed_out=trio.current_time() >= self._scope.deadline)

    async def _fly(self) -> Finish:
        """Tries the routes in order. Raises the LLMuxError that is left when none of them answers."""
        crew, routing = self._crew, self._routing
        failed: list[tuple[Route, ProviderFailure]] = []
        skipped: list[Excluded] = []
        for route in routing.candidates:
            resting = self._resting(route)
            if resting is not None:
                skipped.append(resting)
                continue
            try:
                return await self._try_route(route, last=route is routing.candidates[-1])
            except ProviderFailure as failure:
                failed.append((route, failure))
                if self.chunks or not failure.policy.falls_back:
                    break
            finally:
                self._release_probe()
        raise what_is_left(failed, (*routing.excluded, *skipped), crew.clock.now())

    def _resting(self, route: Route) -> Excluded | None:
        """Why this route is to be left alone after all: what was so at routing may have changed. Claims the probe of a rest
        that is over."""
        crew, now = self._crew, self._crew.clock.now()
        found = rest_of(crew.journal.facts.quotas, route.provider, route.account, route.model)
        if found is None:
            return None
        key, rest = found
        if lasts(rest, now):
            sentence = "It began to rest a moment ago."
            return Excluded(*names(route), reason=rest.kind, sentence=sentence, until=rest.until)
        if not crew.tracker.claim_probe(key):
            sentence = "Its rest is over and another request is trying it."
            return Excluded(*names(route), reason="half_open", sentence=sentence, until=now + 1000)
        self._probe = key
        return None

    def _release_probe(self) -> None:
        if self._probe is not None:
            self._crew.tracker.release_probe(self._probe)
            self._probe = None

    async def _try_route(self, route: Route, *, last: bool) -> Finish:
        """All tries of one route. Raises the ProviderFailure of the last one, when the tracker knows of it."""
        tried = 0
        while True:
            tried += 1
            try:
                return await self._try_once(route, patient=last)
            except ProviderFailure as failure:
                wait_ms = None if self.chunks else wait_before(tried + 1, failure, self._owner.wish, self._crew.clock)
                if wait_ms is None:
                    await self._blame(route, failure)
                    raise
                await trio.sleep(wait_ms / 1000)

    async def _try_once(self, route: Route, *, patient: bool) -> Finish:
        crew = self._crew
        self.attempts += 1
        attempt = Attempt(self._owner.id, self.attempts, route, crew.clock.monotonic())
        try:
            await self._flush(crew.journal.append, self._flight_event(attempt.started()))
        except OutcomeUnknown:
            self._current = attempt  # it may have begun, so it needs an end
            raise
        self._current = attempt
        self.provider, self.account, self.model = route.provider, route.account, route.model
        self._tried_at = crew.clock.now()
        try:
            finish = await attempts.run(
                attempt,
                crew.providers[route.provider],
                self._owner.wish.prompt,
                self._pass_on,
                crew.clock.monotonic,
                patient=patient,
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
        elif isinstance(chunk, Vectors):
            self._bytes += sum(map(len, chunk.values))
        if self._bytes > self._crew.settings.limits.answer_bytes_max:
            raise ProviderFailure(
                Kind.GARBLED, "The answer is longer than is allowed.", evidence="gateway.answer_bound"
            )
        self.chunks.append(chunk)
        if self._probe is not None:  # it answers: nobody has to wait for the whole answer to know
            self._restored()
            self._release_probe()
        for request in self._waiters:
            request.stir()

    async def _blame(self, route: Route, failure: ProviderFailure) -> None:
        """Tells the actors concerned what the failure means for requests to come."""
        crew = self._crew
        try:
            if failure.kind in (Kind.LOGGED_OUT, Kind.INELIGIBLE):
                await crew.providers[route.provider].ask(NoteRefusal(route.account, failure.kind, failure.evidence))
            elif not is_our_own_queue(failure):
                note = NoteFailure(
                    route.provider,
                    route.account,
                    route.model,
                    failure.kind,
                    failure.evidence,
                    failure.resets_at,
                    failure.retry_after_ms,
                    failure.model_only,
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
            outcome = _out_of_time()
            if attempt is not None:
                self._pending.append(self._flight_event(attempt.failed(outcome, now)))
        elif attempt is not None:
            self._pending.append(self._flight_event(attempt.cancelled(now)))
        waiters, self._waiters = self._waiters, []
        self._outcome_known(outcome)
        ending = waiters
        if self._begun is False:  # then it has no end either; but who has joined it has a beginning of their own
            self._pending.clear()
            ending = [request for request in waiters if request is not self._owner]
        self._pending += [self._event(request, self._terminal(request)) for request in ending]
        try:
            await self._flush(self._crew.journal.append_end)
        except LLMuxError as failure:
            self.outcome = failure  # nobody is told of an end that is not on disk
            if self._unsure and self._pending:  # the journal never saw the second half
                self._crew.journal.owe(*self._pending)
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
        outcome = request.own_end or self.outcome
        if request.has_left or outcome is None or (self._was_stopped and request.own_end is None):
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
            self._restored()

    def _restored(self) -> None:
        with suppress(LLMuxError):  # a full or crashed tracker costs nobody the answer
            self._crew.tracker.tell(NoteAnswer(self.provider, self.account, self.model, self._tried_at))

    # --- recording --------------------------------------------------------------------------------------------------

    def _event(self, request: Request, fact: Event) -> NewEvent:
        return event_of(request, fact, self._crew.clock)

    def _flight_event(self, fact: Event) -> NewEvent:
        owner = self._owner
        return NewEvent(f"flight-{self.id}", fact, self._crew.clock.new_id(), owner.wish.principal.id, owner.id)

    async def _flush(self, append: Callable[..., Awaitable[object]], *more: NewEvent) -> None:
        """Records what is pending and `more`, in one append that no cancellation reaches. Raises LLMuxError."""
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
                self._begun = self._begun or False
                raise
            self._begun = True
            self._pending.clear()


def _out_of_time() -> ProviderFailure:
    return ProviderFailure(
        Kind.TIMED_OUT, "The request took longer than it may.", evidence="gateway.total", phase="total"
    )
