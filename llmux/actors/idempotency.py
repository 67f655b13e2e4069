"""Idempotency keys: the same order under the same key is carried out once, however often it arrives.

Which request a key stands for is a fact (`llmux.actors.facts.idempotency`). Facts lag behind by one commit, so what has just been
taken on is claimed in here at once: two requests that race with one key meet before anything is on disk. The claim goes when
all its requests have ended, and the facts speak from then on. So a key is free again exactly when the log says that its
request came to nothing.

The same order is one with the same fingerprint: whether it is streamed, through which dialect, and for how long it may take
change how an answer is told, not which one it is.

A client that gives a key says that it will ask again when its connection is lost. Its request goes on without it for
`idempotency_wait_ms_max`, so that it can join; then it is cancelled as any client's leaving does.
"""

from functools import partial

import msgspec
import trio

from llmux.actors.cache import Cache
from llmux.actors.cached_answer import CachedAnswer
from llmux.actors.facts.idempotency import key_of
from llmux.actors.fingerprints import Fingerprints
from llmux.actors.flight import Flight
from llmux.actors.journal import Journal
from llmux.actors.kept_answers import KeptAnswers
from llmux.actors.messages import Wish
from llmux.actors.request import Request
from llmux.clock import Clock
from llmux.config import Limits
from llmux.failures import AnswerUnavailable, ClientFailure
from llmux.prompts import Finish

HEADER = "Idempotency-Key"


class Claim:
    """What a key stands for while its requests are open: the flight, or the kept answer, that they read."""

    def __init__(self, name: str, fingerprint: str, answer: Flight | CachedAnswer):
        self.name, self.fingerprint, self.answer = name, fingerprint, answer
        self.requests: list[Request] = []

    def __repr__(self) -> str:
        return f"<Claim {self.answer!r} requests={len(self.requests)}>"

    @property
    def stands(self) -> bool:
        """Whether the answer can still be had. Else it has come to nothing, and only the last facts are not yet on disk."""
        return isinstance(self.answer, CachedAnswer) or self.answer.joinable or self.answer.whole

    @property
    def over(self) -> bool:
        """Whether the facts know the end of all its requests."""
        return all(request.ended for request in self.requests)

    def outcome(self) -> CachedAnswer | None:
        """The whole answer, if that is how it ended."""
        finish = next((each.outcome for each in self.requests if isinstance(each.outcome, Finish)), None)
        if finish is None:
            return None
        if isinstance(self.answer, CachedAnswer):
            return self.answer
        flight = self.answer
        return CachedAnswer(flight.provider, flight.account, flight.model, (*flight.chunks, finish))


class IdempotencyStatistics(msgspec.Struct, frozen=True):
    """How many keys have open requests, how many requests go on without their client, and what is kept of ended ones."""

    claims: int
    waiting: int
    answers: int
    bytes: int


class IdempotencyKeys:
    """All keys in use. `run` is the task in which requests wait for clients that went away."""

    def __init__(self, journal: Journal, cache: Cache, fingerprints: Fingerprints, limits: Limits, clock: Clock):
        self._journal, self._cache, self._fingerprints = journal, cache, fingerprints
        self._limits, self._clock = limits, clock
        self._claims: dict[str, Claim] = {}
        self._answers = KeptAnswers(limits, clock)
        self._waiting: set[str] = set()
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        return f"<IdempotencyKeys claims={len(self._claims)} waiting={len(self._waiting)} {self._answers!r}>"

    def statistics(self) -> IdempotencyStatistics:
        return IdempotencyStatistics(len(self._claims), len(self._waiting), len(self._answers), self._answers.bytes)

    def digest(self, key: str) -> str:
        """What is known of a client's key: an HMAC, because keys may say something about who made them."""
        return self._fingerprints.of_key(key)

    def known(self, wish: Wish, fingerprint: str) -> Flight | CachedAnswer | None:
        """What the wish's key stands for: a flight to join, or a whole answer; None where it is free, or there is no key.

        Raises ClientFailure (422) where it stands for another order, and AnswerUnavailable where the answer is gone.
        """
        if not wish.idempotency:
            return None
        name = key_of(wish.principal.id, wish.idempotency)
        claim = self._claimed(name)
        if claim is not None:
            if not claim.stands:
                return None
            _check(claim.fingerprint, fingerprint)
            return claim.answer
        fact = self._journal.facts.idempotency.keys.get(name)
        if fact is None or fact.until <= self._clock.now():
            return None
        _check(fact.fingerprint, fingerprint)
        answer = self._answers.look(name, fingerprint)
        if answer is None and wish.use_cache and not wish.fresh:
            answer = self._cache.look(fingerprint)
        if answer is None:
            raise AnswerUnavailable(fact.request)
        return answer

    def claim(self, request: Request, fingerprint: str, answer: Flight | CachedAnswer) -> None:
        """The request's key, if it has one, stands for `answer` from this moment on."""
        if not request.wish.idempotency:
            return
        assert self._nursery is not None, "requests are taken on while `run` runs"
        name = key_of(request.wish.principal.id, request.wish.idempotency)
        claim = self._claims.get(name)
        if claim is None or claim.answer is not answer:
            claim = self._claims[name] = Claim(name, fingerprint, answer)
        claim.requests.append(request)
        if isinstance(answer, Flight):
            request.lingers = partial(self._linger, request)
        self._nursery.start_soon(self._settle_in_time, claim, request)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Holds the waits. Cancelled, it lets go of everything; the requests end with the gateway."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    def _claimed(self, name: str) -> Claim | None:
        """The claim on a key; one that is over is settled first, should its own task not have run yet."""
        claim = self._claims.get(name)
        if claim is not None:
            self._settle(claim)
        return self._claims.get(name)

    async def _settle_in_time(self, claim: Claim, request: Request) -> None:
        await request.over()
        self._settle(claim)

    def _settle(self, claim: Claim) -> None:
        """Ends a claim that is over, and keeps the answer for who asks again. A claim that another one has replaced has no say."""
        if claim.over and self._claims.get(claim.name) is claim:
            del self._claims[claim.name]
            answer = claim.outcome()
            if answer is not None:
                self._answers.keep(claim.name, claim.fingerprint, answer)

    def _linger(self, request: Request) -> bool:
        """The client of the request has gone: whether it goes on without it, for now."""
        wait_ms = self._limits.idempotency_wait_ms_max
        if request.id in self._waiting:
            return True
        if self._nursery is None or not wait_ms or len(self._waiting) >= self._limits.idempotency_waiting_max:
            return False
        self._waiting.add(request.id)
        self._nursery.start_soon(self._wait, request, wait_ms / 1000)
        return True

    async def _wait(self, request: Request, seconds: float) -> None:
        try:
            with trio.move_on_after(seconds):
                await request.over()
        finally:
            self._waiting.discard(request.id)
            request.lingers = None
            request.leave()


def _check(known: str, fingerprint: str) -> None:
    if known != fingerprint:
        raise ClientFailure(
            f"This {HEADER} was used for another request. Use a new key for each request, and the same one only to "
            "repeat it unchanged.",
            status=422,
            code="idempotency_key_reused",
            param=HEADER,
        )
