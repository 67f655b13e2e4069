"""The requests that are open, the attempts that are under way, and how many requests ended how."""

from typing import Any

import msgspec
from pyrsistent import PMap, pmap

from llmux.actors.facts.fold import Draft, Fold, Handler, load_map, plain_map
from llmux.events import AttemptStarted, Recorded, RequestAccepted


class OpenRequest(msgspec.Struct, frozen=True):
    """A request without its terminal fact."""

    principal: str
    endpoint: str
    flight: str
    accepted_at: int
    reserved_tokens: int


class OpenAttempt(msgspec.Struct, frozen=True):
    """The attempt that a flight is making. `request` is the request that started the flight."""

    request: str
    number: int
    provider: str
    account: str
    model: str
    started_at: int


class Requests(msgspec.Struct, frozen=True):
    """Open requests by id, open attempts by flight, and counts of the ended ones."""

    open: PMap[str, OpenRequest] = pmap()
    attempts: PMap[str, OpenAttempt] = pmap()
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    abandoned: int = 0


class _Draft:
    def __init__(self, facts: Requests):
        self.open = Draft(facts.open)
        self.attempts = Draft(facts.attempts)
        self.counts = {name: getattr(facts, name) for name in _COUNTS}

    def frozen(self) -> Requests:
        return Requests(self.open.frozen(), self.attempts.frozen(), **self.counts)


_COUNTS = ("completed", "failed", "cancelled", "abandoned")


def flight_of(event: Recorded, fact: RequestAccepted) -> str:
    """The id of the flight that answers the request; "" when the answer came from the cache."""
    return fact.flight or ("" if fact.cache == "hit" else event.correlation_id)


def _accepted(draft: _Draft, event: Recorded, fact: RequestAccepted) -> None:
    request = OpenRequest(
        event.principal, fact.endpoint, flight_of(event, fact), event.recorded_at, fact.reserved_tokens
    )
    draft.open.put(event.correlation_id, request)


def _ends_as(count: str) -> Handler:
    def ended(draft: _Draft, event: Recorded, fact: Any) -> None:
        if count == "abandoned":
            request = draft.open.get(event.correlation_id)
            draft.attempts.drop(request.flight if request is not None else "")
        draft.open.drop(event.correlation_id)
        draft.counts[count] += 1

    return ended


def _flight(event: Recorded) -> str:
    return event.stream.partition("-")[2]


def _started(draft: _Draft, event: Recorded, fact: AttemptStarted) -> None:
    attempt = OpenAttempt(event.correlation_id, fact.number, fact.provider, fact.account, fact.model, event.recorded_at)
    draft.attempts.put(_flight(event), attempt)


def _attempt_ended(draft: _Draft, event: Recorded, fact: Any) -> None:
    draft.attempts.drop(_flight(event))


def _plain(facts: Requests) -> Any:
    counts = {name: getattr(facts, name) for name in _COUNTS}
    return {**counts, "open": plain_map(facts.open), "attempts": plain_map(facts.attempts)}


def _load(plain: Any) -> Requests:
    counts = {name: plain.get(name, 0) for name in _COUNTS}
    return Requests(load_map(plain["open"], OpenRequest), load_map(plain["attempts"], OpenAttempt), **counts)


REQUESTS = Fold(
    empty=Requests(),
    thaw=_Draft,
    freeze=_Draft.frozen,
    plain=_plain,
    load=_load,
    handlers={
        "RequestAccepted": _accepted,
        "RequestCompleted": _ends_as("completed"),
        "RequestFailed": _ends_as("failed"),
        "RequestCancelled": _ends_as("cancelled"),
        "RequestAbandoned": _ends_as("abandoned"),
        "AttemptStarted": _started,
        "AttemptSucceeded": _attempt_ended,
        "AttemptFailed": _attempt_ended,
        "AttemptCancelled": _attempt_ended,
    },
)
