"""Which request stands for an idempotency key, so that the same order is not carried out twice.

A principal's key is known by an HMAC of it, and stands for its request from its beginning until a day after. One whose request
came to nothing is free again: nothing was given for it, and whoever asks again wants an answer. Several requests of one key can
be open, because a client that asks again joins what is under way: the key stands as long as one of them is open or has completed.
"""

from typing import Any

import msgspec
from pyrsistent import PMap, pmap

from llmux.actors.facts.fold import Draft, Fold, load_map, plain_map
from llmux.events import Recorded, RequestAccepted

KEPT_MS = 24 * 3_600_000
_SWEEP_MS = 3_600_000


class Idempotent(msgspec.Struct, frozen=True):
    """The request that a key stands for, the fingerprint of what it asked, and until when (wall time in ms)."""

    request: str
    fingerprint: str
    until: int


class Idempotency(msgspec.Struct, frozen=True):
    """Keys by `principal/HMAC`, the key of each open request, and when the keys out of time are next removed."""

    keys: PMap[str, Idempotent] = pmap()
    open: PMap[str, str] = pmap()
    sweep_at: int = 0


def key_of(principal: str, idempotency: str) -> str:
    """The name of a principal's key in `Idempotency.keys`."""
    return f"{principal}/{idempotency}"


class _Draft:
    def __init__(self, facts: Idempotency):
        self.keys = Draft(facts.keys)
        self.open: dict[str, str | None] = {}
        self.sweep_at = facts.sweep_at
        self._open = facts.open

    def pop(self, request: str) -> str | None:
        """The key of an open request, which is open no more."""
        if request in self.open:
            found = self.open[request]
        else:
            found = self._open.get(request)
        if found is not None:
            self.open[request] = None
        return found

    def is_open(self, request: str) -> bool:
        """Whether a request that came with a key has not ended."""
        return (self.open[request] if request in self.open else self._open.get(request)) is not None

    def another(self, name: str) -> str | None:
        """An open request that came with this key."""
        return min((each for each, key in {**self._open, **self.open}.items() if key == name), default=None)

    def frozen(self) -> Idempotency:
        evolver = self._open.evolver()
        for request, key in self.open.items():
            if key is not None:
                evolver[request] = key
            elif request in self._open:
                del evolver[request]
        return Idempotency(self.keys.frozen(), evolver.persistent(), self.sweep_at)


def _accepted(draft: _Draft, event: Recorded, fact: RequestAccepted) -> None:
    if not fact.idempotency:
        return
    if event.recorded_at >= draft.sweep_at:
        for name in draft.keys:
            known = draft.keys.get(name)
            if known is not None and known.until <= event.recorded_at:
                draft.keys.drop(name)
        draft.sweep_at = event.recorded_at + _SWEEP_MS
    name = key_of(event.principal, fact.idempotency)
    request = event.correlation_id
    known = draft.keys.get(name)
    if known is None or known.until <= event.recorded_at or known.fingerprint != fact.fingerprint:
        draft.keys.put(name, Idempotent(request, fact.fingerprint, event.recorded_at + KEPT_MS))
    draft.open[request] = name


def _completed(draft: _Draft, event: Recorded, fact: Any) -> None:
    name = draft.pop(event.correlation_id)
    known = draft.keys.get(name) if name is not None else None
    if name is not None and known is not None and draft.is_open(known.request):
        draft.keys.put(name, Idempotent(event.correlation_id, known.fingerprint, known.until))


def _came_to_nothing(draft: _Draft, event: Recorded, fact: Any) -> None:
    name = draft.pop(event.correlation_id)
    known = draft.keys.get(name) if name is not None else None
    if name is not None and known is not None and known.request == event.correlation_id:
        heir = draft.another(name)
        if heir is None:
            draft.keys.drop(name)
        else:
            draft.keys.put(name, Idempotent(heir, known.fingerprint, known.until))


def _plain(facts: Idempotency) -> Any:
    return {"keys": plain_map(facts.keys), "open": dict(sorted(facts.open.items())), "sweep_at": facts.sweep_at}


def _load(plain: Any) -> Idempotency:
    opened = pmap(msgspec.convert(plain["open"], dict[str, str]))
    return Idempotency(load_map(plain["keys"], Idempotent), opened, plain["sweep_at"])


IDEMPOTENCY = Fold(
    empty=Idempotency(),
    thaw=_Draft,
    freeze=_Draft.frozen,
    plain=_plain,
    load=_load,
    handlers={
        "RequestAccepted": _accepted,
        "RequestCompleted": _completed,
        "RequestFailed": _came_to_nothing,
        "RequestCancelled": _came_to_nothing,
        "RequestAbandoned": _came_to_nothing,
    },
)
