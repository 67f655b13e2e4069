"""The requests that are open, the attempts that are under way, and how many requests ended how."""

from typing import Any

import msgspec
from pyrsistent import PMap, pmap

from llmux.actors.facts.fold import Fold
from llmux.events import (
    AttemptStarted,
    RecordedEvent,
    RequestAccepted,
)


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
        self.open: Any = facts.open.evolver()
        self.attempts: Any = facts.attempts.evolver()
        self.counts = {name: getattr(facts, name) for name in ("completed", "failed", "cancelled", "abandoned")}

    def frozen(self) -> Requests:
        return Requests(self.open.persistent(), self.attempts.persistent(), **self.counts)


def _accepted(draft: _Draft, event: RecordedEvent, fact: RequestAccepted) -> None:
    flight = fact.flight or ("" if fact.cache == "hit" else event.correlation_id)
    draft.open[event.correlation_id] = OpenRequest(
        event.principal, fact.endpoint, flight, event.recorded_at, fact.reserved_tokens
    )


def _ends_as(count: str) -> Any:
    def ended(draft: _Draft, event: RecordedEvent, fact: Any) -> None:
        if event.correlation_id in draft.open:
            flight = draft.open[event.correlation_id].flight
            if count == "abandoned" and flight in draft.attempts:
                del draft.attempts[flight]
            del draft.open[event.correlation_id]
        draft.counts[count] += 1

    return ended


def _started(draft: _Draft, event: RecordedEvent, fact: AttemptStarted) -> None:
    flight = event.stream.partition("-")[2]
    draft.attempts[flight] = OpenAttempt(
        event.correlation_id, fact.number, fact.provider, fact.account, fact.model, event.recorded_at
    )


def _attempt_ended(draft: _Draft, event: RecordedEvent, fact: Any) -> None:
    flight = event.stream.partition("-")[2]
    if flight in draft.attempts:
        del draft.attempts[flight]


def _plain(facts: Requests) -> Any:
    return {
        **{name: getattr(facts, name) for name in ("completed", "failed", "cancelled", "abandoned")},
        "open": {key: msgspec.to_builtins(facts.open[key]) for key in sorted(facts.open)},
        "attempts": {key: msgspec.to_builtins(facts.attempts[key]) for key in sorted(facts.attempts)},
    }


REQUESTS = Fold(
    empty=Requests(),
    thaw=_Draft,
    freeze=_Draft.frozen,
    plain=_plain,
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
