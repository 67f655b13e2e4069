"""Adds requests up: each is a chain of tries, of which the log knows the outcome of some, and of the others the chances."""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from llmux.actors.simulation.flights import Outcome, RouteName, Try


class Step(msgspec.Struct, frozen=True):
    """One route that a request is tried on. With the outcome "" nobody knows what it would have come to.

    `known`: the log says that it came to this, and took so many attempts.
    """

    route: RouteName
    outcome: Outcome | str = ""
    attempts: int = 1
    known: bool = True


class Chain(msgspec.Struct, frozen=True):
    """The routes of a request in the order of trying, up to the one that certainly ended it. `certain`: this order is recorded."""

    steps: tuple[Step, ...]
    certain: bool = True

    @property
    def known(self) -> bool:
        """Whether the log knows all of it."""
        return self.certain and all(step.known for step in self.steps)


class Batch(msgspec.Struct):
    """All requests with the same chain. `tokens` is what they cost, `free` how many of them the log knows no cost of."""

    requests: int = 0
    tokens: int = 0
    free: int = 0
    durations_ms: Counter[int] = msgspec.field(default_factory=Counter)
    """of the answer that the log knows, where it is in the chain"""


class Chance(msgspec.Struct, frozen=True):
    """What trying a route comes to, going by what it came to so far. The three shares add up to 1."""

    answered: float = 1.0
    failed: float = 0.0
    ended: float = 0.0
    attempts: float = 1.0
    duration_ms: int | None = None
    """median of its answers; None where it has given none"""
    of: str = "route"
    """whose record it is: that of the "route", of the whole "provider", or of nobody ("nothing")"""


class Record(msgspec.Struct):
    """What came of all recorded tries of one route, or of one provider."""

    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    attempts: int = 0
    durations_ms: Counter[int] = msgspec.field(default_factory=Counter)

    def add(self, tried: Try) -> None:
        self.outcomes[tried.outcome] += 1
        self.attempts += tried.attempts
        if tried.outcome == "answered":
            self.durations_ms[_rounded(tried.duration_ms)] += 1

    def chance(self, of: str) -> Chance | None:
        """The shares so far, or None when there is nothing to go by. What nobody waited for to its end counts for neither side."""
        answered, failed, ended = (self.outcomes[name] for name in ("answered", "failed", "ended"))
        ends = answered + failed + ended
        if not ends:
            return None
        tries = ends + self.outcomes["given_up"]
        return Chance(
            answered / ends, failed / ends, ended / ends, self.attempts / tries, median(self.durations_ms), of
        )


class Tally(msgspec.Struct):
    """The sums for one provider. `estimates` names those to which a guess has contributed."""

    requests: float = 0.0
    fallbacks: float = 0.0
    answered: float = 0.0
    failures: float = 0.0
    given_up: float = 0.0
    attempts: float = 0.0
    tokens: float = 0.0
    durations_ms: Counter[int] = msgspec.field(default_factory=Counter)
    estimates: set[str] = msgspec.field(default_factory=set)


class Sums(msgspec.Struct):
    """The sums over all providers, and by provider."""

    requests: int = 0
    answered: float = 0.0
    failed: float = 0.0
    given_up: float = 0.0
    fallbacks: float = 0.0
    estimates: set[str] = msgspec.field(default_factory=set)
    providers: dict[str, Tally] = msgspec.field(default_factory=dict)


class Ledger:
    """Batches of requests with equal chains: its size is that of the different fates there are, not of the requests."""

    def __init__(self) -> None:
        self.batches: dict[Chain, Batch] = {}

    def __repr__(self) -> str:
        return f"<Ledger of {len(self.batches)} chains>"

    def enter(self, chain: Chain, tries: Iterable[Try]) -> None:
        """Adds one request; `tries` are all that the log knows of it."""
        batch = self.batches.get(chain)
        if batch is None:
            batch = self.batches[chain] = Batch()
        batch.requests += 1
        for tried in tries:
            if tried.outcome == "answered":
                batch.tokens += tried.tokens
                batch.durations_ms[_rounded(tried.duration_ms)] += 1
                return
        batch.free += 1

    def sums(self, chances: Mapping[RouteName, Chance], mean_tokens: float) -> Sums:
        """Everything added up. `chances` has every route whose outcome some chain leaves open."""
        sums = Sums()
        for chain, batch in self.batches.items():
            sums.requests += batch.requests
            _walk(sums, chain, batch, chances, mean_tokens)
        return sums


def _walk(sums: Sums, chain: Chain, batch: Batch, chances: Mapping[RouteName, Chance], mean_tokens: float) -> None:
    """Sends a batch down its chain: at each step a part of it is answered, a part ends, and the rest goes on."""
    going: float = batch.requests
    sure = chain.certain
    touched = sums.estimates
    for number, step in enumerate(chain.steps):
        tally = sums.providers.setdefault(step.route[0], Tally())
        chance = _chance(step, chances)
        answered, failed, ended = (going * share for share in (chance.answered, chance.failed, chance.ended))
        given_up = going - answered - failed - ended if step.outcome == "given_up" else 0.0
        if number == 0:
            tally.requests += going
        else:
            tally.fallbacks += going
            sums.fallbacks += going
        _mark(tally.estimates, sure, ("requests",) if number == 0 else ("fallbacks",))
        sure = sure and step.known
        tally.answered += answered
        tally.failures += failed + ended
        tally.given_up += given_up
        tally.attempts += going * chance.attempts
        tally.tokens += answered / batch.requests * (batch.tokens + batch.free * mean_tokens)
        _spread(tally.durations_ms, step, batch, answered, chance.duration_ms)
        _mark(tally.estimates, sure, ("attempts", "failures", "given_up", "answered", "tokens", "median_ms"))
        sums.answered += answered
        sums.failed += ended
        sums.given_up += given_up
        going = failed
        if going <= 0:
            break
    sums.failed += going if chain.steps else batch.requests
    _mark(touched, sure, ("answered", "failed", "given_up", "fallbacks"))


def _chance(step: Step, chances: Mapping[RouteName, Chance]) -> Chance:
    if not step.outcome:
        return chances[step.route]
    answered, failed, ended = (float(step.outcome == name) for name in ("answered", "failed", "ended"))
    return Chance(answered, failed, ended, step.attempts)


def _spread(durations: Counter[int], step: Step, batch: Batch, answered: float, median_ms: int | None) -> None:
    """Adds how long the answers took: as recorded where they are, else as long as the route's median."""
    if not answered:
        return
    if step.known and step.outcome == "answered":
        for duration_ms, count in batch.durations_ms.items():
            durations[duration_ms] += answered / batch.requests * count  # type: ignore[assignment]
    elif median_ms is not None:
        durations[median_ms] += answered  # type: ignore[assignment]


def _mark(estimates: set[str], sure: bool, names: Iterable[str]) -> None:
    if not sure:
        estimates.update(names)


def median(weights: Mapping[int, float]) -> int | None:
    """The value that half of the weight does not exceed, or None for none."""
    half = sum(weights.values()) / 2
    reached = 0.0
    for value in sorted(weights):
        reached += weights[value]
        if reached >= half > 0:
            return value
    return None


def _rounded(duration_ms: int) -> int:
    """The duration to three digits: then a million of them take no more room than some thousands."""
    step: int = 10 ** max(0, len(str(duration_ms)) - 3)
    return duration_ms // step * step
