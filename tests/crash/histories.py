"""Random histories: any events in any order, also such as no gateway would record.

Every type that can be recorded occurs, with values made from the types of its fields, so that a new one needs nothing here.
"""

import random
import uuid
from typing import Any

from msgspec import inspect

from llmux.events import TYPES, Event, NewEvent
from llmux.prompts import Usage
from tests.actors.test_facts import FACTS

WORDS = ("alpha", "beta", "gamma")
IDS = ("r1", "r2", "r3", "r4")
MODELS = ("m", "*", "n")
_POOLS = {"model": MODELS, "provider": WORDS, "account": ("default", "work"), "cache": ("hit", "miss", "off")}
_CATEGORIES = {cls: category for category, cls, _ in FACTS}
_FIELDS = {cls: inspect.type_info(cls).fields for cls in TYPES.values()}
STARTED_AT = 1_790_000_000_000
DAY_MS = 86_400_000


def history(seed: int, events_max: int = 40) -> list[NewEvent]:
    """The same seed gives the same history, in every process."""
    chance = random.Random(seed)
    kinds = sorted(TYPES)
    if chance.random() < 0.5:  # events of a few kinds meet each other more often
        kinds = chance.sample(kinds, chance.randint(2, 8))
    return [_event(chance, TYPES[chance.choice(kinds)]) for _ in range(chance.randint(1, events_max))]


def _event(chance: random.Random, kind: type[Event]) -> NewEvent:
    id, category = chance.choice(IDS), _CATEGORIES[kind]
    fact = kind(**{field.name: _value(chance, field.name, field.type) for field in _FIELDS[kind]})
    alone = category in ("gateway", "cache", "content") or "-" in category
    stream = category if alone else f"{category}-{id}"
    event_id = str(uuid.UUID(int=chance.getrandbits(128)))
    return NewEvent(stream, fact, event_id, chance.choice((*IDS, "local")), id, "")


def _value(chance: random.Random, name: str, kind: Any) -> Any:
    match kind:
        case inspect.UnionType():
            return _value(chance, name, chance.choice(kind.types))
        case inspect.NoneType():
            return None
        case inspect.BoolType():
            return chance.random() < 0.5
        case inspect.IntType():
            return _number(chance, name)
        case inspect.StrType() | inspect.LiteralType():
            return chance.choice(_POOLS.get(name, IDS))
        case inspect.ListType():
            return [_value(chance, name, kind.item_type) for _ in range(chance.randint(0, 2))]
        case inspect.DictType():
            return {}
        case inspect.StructType() if kind.cls is Usage:
            return Usage(input_tokens=chance.randrange(100), output_tokens=chance.randrange(100))
        case inspect.StructType():
            return kind.cls(**{field.name: _value(chance, field.name, field.type) for field in kind.fields})
    raise AssertionError(f"no values for {name}: {kind}")


def _number(chance: random.Random, name: str) -> int:
    if name.endswith("percent"):
        return chance.randint(0, 100)
    if name.endswith("_at") or name in ("until", "before"):
        return STARTED_AT + chance.randrange(-DAY_MS, 3 * DAY_MS)
    return chance.randint(0, 9)


class Times:
    """A clock whose days pass quickly, and now and then backwards: the same ones in every process."""

    def __init__(self, seed: int):
        self._chance = random.Random(seed)
        self._now = STARTED_AT

    def now(self) -> int:
        self._now += self._chance.choice((0, 1, 1000, DAY_MS // 3, -5000))
        return self._now
