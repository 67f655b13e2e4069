"""Holds keys to their limits: claims for each request what it may take, until the log says what it took.

The facts lag behind by one commit, so what is claimed counts too. A claim is made at once, without a mailbox and without the
disk; it goes piece by piece as the facts take over: the request when it is accepted, the tokens when the answer is there, the
place among the open requests at the end. Whatever never reaches the log is given back when nothing more is done for it.
"""

from collections.abc import Iterable

import msgspec

from llmux.actors.allowance import EVERYTHING, Allowance, allowance_of
from llmux.actors.facts.windows import Window, rolled
from llmux.actors.journal import Journal
from llmux.actors.measures import Held, Measure, measures_of
from llmux.actors.messages import Principal, Wish
from llmux.actors.refusals import Short, refusal, too_many_open
from llmux.actors.reservations import reservation_of
from llmux.clock import Clock
from llmux.config import Settings
from llmux.events import KeyLimits, RecordedEvent

_ENDS = frozenset({"RequestCompleted", "RequestFailed", "RequestCancelled"})
_ATTEMPT_ENDS = frozenset({"AttemptSucceeded", "AttemptFailed", "AttemptCancelled"})


class LimiterStatistics(msgspec.Struct, frozen=True):
    """What is claimed at present: by how many keys, for how many open requests, of them how many that the log does not know
    yet, and how many tokens. All are 0 when nothing is open.
    """

    keys: int
    open: int
    requests: int
    tokens: int


class _Claim(msgspec.Struct):
    """What is held for one request; each piece is given back once."""

    key: str
    tokens: int
    request: bool = True
    open: bool = True
    landed: bool = False
    """its flight is over, and the log is owed how its attempt ended"""


class Limiter:
    """Claims and gives back. It concerns keys that were issued: nobody else has limits."""

    def __init__(self, journal: Journal, settings: Settings, clock: Clock):
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._claims: dict[str, _Claim] = {}
        """by request"""
        self._held: dict[str, Held] = {}
        """by key: the sums of its claims"""
        self._allowances: dict[str, tuple[KeyLimits, Allowance]] = {}
        journal.watch(self.observe)

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<Limiter keys={now.keys} open={now.open} requests={now.requests} tokens={now.tokens}>"

    def statistics(self) -> LimiterStatistics:
        held = self._held.values()
        requests, tokens = sum(each.requests for each in held), sum(each.tokens for each in held)
        return LimiterStatistics(len(held), sum(each.open for each in held), requests, tokens)

    # --- what a key may -----------------------------------------------------------------------------------------------

    def allowance(self, principal: Principal) -> Allowance:
        """Which models and providers this principal may ask for."""
        key = self._journal.facts.keys.get(principal.id)
        if key is None:
            return EVERYTHING
        known = self._allowances.get(key.id)
        if known is None or known[0] is not key.limits:
            known = self._allowances[key.id] = (key.limits, allowance_of(key.limits, self._settings))
        return known[1]

    def measures(self, principal: Principal) -> tuple[Measure, ...]:
        """How much of each of its limits by time this principal has used; () for one without limits."""
        key = self._journal.facts.keys.get(principal.id)
        return () if key is None else self._measures(key.id, key.limits, self._clock.now())

    def _measures(self, key_id: str, limits: KeyLimits, now: int) -> tuple[Measure, ...]:
        window = rolled(self._journal.facts.windows.get(key_id) or Window(), now)
        return measures_of(limits, window, self._held.get(key_id) or Held())

    # --- claims -------------------------------------------------------------------------------------------------------

    def claim(self, id: str, wish: Wish, *, generates: bool) -> None:
        """Claims what the request `id` may take: one request, a place among the open ones, and tokens if it `generates` an
        answer of its own. Raises LimitReached; then nothing is claimed.
        """
        key = self._journal.facts.keys.get(wish.principal.id)
        if key is None:
            return
        now, limits = self._clock.now(), key.limits
        measures = self._measures(key.id, limits, now)
        tokens = 0
        short = [Short(each, 1) for each in measures if each.unit == "requests" and each.used(now) >= each.limit]
        budgets = [each for each in measures if each.unit == "tokens"] if generates else []
        if budgets:
            wanted = reservation_of(wish.prompt)
            left = min(each.left(now) for each in budgets)
            tokens = wanted.within(left)
            short += [Short(each, wanted.least) for each in budgets if each.used(now) + wanted.least > each.limit]
        if short:
            raise refusal(short, now)
        held = self._held.get(key.id)
        if limits.concurrent_requests is not None and (held.open if held else 0) >= limits.concurrent_requests:
            raise too_many_open(limits.concurrent_requests)
        if held is None:
            held = self._held[key.id] = Held()
        held.requests, held.open, held.tokens = held.requests + 1, held.open + 1, held.tokens + tokens
        self._claims[id] = _Claim(key.id, tokens)

    def held_for(self, id: str) -> int:
        """How many tokens are held for this request."""
        claim = self._claims.get(id)
        return claim.tokens if claim is not None else 0

    def observe(self, recorded: Iterable[RecordedEvent]) -> None:
        """The journal has committed these events: what the facts count now is no longer claimed."""
        if not self._claims:
            return
        for event in recorded:
            claim = self._claims.get(event.correlation_id)
            if claim is None:
                continue
            self._give_back(
                event.correlation_id,
                claim,
                request=event.type == "RequestAccepted",
                tokens=event.type == "AttemptSucceeded" or (claim.landed and event.type in _ATTEMPT_ENDS),
                open=event.type in _ENDS,
            )

    def over(self, id: str) -> None:
        """Nothing more is done for the request `id`, or by its flight: only what the log is still owed stays claimed."""
        claim = self._claims.get(id)
        if claim is not None:
            requests = self._journal.facts.requests
            claim.landed, known = True, id in requests.open
            self._give_back(id, claim, request=True, tokens=id not in requests.attempts, open=not known)

    def _give_back(self, id: str, claim: _Claim, *, request: bool, tokens: bool, open: bool) -> None:
        held = self._held[claim.key]
        if request and claim.request:
            claim.request = False
            held.requests -= 1
        if tokens and claim.tokens:
            held.tokens -= claim.tokens
            claim.tokens = 0
        if open and claim.open:
            claim.open = False
            held.open -= 1
        if not (claim.request or claim.open or claim.tokens):
            del self._claims[id]
            if not (held.requests or held.open or held.tokens):
                del self._held[claim.key]
