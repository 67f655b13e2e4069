"""Follows the requests of a log until they are over, and tells what each route that was tried came to."""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from llmux.events import (
    AttemptFailed,
    AttemptSucceeded,
    Event,
    Recorded,
    RequestAbandoned,
    RequestAccepted,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
    RequestJoined,
)
from llmux.failures import POLICIES, Kind

RouteName = tuple[str, str, str]
"""provider, account, model"""
Outcome = Literal["answered", "failed", "ended", "given_up"]
"""`failed`: another route may be tried; `ended`: the request failed with it; `given_up`: nobody waited any more"""

Ended = RequestCompleted | RequestFailed | RequestCancelled | RequestAbandoned


class Try(msgspec.Struct):
    """A route that was tried, once or several times. `outcome`, `duration_ms` and `tokens` are those of the last time."""

    attempts: int = 0
    outcome: Outcome = "given_up"
    kind: str = ""
    duration_ms: int = 0
    tokens: int = 0


class Flight(msgspec.Struct):
    """A request of its own: how it was routed, and what came of it. `counted`: it is inside the window.

    `order` is the order of its routes in the simulation; `certain`: of the very candidates that the log has. `failing` are
    routes that only the simulation's rules brought back, and that are taken to fail.
    """

    accepted: RequestAccepted
    counted: bool
    order: tuple[RouteName, ...]
    certain: bool
    failing: frozenset[RouteName] = frozenset()
    tries: dict[RouteName, Try] = {}
    """in the order of the first attempts"""
    waiting: int = 1
    end: Ended | None = None

    @property
    def skipped(self) -> set[RouteName]:
        """The candidates that were passed over, because they had begun to rest after the routing."""
        names = [(each.provider, each.account, each.model) for each in self.accepted.candidates]
        if self.exhausted:
            return set(names).difference(self.tries)
        last = max((index for index, name in enumerate(names) if name in self.tries), default=0)
        return set(names[:last]).difference(self.tries)

    @property
    def exhausted(self) -> bool:
        """Whether it failed because no candidate was left, and not because of time, the gateway or the store."""
        if not isinstance(self.end, RequestFailed) or self.end.blame not in ("provider", "client"):
            return False
        if not self.tries:
            return self.end.code != _TIMEOUT
        last = self._last
        return last.outcome == "failed" and (self.end.code != _TIMEOUT or last.kind == Kind.TIMED_OUT)

    @property
    def was_given_up(self) -> bool:
        """Whether nobody waited for its end."""
        return bool(self.tries) and self._last.outcome == "given_up"

    @property
    def _last(self) -> Try:
        return self.tries[next(reversed(self.tries))]

    def over(self) -> None:
        """Called at its end: a failure that could have led on, and did not, was the last word."""
        if self.tries and self._last.outcome == "failed" and not self.exhausted:
            failed = isinstance(self.end, RequestFailed)
            self._last.outcome = "ended" if failed else "given_up"


class Flights:
    """The requests under way at one point of the log. It holds no more than these."""

    def __init__(self) -> None:
        self.open: dict[str, Flight] = {}
        """by the id of the request that started it"""
        self._owner: dict[str, str] = {}
        """id of a flight -> the request that started it; in logs of the first version these are different"""
        self._joined: dict[str, str] = {}
        """request that shares a flight -> the request that started it"""

    def __repr__(self) -> str:
        return f"<Flights {len(self.open)} open, {len(self._joined)} joined>"

    def accept(self, event: Recorded, flight: Flight) -> None:
        """A request was accepted that is not answered from the cache."""
        id = event.correlation_id
        self.open[id] = flight
        self._owner.setdefault(flight.accepted.flight or id, id)

    def join(self, event: Recorded, fact: RequestJoined) -> bool:
        """An accepted request turns out to share a flight. Returns whether it is inside the window."""
        id = event.correlation_id
        mine = self.open.pop(id, None)
        if self._owner.get(fact.flight) == id:  # that flight was over already
            del self._owner[fact.flight]
        owner = self._owner.get(fact.flight, "")
        if owner in self.open:
            self._joined[id] = owner
            self.open[owner].waiting += 1
        return mine is not None and mine.counted

    def attempt(self, event: Recorded, fact: Any) -> None:
        """An attempt began (AttemptStarted) or ended."""
        flight = self.open.get(event.correlation_id)
        if flight is None:
            return  # it began before the first event there is
        name = (fact.provider, fact.account, fact.model)
        tried = flight.tries.get(name)
        if tried is None:
            tried = flight.tries[name] = Try()
        if event.type == "AttemptStarted":
            tried.attempts += 1
            tried.outcome = "given_up"  # until it is known to have ended otherwise
            return
        tried.duration_ms = fact.duration_ms
        if isinstance(fact, AttemptSucceeded):
            tried.outcome, tried.tokens = "answered", fact.usage.total_tokens
        elif isinstance(fact, AttemptFailed):
            tried.outcome, tried.kind = ("failed" if _leads_on(fact) else "ended"), fact.kind

    def end(self, event: Recorded, fact: Event) -> Flight | None:
        """A request ended. Returns its flight when nobody waits for that any more."""
        assert isinstance(fact, Ended)
        id = event.correlation_id
        owner = self._joined.pop(id, id)
        flight = self.open.get(owner)
        if flight is None:
            return None
        flight.waiting -= 1
        if flight.end is None or _WEIGHT[type(fact)] >= _WEIGHT[type(flight.end)]:
            flight.end = fact
        if flight.waiting > 0:
            return None
        del self.open[owner]
        self._owner.pop(flight.accepted.flight or owner, None)
        flight.over()
        return flight

    def left(self) -> Iterator[Flight]:
        """Those that are still open."""
        return iter(self.open.values())


_TIMEOUT = POLICIES[Kind.TIMED_OUT].code
_FINAL = frozenset(kind.value for kind, policy in POLICIES.items() if not policy.falls_back)
_WEIGHT: dict[type, int] = {RequestCompleted: 3, RequestFailed: 2, RequestCancelled: 1, RequestAbandoned: 0}
"""of several requests that shared a flight, the end that tells most about it"""


def _leads_on(failure: AttemptFailed) -> bool:
    """Whether the gateway tries another route after this: nothing was passed on, it is worth it, and there is time."""
    return failure.kind not in _FINAL and failure.chunks == 0 and failure.evidence != "gateway.total"
