"""All facts of all actors as one frozen value, and the one function that moves it forward."""

from collections.abc import Iterable
from typing import Any

import msgspec
from pyrsistent import PMap

from llmux.actors.facts.fold import Fold, Handler
from llmux.actors.facts.keys import KEYS, Key
from llmux.actors.facts.providers import PROVIDERS, Providers
from llmux.actors.facts.quotas import QUOTAS, Quotas
from llmux.actors.facts.requests import REQUESTS, Requests
from llmux.actors.facts.small import CACHE, GATEWAY, SUPERVISOR, CacheFacts, Crashes, Gateway
from llmux.events import RecordedEvent

FOLDS: dict[str, Fold] = {
    "gateway": GATEWAY,
    "keys": KEYS,
    "quotas": QUOTAS,
    "providers": PROVIDERS,
    "cache": CACHE,
    "requests": REQUESTS,
    "supervisor": SUPERVISOR,
}


class Facts(msgspec.Struct, frozen=True):
    """Everything that follows from the log up to and including `position` (0 = the empty log)."""

    position: int
    gateway: Gateway
    keys: PMap[str, Key]
    quotas: Quotas
    providers: Providers
    cache: CacheFacts
    requests: Requests
    supervisor: PMap[str, Crashes]


EMPTY = Facts(position=0, **{name: fold.empty for name, fold in FOLDS.items()})

_HANDLERS: dict[str, list[tuple[str, Handler]]] = {}
for _name, _fold in FOLDS.items():
    for _type, _handler in _fold.handlers.items():
        _HANDLERS.setdefault(_type, []).append((_name, _handler))


def evolve(facts: Facts, events: Iterable[RecordedEvent]) -> Facts:
    """The facts after `events`, which follow `facts.position` without a gap.

    Total on known events; an event of an unknown type raises UnknownEvent with its position, and nothing has changed then.
    """
    drafts: dict[str, Any] = {}
    position = facts.position
    for event in events:
        if event.position != position + 1:
            raise ValueError(f"the event at position {event.position} does not follow {position}")
        position = event.position
        handlers = _HANDLERS.get(event.type)
        fact = event.fact  # also where nobody handles it: an unknown event must not pass in silence
        for name, handler in handlers or ():
            if name not in drafts:
                drafts[name] = FOLDS[name].thaw(getattr(facts, name))
            handler(drafts[name], event, fact)
    frozen = {name: FOLDS[name].freeze(draft) for name, draft in drafts.items()}
    return msgspec.structs.replace(facts, position=position, **frozen)


def plain(facts: Facts) -> dict[str, Any]:
    """The facts as JSON can hold them: equal facts give equal text, whatever the hash seed."""
    return {"position": facts.position, **{name: fold.plain(getattr(facts, name)) for name, fold in FOLDS.items()}}
