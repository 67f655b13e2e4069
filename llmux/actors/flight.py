"""One answer being produced, for all requests that wait for it: from the first attempt to the last terminal fact."""

from collections.abc import Callable

import msgspec
import trio

from llmux.actors.cached_answer import CachedAnswer, may_be_kept
from llmux.actors.crew import Crew
from llmux.actors.facts.quotas import rest_of
from llmux.actors.landing import Landing, out_of_time
from llmux.actors.logbook import Logbook
from llmux.actors.request import Request
from llmux.actors.router import Routing
from llmux.actors.tries import Tries
from llmux.actors.waiters import Waiters
from llmux.events import RequestAccepted
from llmux.failures import Kind, LLMuxError, ProviderFailure
from llmux.logs import report
from llmux.prompts import Chunk, Finish, ReasoningDelta, TextDelta, Vectors


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
        self._crew = crew
        self._landed = landed
        self._bytes = 0
        self._scope = trio.CancelScope()
        self._log = Logbook(id, crew)
        self._landing = Landing(self)
        self._waiters = Waiters(self._scope, self._log, self._landing, crew)
        self._tries = Tries(self, routing, self._log, self._pass_on, crew)

    def __repr__(self) -> str:
        state = "ending" if self._landing.begun else "under way"
        return (
            f"<Flight {self.id} {state} {self.provider or '?'} chunks={len(self.chunks)} waiters={len(self._waiters)}>"
        )

    @property
    def joinable(self) -> bool:
        """Whether the answer is still being produced: not once it has ended, was cancelled, or is out of time."""
        return not self._landing.begun and not self._scope.cancel_called

    @property
    def whole(self) -> bool:
        """Whether it ends with the whole answer: who joins now still gets that."""
        return self._landing.begun and isinstance(self._landing.outcome, Finish)

    def board(self, owner: Request) -> None:
        """The request that starts the flight takes its place."""
        self._log.owner = owner
        self._waiters.board(owner)

    def hold(self, request: Request) -> None:
        """A request is about to join: the flight goes on for it, until its deadline at least."""
        self._waiters.hold(request)

    async def join(self, request: Request, accepted: RequestAccepted) -> None:
        """A request that holds the flight shares it. Returns when it is among the waiters, or has its terminal fact."""
        await self._waiters.join(request, accepted, self.id)

    def left(self, request: Request) -> None:
        """A waiter leaves. The last one takes the flight with it; any other gets its terminal fact at once."""
        self._waiters.left(request)

    def cut(self, request: Request, failure: LLMuxError) -> None:
        """A waiter's answer ends here, whatever becomes of the flight. The last one takes it with it."""
        self._waiters.cut(request, failure)

    def stop(self) -> None:
        """The gateway stops: every waiter's request is cancelled by it."""
        self._landing.stopped_by = "gateway"
        self._scope.cancel()

    async def run(self, accepted: RequestAccepted) -> None:
        """Finds or makes the answer; returns when every waiter has its terminal fact."""
        outcome: Finish | LLMuxError | None = None
        try:
            with self._scope:
                outcome = await self._found(accepted)
                if outcome is None:
                    outcome = await self._tries.run()
                    await self._keep(outcome)
        except LLMuxError as failure:
            outcome = failure
        except Exception as error:  # a bug of ours ends this answer, not the gateway
            report(error, "flight failed", flight=self.id)
            outcome = LLMuxError("The gateway failed unexpectedly.")
        finally:
            with trio.CancelScope(shield=True):
                await self._land(outcome, timed_out=trio.current_time() >= self._scope.deadline)

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
        self._waiters.stir()

    async def _land(self, outcome: Finish | LLMuxError | None, *, timed_out: bool) -> None:
        """Writes the last facts: of the attempt, and one terminal fact for every waiter. Then the waiters hear of it."""
        landing, log = self._landing, self._log
        landing.begun = True
        self._landed(self)
        attempt = self._tries.take_open()
        now = self._crew.clock.monotonic()
        if outcome is None and timed_out and landing.stopped_by == "client" and self._waiters.interested > 0:
            outcome = out_of_time()
            if attempt is not None:
                log.note(log.of_flight(attempt.failed(outcome, now)))
        elif attempt is not None:
            log.note(log.of_flight(attempt.cancelled(now)))
        waiters = self._waiters.disembark()
        landing.decided(outcome)
        # without a beginning there is no end either; but who has joined has a beginning of their own
        ending = [request for request in waiters if log.begun is not False or request is not log.owner]
        try:
            await log.end(*(log.of_request(request, landing.terminal(request)) for request in ending))
        except LLMuxError as failure:
            landing.not_recorded(failure)
        if isinstance(landing.outcome, Finish) and self.attempts:
            self._note_recovery()
        for request in waiters:
            request.end(landing.end_of(request))

    async def _found(self, accepted: RequestAccepted) -> Finish | None:
        """The end of an answer that another gateway has shared; it costs no attempt. Requests that join share this look."""
        wish, found = self._log.owner.wish, None
        try:
            if wish.use_cache and not wish.fresh:
                found = await self._crew.cache.fetch(self.fingerprint)
        finally:
            beginning = accepted if found is None else msgspec.structs.replace(accepted, cache="hit")
            self._log.note(self._log.of_request(self._log.owner, beginning))
        if found is None:
            return None
        self._log.owner.source = "cache"
        self.provider, self.account, self.model = found.provider, found.account, found.model
        self.chunks += found.chunks[:-1]
        self._waiters.stir()
        return found.finish

    async def _keep(self, finish: Finish) -> None:
        """Holds the answer for others while this flight can still be joined: there is no moment at which neither is there."""
        wish = self._log.owner.wish
        if may_be_kept(wish, finish):
            answer = CachedAnswer(self.provider, self.account, self.model, (*self.chunks, finish))
            await self._crew.cache.store(self.fingerprint, answer, wish.cache_ttl_ms)

    def _note_recovery(self) -> None:
        """After a good answer: a route that rested is well again."""
        if rest_of(self._crew.journal.facts.quotas, self.provider, self.account, self.model) is not None:
            self._tries.restored()
