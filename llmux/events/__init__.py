"""Every fact that can be recorded, and the envelope it is recorded in.

A fact is a frozen struct whose fields are integers, strings, booleans, lists and mappings: no floats, no text of prompts or
answers, no keys, no raw output of a provider. Wall times are milliseconds since 1970 UTC (`..._at`, `until`), durations
carry their unit in their name. `type` in the log is the name under which a struct is registered here, never an import path.
"""

from llmux.events.catalogue import TYPES, UPCASTS, Upcast, can_read, canonical, fact_of, type_of
from llmux.events.envelope import Line, NewEvent, Recorded, RecordedEvent
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
from llmux.events.keys import KeyIssued, KeyLimited, KeyLimits, KeyRevoked, KeyRotated
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
    RouteExcluded,
    RouteTaken,
)

__all__ = [
    "TYPES",
    "UPCASTS",
    "ActorCrashed",
    "ActorRestarted",
    "AttemptCancelled",
    "AttemptFailed",
    "AttemptStarted",
    "AttemptSucceeded",
    "CacheCleared",
    "ChainKeyChanged",
    "ContentForgotten",
    "Event",
    "EventSkipped",
    "GatewayStarted",
    "GatewayStopped",
    "KeyIssued",
    "KeyLimited",
    "KeyLimits",
    "KeyRevoked",
    "KeyRotated",
    "Line",
    "LogArchived",
    "LogRestored",
    "LoginExpired",
    "LoginRestored",
    "LossAccepted",
    "NewEvent",
    "ProviderCooled",
    "ProviderIneligible",
    "ProviderRestored",
    "QuotaExhausted",
    "QuotaReported",
    "QuotaReset",
    "Recorded",
    "RecordedEvent",
    "RequestAbandoned",
    "RequestAccepted",
    "RequestCancelled",
    "RequestCompleted",
    "RequestFailed",
    "RequestJoined",
    "RouteExcluded",
    "RouteTaken",
    "SnapshotTaken",
    "Upcast",
    "WorkerLost",
    "can_read",
    "canonical",
    "fact_of",
    "type_of",
]
