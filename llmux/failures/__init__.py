"""Everything that can go wrong, one class per blame, and the one table of what a provider's failure leads to.

An exception's text is a sentence for a person. It never holds a prompt, an answer, a key or a provider's raw output.
"""

from llmux.failures.client import (
    AnswerUnavailable,
    ClientFailure,
    KeyClosed,
    LimitReached,
    ModelNotAllowed,
    ModelUnknown,
    ProviderUnknown,
)
from llmux.failures.error import LLMuxError, printable
from llmux.failures.gateway import (
    CANNOT_EMBED,
    NOT_ALLOWED,
    ActorCrashed,
    AskTimedOut,
    ConfigurationWrong,
    Excluded,
    GatewayFailure,
    NoRoute,
    Overloaded,
    ShuttingDown,
)
from llmux.failures.provider import POLICIES, Kind, Policy, ProviderFailure
from llmux.failures.store import (
    ArchiveMissing,
    ChainKeyWrong,
    DirectoryInUse,
    EventIdReused,
    EventMalformed,
    LogDamaged,
    OutcomeUnknown,
    SchemaUnknown,
    StoreFailure,
    StoreFull,
    TailMissing,
    UnknownEvent,
    WrongExpectedVersion,
)

__all__ = [
    "CANNOT_EMBED",
    "NOT_ALLOWED",
    "POLICIES",
    "ActorCrashed",
    "AnswerUnavailable",
    "ArchiveMissing",
    "AskTimedOut",
    "ChainKeyWrong",
    "ClientFailure",
    "ConfigurationWrong",
    "DirectoryInUse",
    "EventIdReused",
    "EventMalformed",
    "Excluded",
    "GatewayFailure",
    "KeyClosed",
    "Kind",
    "LLMuxError",
    "LimitReached",
    "LogDamaged",
    "ModelNotAllowed",
    "ModelUnknown",
    "NoRoute",
    "OutcomeUnknown",
    "Overloaded",
    "Policy",
    "ProviderFailure",
    "ProviderUnknown",
    "SchemaUnknown",
    "ShuttingDown",
    "StoreFailure",
    "StoreFull",
    "TailMissing",
    "UnknownEvent",
    "WrongExpectedVersion",
    "printable",
]
