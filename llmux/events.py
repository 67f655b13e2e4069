"""Every fact that can be recorded, and the envelope it is recorded in.

A fact is a frozen struct whose fields are integers, strings, booleans, lists and mappings: no floats, no text of prompts or
answers, no keys, no raw output of a provider. Wall times are milliseconds since 1970 UTC (`..._at`, `until`), durations
carry their unit in their name. `type` in the log is the name under which a struct is registered here, never an import path.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from llmux.prompts import Usage


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact in the past tense. `schema` counts up when the meaning of its fields changes; readers then need an upcaster.

    A field that has its default is not written, to keep the log small. So a default, once released, never changes.
    """

    schema: ClassVar[int] = 1


# --- stream `gateway` ----------------------------------------------------------------------------------------------


class GatewayStarted(Event, frozen=True):
    """The gateway opened the log. `routing` is the routing configuration without anything secret."""

    version: str
    routing: Mapping[str, Any]


class GatewayStopped(Event, frozen=True):
    """The gateway closed the log in good order."""

    reason: str


class ActorCrashed(Event, frozen=True):
    """An actor ended with an exception. `error` is the name of its class."""

    actor: str
    error: str


class ActorRestarted(Event, frozen=True):
    """The supervisor started an actor again; `restarts` counts those within the window."""

    actor: str
    restarts: int


# --- streams `key-…` -----------------------------------------------------------------------------------------------


class KeyIssued(Event, frozen=True):
    """A key was made for `user` and `project`. Only the SHA-256 of its secret is kept, as hex."""

    key_id: str
    secret_sha256: str
    user: str
    project: str
    label: str = ""


class KeyRevoked(Event, frozen=True):
    """The key opens nothing any more."""

    key_id: str


# --- streams `quota-PROVIDER` --------------------------------------------------------------------------------------


class QuotaReported(Event, frozen=True):
    """A provider said how much of a window is used. Recorded only when status, reset or a whole percent changes."""

    provider: str
    account: str
    model: str
    window: str
    status: str
    used_percent: int | None = None
    resets_at: int | None = None


class QuotaExhausted(Event, frozen=True):
    """A quota is spent. The route rests until `until`; `resets_at` is what the provider said, if it said anything."""

    provider: str
    account: str
    model: str
    evidence: str
    until: int
    resets_at: int | None = None


class ProviderCooled(Event, frozen=True):
    """A route rests until `until` after a failure of another kind than a spent quota."""

    provider: str
    account: str
    model: str
    kind: str
    evidence: str
    until: int


class ProviderRestored(Event, frozen=True):
    """A route that rested answered again."""

    provider: str
    account: str
    model: str


class QuotaReset(Event, frozen=True):
    """Somebody declared the rests of a provider over by hand."""

    provider: str


# --- stream `cache` ------------------------------------------------------------------------------------------------


class CacheCleared(Event, frozen=True):
    """All cached answers were dropped."""

    entries: int


# --- streams `provider-…` ------------------------------------------------------------------------------------------


class LoginExpired(Event, frozen=True):
    """The provider refused the login of this account. It is left out until the login is renewed, or for a while.

    `login` is a short hash of what the stored login looked like, to notice a new one.
    """

    provider: str
    account: str
    evidence: str
    login: str = ""


class LoginRestored(Event, frozen=True):
    """The account may be asked again: it has a "new_login", it is time for "another_try", or somebody said so ("by_hand")."""

    provider: str
    account: str
    because: str = "new_login"


class ProviderIneligible(Event, frozen=True):
    """The account may not use this provider. It is left out until its login changes (`login`: as in LoginExpired)."""

    provider: str
    account: str
    evidence: str
    login: str = ""


class WorkerLost(Event, frozen=True):
    """A warm worker ended on its own. `exit_status` is the process's, or None for a connection."""

    provider: str
    account: str
    exit_status: int | None = None


# --- streams `request-…` -------------------------------------------------------------------------------------------


class RouteTaken(msgspec.Struct, frozen=True, omit_defaults=True):
    """A candidate of the router, in the order in which it would be tried."""

    provider: str
    account: str
    model: str
    weight: int


class RouteExcluded(msgspec.Struct, frozen=True, omit_defaults=True):
    """A route the router left out, and why. `reason` is one of a closed list of words."""

    provider: str
    account: str
    model: str
    reason: str
    until: int | None = None


class RequestAccepted(Event, frozen=True):
    """The gateway took a request on. `draw` is the random number that ordered `candidates`.

    `fingerprint` is an HMAC of the canonical prompt; `flight` is the flight that produces the answer ("" for a cached one);
    `reserved_tokens` is held against the principal's budget until the request ends.
    """

    endpoint: str
    model: str
    stream: bool
    pinned: bool
    fingerprint: str
    prompt_bytes: int
    flight: str
    candidates: list[RouteTaken]
    exclusions: list[RouteExcluded]
    draw: int
    cache: str = "off"
    """"hit", "miss", or "off" where the cache was not asked"""
    reserved_tokens: int = 0


class RequestJoined(Event, frozen=True):
    """The request shares a flight that was already under way."""

    flight: str


