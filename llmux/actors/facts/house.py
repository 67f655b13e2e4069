"""All facts of all actors as one frozen value, and the one function that moves it forward."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec
from pyrsistent import PMap

from llmux.actors.facts.fold import Fold, Handler
from llmux.actors.facts.idempotency import IDEMPOTENCY, Idempotency
from llmux.actors.facts.keys import KEYS, Key
from llmux.actors.facts.providers import PROVIDERS, Providers
from llmux.actors.facts.quotas import QUOTAS, Quotas
from llmux.actors.facts.requests import REQUESTS, Requests
from llmux.actors.facts.small import (
    CACHE,
    CONTENT,
    GATEWAY,
    LOG,
    SUPERVISOR,
    CacheFacts,
    Crashes,
    Forgotten,
    Gateway,
    Log,
)
from llmux.actors.facts.usage import USAGE, Spending
from llmux.actors.facts.windows import WINDOWS, Window
from llmux.events import TYPES, Recorded, can_read, fact_of

SCHEMA = 2
"""Counts up when facts mean something else than before: stored states of another number are folded anew.

A new field with a default is no such change; it is, where old events would have given it another value."""

FOLDS: dict[str, Fold] = {
    "gateway": GATEWAY,
    "log": LOG,
    "keys": KEYS,
    "quotas": QUOTAS,
    "providers": PROVIDERS,
    "cache": CACHE,
    "content": CONTENT,
    "requests": REQUESTS,
    "usage": USAGE,
    "windows": WINDOWS,
    "idempotency": IDEMPOTENCY,
    "supervisor": SUPERVISOR,
}


class Facts(msgspec.Struct, frozen=True):
    """Everything that follows from the log up to and including `position` (0 = the empty log)."""

    position: int
    gateway: Gateway
    log: Log
    keys: PMap[str, Key]
    quotas: Quotas
    providers: Providers
    cache: CacheFacts
    content: Forgotten
    requests: Requests
    usage: Spending
    windows: PMap[str, Window]
    idempotency: Idempotency
    supervisor: PMap[str, Crashes]


EMPTY = Facts(position=0, **{name: fold.empty for name, fold in FOLDS.items()})

_HANDLERS: dict[str, list[tuple[str, Handler]]] = {}
for _name, _fold in FOLDS.items():
    for _type, _handler in _fold.handlers.items():
        _HANDLERS.setdefault(_type, []).append((_name, _handler))


_KNOWN: dict[str, tuple[int, Callable[[bytes | str], Any], list[tuple[str, Handler]]]] = {
    type: (cls.schema, msgspec.json.Decoder(cls).decode, _HANDLERS.get(type, [])) for type, cls in TYPES.items()
}
_UNKNOWN: tuple[int, Any, list[tuple[str, Handler]]] = (0, None, [])


def evolve(facts: Facts, events: Iterable[Recorded], skipped: Collection[int] = ()) -> Facts:
    """The facts after `events`, which follow `facts.position` without a gap.

    Total on known events; an event of an unknown type raises UnknownEvent with its position, and nothing has changed then,
    unless its position is among those that somebody has declared `skipped`.
    """
    drafts: dict[str, Any] = {}
    position = facts.position
    for event in events:
        if event.position != position + 1:
            raise ValueError(f"the event at position {event.position} does not follow {position}")
        position = event.position
        schema, decode, handlers = _KNOWN.get(event.type, _UNKNOWN)
        if event.schema == schema:
            fact = decode(event.data)
        elif position in skipped and not can_read(event):
            continue
        else:
            fact = fact_of(event)  # of an older schema; or unknown, which must not pass in silence
        for name, handler in handlers:
            draft = drafts.get(name)
            if draft is None:
                draft = drafts[name] = FOLDS[name].thaw(getattr(facts, name))
            handler(draft, event, fact)
    frozen = {name: FOLDS[name].freeze(draft) for name, draft in drafts.items()}
    return msgspec.structs.replace(facts, position=position, **frozen)


def plain(facts: Facts) -> dict[str, Any]:
    """The facts as JSON can hold them: equal facts give equal text, whatever the hash seed."""
    return {"position": facts.position, **{name: fold.plain(getattr(facts, name)) for name, fold in FOLDS.items()}}


def load(stored: Mapping[str, Any]) -> Facts:
    """The facts that `plain` was given; what was not stored yet is empty. Raises ValueError for what is no such value."""
    try:
        loaded = {name: fold.load(stored[name]) for name, fold in FOLDS.items() if name in stored}
        return msgspec.structs.replace(EMPTY, position=msgspec.convert(stored["position"], int), **loaded)
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"these are no facts: {type(error).__name__}") from error
