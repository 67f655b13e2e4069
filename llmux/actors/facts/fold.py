"""How one actor's facts follow from events: a draft that handlers change, frozen once per batch."""

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import Any, Generic, TypeVar

import msgspec
from pyrsistent import PMap, pmap

from llmux.events import Recorded

S = TypeVar("S", bound=msgspec.Struct)
Handler = Callable[[Any, Recorded, Any], None]
"""`handler(draft, event, fact)` changes the draft. It reads no clock, chance or configuration, and never raises."""

change = msgspec.structs.force_setattr
"""Sets a field of a struct that only a draft knows (`Draft.own`); what is published is never changed."""

_GONE: Any = object()


class Draft(Generic[S]):
    """A persistent map of structs with changes on top, as cheap as a dict.

    Only what is different in the end goes into the map: a request that opens and ends within a batch costs it nothing.
    """

    __slots__ = ("_base", "_changes")

    def __init__(self, base: PMap[str, S]):
        self._base = base
        self._changes: dict[str, S] = {}

    def get(self, key: str) -> S | None:
        """The struct under `key`, for reading only."""
        found = self._changes.get(key)
        if found is None:
            return self._base.get(key)
        return None if found is _GONE else found

    def own(self, key: str) -> S | None:
        """The struct under `key`, which `change` may change; None when there is none."""
        found = self._changes.get(key)
        if found is None:
            published = self._base.get(key)
            if published is None:
                return None
            found = self._changes[key] = copy(published)
        return None if found is _GONE else found

    def put(self, key: str, value: S) -> S:
        """Sets what is under `key`; `value` is the draft's own from now on."""
        self._changes[key] = value
        return value

    def drop(self, key: str) -> None:
        """Removes what is under `key`, if there is anything."""
        if len(self._base) and key in self._base:
            self._changes[key] = _GONE
        else:
            self._changes.pop(key, None)

    def __iter__(self) -> Iterator[str]:
        """All keys, in no order that means anything; the draft may be changed meanwhile."""
        return iter([key for key in {**self._base, **self._changes} if self.get(key) is not None])

    def frozen(self) -> PMap[str, S]:
        """The map with all changes. The draft is not used any more."""
        evolver = self._base.evolver()
        for key, value in self._changes.items():
            if value is _GONE:
                del evolver[key]
            else:
                evolver[key] = value
        return evolver.persistent()


class Fold(msgspec.Struct, frozen=True):
    """The facts of one actor.

    `empty`     the facts of an empty log: a frozen value
    `thaw`      frozen facts -> mutable draft
    `freeze`    draft -> frozen facts
    `plain`     frozen facts -> what JSON can hold, in a form that depends on the facts alone
    `load`      what `plain` gave -> the same frozen facts; a field that is missing has its default
    `handlers`  event type -> what it does to the draft; other types do not concern this fold
    """

    empty: Any
    thaw: Callable[[Any], Any]
    freeze: Callable[[Any], Any]
    plain: Callable[[Any], Any]
    load: Callable[[Any], Any]
    handlers: Mapping[str, Handler]


def of_map(kind: type[msgspec.Struct], handlers: Mapping[str, Handler]) -> Fold:
    """A fold whose facts are one persistent map from text keys to frozen structs of a kind; the draft is a `Draft`."""
    return Fold(
        empty=pmap(),
        thaw=Draft,
        freeze=Draft.frozen,
        plain=plain_map,
        load=lambda plain: load_map(plain, kind),
        handlers=handlers,
    )


def of_struct(empty: msgspec.Struct, handlers: Mapping[str, Handler]) -> Fold:
    """A fold whose facts are one frozen struct; the draft is a copy of it, for `change`."""
    kind = type(empty)
    return Fold(
        empty=empty,
        thaw=copy,
        freeze=lambda draft: draft,
        plain=msgspec.to_builtins,
        load=lambda plain: msgspec.convert(plain, kind),
        handlers=handlers,
    )


def plain_map(facts: PMap[str, Any]) -> dict[str, Any]:
    """A map of structs as JSON can hold it, sorted by key."""
    return {key: msgspec.to_builtins(facts[key]) for key in sorted(facts)}


def load_map(plain: Mapping[str, Any], kind: type[S]) -> PMap[str, S]:
    """The map that `plain_map` was given."""
    return pmap(msgspec.convert(plain, dict[str, kind]))  # type: ignore[valid-type]