class RequestCompleted(Event, frozen=True):
    """The whole answer is there. `usage` is what this request is charged: nothing for cached and joined ones."""

    provider: str
    account: str
    model: str
    finish: str
    attempts: int
    duration_ms: int
    usage: Usage
    source: str = "flight"
    """"flight" (its own), "joined" (another request's flight) or "cache\""""


class RequestFailed(Event, frozen=True):
    """No answer, or not a whole one. `code` is what the client was told; `blame` is client, provider, gateway or store.

    `provider`, `account` and `model` are those of the last attempt ("" when there was none).
    """

    code: str
    blame: str
    attempts: int
    duration_ms: int
    provider: str = ""
    account: str = ""
    model: str = ""


class RequestCancelled(Event, frozen=True):
    """The answer was no longer wanted. `by` is "client" or "gateway" (at its stop)."""

    by: str
    duration_ms: int


class RequestAbandoned(Event, frozen=True):
    """The gateway died while the request was open; found and closed at the next start."""

    flight: str = ""


# --- streams `flight-…` --------------------------------------------------------------------------------------------


class AttemptStarted(Event, frozen=True):
    """A flight begins to try a route. `number` counts from 1 within the flight; `request` is the request that started it."""

    request: str
    number: int
    provider: str
    account: str
    model: str


class AttemptSucceeded(Event, frozen=True):
    """The route gave a whole answer. `usage` is what it cost, charged to `request` even if that one has left."""

    request: str
    number: int
    provider: str
    account: str
    model: str
    served_model: str
    finish: str
    first_chunk_ms: int
    duration_ms: int
    usage: Usage


class AttemptFailed(Event, frozen=True):
    """The route failed. `chunks` counts what had been passed on before; with more than 0 there is no further attempt."""

    request: str
    number: int
    provider: str
    account: str
    model: str
    kind: str
    evidence: str
    chunks: int
    duration_ms: int
    phase: str | None = None
    resets_at: int | None = None


class AttemptCancelled(Event, frozen=True):
    """The attempt was stopped because nobody waits for its answer any more."""

    request: str
    number: int
    provider: str
    account: str
    model: str
    chunks: int
    duration_ms: int


TYPES: dict[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        GatewayStarted, GatewayStopped, ActorCrashed, ActorRestarted,
        KeyIssued, KeyRevoked,
        QuotaReported, QuotaExhausted, ProviderCooled, ProviderRestored, QuotaReset,
        CacheCleared,
        LoginExpired, LoginRestored, ProviderIneligible, WorkerLost,
        RequestAccepted, RequestJoined, RequestCompleted, RequestFailed, RequestCancelled, RequestAbandoned,
        AttemptStarted, AttemptSucceeded, AttemptFailed, AttemptCancelled,
    )
}  # fmt: skip
"""The name in the log -> the struct. Names stay for ever; a renamed class keeps its old name here."""

_NAMES = {cls: name for name, cls in TYPES.items()}
_DECODERS = {name: msgspec.json.Decoder(cls) for name, cls in TYPES.items()}
_ENCODER = msgspec.json.Encoder(order="sorted")


class UnknownEvent(LookupError):
    """The log holds an event of a type or schema that this version cannot read."""


class NewEvent(msgspec.Struct, frozen=True):
    """A fact that is to be recorded in `stream`. `event_id` is a UUIDv7: appending the same one again changes nothing.

    `principal` is who caused it (a key id, "local", or "gateway"); `correlation_id` the request it belongs to ("" = none);
    `causation_id` the event that led to it ("" = none).
    """

    stream: str
    fact: Event
    event_id: str
    principal: str = "gateway"
    correlation_id: str = ""
    causation_id: str = ""


class RecordedEvent(msgspec.Struct, frozen=True):
    """An event as the log holds it.

    `position` counts from 1 over the whole log and `version` from 0 in its stream, both without gaps; `recorded_at` is wall
    time in ms; `data` is the fact as canonical JSON; `prev_hash` and `hash` are SHA-256 digests (32 bytes) that chain the log.
    """

    position: int
    stream: str
    version: int
    type: str
    schema: int
    event_id: str
    recorded_at: int
    principal: str
    correlation_id: str
    causation_id: str
    data: bytes
    prev_hash: bytes
    hash: bytes

    @property
    def fact(self) -> Event:
        """The fact itself, decoded anew at each call. Raises UnknownEvent."""
        decoder = _DECODERS.get(self.type)
        if decoder is None or self.schema != TYPES[self.type].schema:
            raise UnknownEvent(
                f"Position {self.position} holds a {self.type} of schema {self.schema}, which this version cannot read."
            )
        return decoder.decode(self.data)

    @property
    def category(self) -> str:
        """What comes before the first `-` of the stream's name."""
        return self.stream.partition("-")[0]


def type_of(fact: Event) -> str:
    """The name under which the log records `fact`."""
    return _NAMES[type(fact)]


def canonical(fact: Event) -> bytes:
    """The fact as JSON in the one form that is hashed: sorted keys, no blanks, UTF-8."""
    return _ENCODER.encode(fact)
