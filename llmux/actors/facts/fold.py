"""How one actor's facts follow from events."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from pyrsistent import pmap

from llmux.events import RecordedEvent

Handler = Callable[[Any, RecordedEvent, Any], None]
"""`handler(draft, event, fact)` changes the draft. It reads no clock, chance or configuration, and never raises."""


class Fold(msgspec.Struct, frozen=True):
    """The facts of one actor.

    `empty`     the facts of an empty log: a frozen value
    `thaw`      frozen facts -> mutable draft
    `freeze`    draft -> frozen facts
    `plain`     frozen facts -> what JSON can hold, in a form that depends on the facts alone
    `handlers`  event type -> what it does to the draft; other types do not concern this fold
    """

    empty: Any
    thaw: Callable[[Any], Any]
    freeze: Callable[[Any], Any]
    plain: Callable[[Any], Any]
    handlers: Mapping[str, Handler]


def of_map(handlers: Mapping[str, Handler]) -> Fold:
    """A fold whose facts are one persistent map from text keys to frozen structs; the draft is the map's evolver."""
    return Fold(
        empty=pmap(),
        thaw=lambda facts: facts.evolver(),
        freeze=lambda draft: draft.persistent(),
        plain=lambda facts: {key: msgspec.to_builtins(facts[key]) for key in sorted(facts)},
        handlers=handlers,
    )


def of_struct(empty: msgspec.Struct, handlers: Mapping[str, Handler]) -> Fold:
    """A fold whose facts are one frozen struct; the draft is a dict of its fields."""
    kind = type(empty)
    return Fold(
        empty=empty,
        thaw=msgspec.structs.asdict,
        freeze=lambda draft: kind(**draft),
        plain=msgspec.to_builtins,
        handlers=handlers,
    )
