"""An event of every type with every field set to something that is not its default, made from the types of the fields."""

import types
import typing
from collections.abc import Mapping
from typing import Any

import msgspec

from llmux.events import TYPES, Event, NewEvent, type_of
from tests.actors.test_facts import FACTS

CATEGORIES = {kind: category for category, kind, _ in FACTS}
_WITHOUT_ID = ("gateway", "cache", "content")


def examples(new_ids: typing.Callable[[], str]) -> list[NewEvent]:
    """One event of every type, in an order that is always the same, each in a stream of its kind and of its own request."""
    return [_recordable(example(TYPES[name], name), new_ids()) for name in sorted(TYPES)]


def example(kind: type[Any], text: str) -> Any:
    """A struct of this kind, no field of which has its default. `text` makes it different from others."""
    hints = typing.get_type_hints(kind)
    return kind(**{name: _value(hints[name], f"{text}-{name}") for name in kind.__struct_fields__})


def _value(hint: Any, text: str) -> Any:
    """A value of a type that events have: whole numbers, text, truth, lists, mappings, and structs of them."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _value(next(each for each in inner if each is not type(None)), text)
    if origin is list:
        return [_value(inner[0], f"{text}-{number}") for number in range(2)]
    if origin is Mapping:
        return {"text": text, "number": 1}
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return example(hint, text)
    if hint is bool:
        return True
    if hint is int:
        return 100_000 + sum(text.encode())
    if hint is str:
        return text
    raise TypeError(f"no example is known for a field of type {hint}")


def _recordable(fact: Event, event_id: str) -> NewEvent:
    name = type_of(fact)
    category = CATEGORIES[type(fact)]
    stream = category if category in _WITHOUT_ID or "-" in category else f"{category}-example-{name}"
    return NewEvent(stream, fact, event_id, "example", f"example-{name}", f"cause-of-{name}")
