"""The attempts of a flight: routes in their order, each tried as often as its failure allows, until one answers."""

from collections.abc import Callable
from contextlib import suppress

import trio

from llmux.actors import attempt as attempts
from llmux.actors.attempt import Attempt
from llmux.actors.crew import Crew
from llmux.actors.facts.quotas import lasts, rest_of
from llmux.actors.logbook import Logbook
from llmux.actors.provider import NoteRefusal
from llmux.actors.quota_tracker import NoteAnswer, NoteFailure
from llmux.actors.request import Produces
from llmux.actors.router import Route, Routing
from llmux.actors.verdict import is_our_own_queue, names, wait_before, what_is_left
from llmux.failures import Excluded, Kind, LLMuxError, OutcomeUnknown, ProviderFailure
from llmux.prompts import Chunk, Finish


class Tries:
    """Makes `answer`: sets its route and counts its attempts. Each chunk goes to `pass_on`, which may raise ProviderFailure."""

    def __init__(
        self, answer: Produces, routing: Routing, log: Logbook, pass_on: Callable[[Chunk], None], crew: Crew
    ) -> None:
        self._answer, self._routing, self._log, self._pass_on, self._crew = answer, routing, log, pass_on, crew
        self._current: Attempt | None = None
        self._tried_at = 0
        """wall time of the latest attempt's beginning, in ms"""
        self._probe: str | None = None
        """the rest after which this flight alone is trying"""

    def __repr__(self) -> str:
        return f"<Tries {self._answer.attempts} made, now {self._current!r}>"

    async def run(self) -> Finish:
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
                if self._answer.chunks or not failure.policy.falls_back:
                    break
            finally:
                self._release_probe()
        raise what_is_left(failed, (*routing.excluded, *skipped), crew.clock.now())

    def take_open(self) -> Attempt | None:
        """The attempt that still needs an end, which is now the caller's business."""
        attempt, self._current = self._current, None
        return attempt

    def restored(self) -> None:
        """The route answers: it need not rest any more."""
        answer = self._answer
        with suppress(LLMuxError):  # a full or crashed tracker costs nobody the answer
            self._crew.tracker.tell(NoteAnswer(answer.provider, answer.account, answer.model, self._tried_at))

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
        tried, wish = 0, self._log.owner.wish
        while True:
            tried += 1
            try:
                return await self._try_once(route, patient=last)
            except ProviderFailure as failure:
                spoken = bool(self._answer.chunks)
                wait_ms = None if spoken else wait_before(tried + 1, failure, wish, self._crew.clock)
                if wait_ms is None:
                    await self._blame(route, failure)
                    raise
                await trio.sleep(wait_ms / 1000)

    async def _try_once(self, route: Route, *, patient: bool) -> Finish:
        crew, log, answer = self._crew, self._log, self._answer
        answer.attempts += 1
        attempt = Attempt(log.owner.id, answer.attempts, route, crew.clock.monotonic())
        try:
            await log.begin(log.of_flight(attempt.started()))
        except OutcomeUnknown:
            self._current = attempt  # it may have begun, so it needs an end
            raise
        self._current = attempt
        answer.provider, answer.account, answer.model = route.provider, route.account, route.model
        self._tried_at = crew.clock.now()
        try:
            finish = await attempts.run(
                attempt,
                crew.providers[route.provider],
                log.owner.wish.prompt,
                self._heard,
                crew.clock.monotonic,
                patient=patient,
            )
        except ProviderFailure as failure:
            self._current = None
            log.note(log.of_flight(attempt.failed(failure, crew.clock.monotonic())))
            raise
        self._current = None
        log.note(log.of_flight(attempt.succeeded(finish, crew.clock.monotonic())))
        return finish

    def _heard(self, chunk: Chunk) -> None:
        self._pass_on(chunk)
        if self._probe is not None:  # it answers: nobody has to wait for the whole answer to know
            self.restored()
            self._release_probe()

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
