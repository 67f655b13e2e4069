"""Every type of event by its name in the log, and how an older form of one becomes the present one."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from llmux.events.event import Event
from llmux.events.gateway import (
    ActorCrashed,
    ActorRestarted,
    CacheCleared,
    ChainKeyChanged,
    ContentForgotten,
    EventSkipped,
    GatewayStarted,
    GatewayStopped,
    LogArchived,
    LogRestored,
    LossAccepted,
    SnapshotTaken,
)
from llmux.events.keys import KeyIssued, KeyLimited, KeyRevoked, KeyRotated
from llmux.events.providers import LoginExpired, LoginRestored, ProviderIneligible, WorkerLost
from llmux.events.quotas import ProviderCooled, ProviderRestored, QuotaExhausted, QuotaReported, QuotaReset
from llmux.events.requests import (
    AttemptCancelled,
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    RequestAbandoned,
    RequestAccepted,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
    RequestJoined,
)
from llmux.failures import UnknownEvent

if TYPE_CHECKING:
    from llmux.events.envelope import Recorded

TYPES: dict[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        GatewayStarted, GatewayStopped, ActorCrashed, ActorRestarted,
        SnapshotTaken, LogArchived, EventSkipped, LogRestored, ChainKeyChanged, LossAccepted,
        ContentForgotten,
        KeyIssued, KeyLimited, KeyRotated, KeyRevoked,
        QuotaReported, QuotaExhausted, ProviderCooled, ProviderRestored, QuotaReset,
        CacheCleared,
        LoginExpired, LoginRestored, ProviderIneligible, WorkerLost,
        RequestAccepted, RequestJoined, RequestCompleted, RequestFailed, RequestCancelled, RequestAbandoned,
        AttemptStarted, AttemptSucceeded, AttemptFailed, AttemptCancelled,
    )
}  # fmt: skip
"""The name in the log -> the struct. Names stay for ever; a renamed class keeps its old name here."""

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
"""A pure function from the fields of an event of one schema to those of the next."""


def _accepted_1_to_2(fields: dict[str, Any]) -> dict[str, Any]:
    """Routes were objects, whose fields could be left out where they had their default."""
    return {
        **fields,
        "candidates": [[r["provider"], r["account"], r["model"], r["weight"]] for r in fields["candidates"]],
        "exclusions": [
            [r["provider"], r["account"], r["model"], r["reason"], r.get("until")] for r in fields["exclusions"]
        ],
    }


UPCASTS: dict[tuple[str, int], Upcast] = {("RequestAccepted", 1): _accepted_1_to_2}
"""(type, schema) -> the step to the next schema. Each is kept for ever, with a log in tests/golden that needs it."""

_NAMES = {cls: name for name, cls in TYPES.items()}
_READERS = {name: (cls.schema, msgspec.json.Decoder(cls), cls) for name, cls in TYPES.items()}
_ENCODER = msgspec.json.Encoder(order="sorted")


def can_read(event: "Recorded") -> bool:
    """Whether this version knows the event's type and schema."""
    known = _READERS.get(event.type)
    return known is not None and 1 <= event.schema <= known[0]


def fact_of(event: "Recorded") -> Event:
    """The fact in a recorded event, decoded anew at each call and brought to the present schema. Raises UnknownEvent."""
    if not can_read(event):
        raise UnknownEvent(event.position, event.type, event.schema)
    newest, decoder, cls = _READERS[event.type]
    if event.schema == newest:
        return decoder.decode(event.data)
    fields = msgspec.json.decode(event.data)
    for schema in range(event.schema, newest):
        fields = UPCASTS[event.type, schema](fields)
    return msgspec.convert(fields, cls)


def type_of(fact: Event) -> str:
    """The name under which the log records `fact`."""
    return _NAMES[type(fact)]


def canonical(fact: Event) -> bytes:
    """The fact as JSON in the one form that is hashed: sorted keys, no blanks, UTF-8."""
    return _ENCODER.encode(fact)
