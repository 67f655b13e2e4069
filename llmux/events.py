"""Every fact that can be recorded, and the envelope it is recorded in.

A fact is a frozen struct whose fields are integers, strings, booleans, lists and mappings: no floats, no text of prompts or
answers, no keys, no raw output of a provider. Wall times are milliseconds since 1970 UTC (`..._at`, `until`), durations
carry their unit in their name. `type` in the log is the name under which a struct is registered here, never an import path.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

from llmux.failures import UnknownEvent
from llmux.prompts import Usage


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact in the past tense. `schema` counts up when the meaning of its fields changes; readers then need an upcaster.

    A field that has its default is not written, to keep the log small. So a default, once released, never changes.
    """

    schema: ClassVar[int] = 1


# --- stream `gateway` ----------------------------------------------------------------------------------------------


class GatewayStarted(Event, frozen=True, kw_only=True):
    """The gateway opened the log. `routing` is the routing configuration without anything secret."""

    version: str
    routing: Mapping[str, Any]
    chain: str = ""
    """the name of the key that the hashes of the log are made with from here on ("" = none)"""


class GatewayStopped(Event, frozen=True, kw_only=True):
    """The gateway closed the log in good order."""

    reason: str


class ActorCrashed(Event, frozen=True, kw_only=True):
    """An actor ended with an exception. `error` is the name of its class."""

    actor: str
    error: str


class ActorRestarted(Event, frozen=True, kw_only=True):
    """The supervisor started an actor again; `restarts` counts those within the window."""

    actor: str
    restarts: int


# --- streams `log-…` -----------------------------------------------------------------------------------------------


class SnapshotTaken(Event, frozen=True, kw_only=True):
    """The state after position `through` was written to `file` of the data directory. It can be made anew at any time."""

    through: int
    file: str
    sha256: str
    state_schema: int


class LogArchived(Event, frozen=True, kw_only=True):
    """The positions `first` to `through` moved into `file`, a compressed file of the data directory's `archives`.

    `head` is the hash of the last of them, `sha256` that of the file. `state_sha256` is the hash of the state after
    `through` as canonical JSON, which the log goes on from, and `streams_sha256` that of the last versions of the streams
    that go on, likewise ("" = not recorded).
    """

    first: int
    through: int
    head: str
    file: str
    file_bytes: int
    sha256: str
    state_sha256: str
    state_schema: int
    streams_sha256: str = ""


class EventSkipped(Event, frozen=True, kw_only=True):
    """Somebody decided that the event at `skipped` means nothing to the state, because this version cannot read it."""

    skipped: int
    reason: str


class LogRestored(Event, frozen=True, kw_only=True):
    """The log up to `position`, whose hash is `head`, came from a backup; what had been recorded after it is not here."""

    position: int
    head: str


class ChainKeyChanged(Event, frozen=True, kw_only=True):
    """The owner of the log gave its chain of hashes a key, or another one. This event is the first under the new one.

    `before` and `after` are names of keys ("" = none), never keys. `lost`: the key before was not there any more, so nobody
    looked whether the log up to here was whole.
    """

    before: str
    after: str
    lost: bool = False


class LossAccepted(Event, frozen=True, kw_only=True):
    """The owner of the log went on although its end was not the one that had been witnessed outside it.

    The log ended with `position` and `head`. Once it had reached `last_position`, and `witnessed_position` had had the hash
    `witnessed_head` (0 and "" = nothing was witnessed).
    """

    position: int
    head: str
    last_position: int
    witnessed_position: int
    witnessed_head: str
    reason: str


# --- stream `content` ----------------------------------------------------------------------------------------------


class ContentForgotten(Event, frozen=True, kw_only=True):
    """The kept text of `answers` requests was deleted. `scope` is "request", "key", "before" or "retention".

    `request` or `key` is the one that was named; `before` is wall time in ms.
    """

    scope: str
    answers: int
    request: str = ""
    key: str = ""
    before: int | None = None


# --- streams `key-…` -----------------------------------------------------------------------------------------------


class KeyIssued(Event, frozen=True, kw_only=True):
    """A key was made for `user` and `project`. Only the SHA-256 of its secret is kept, as hex."""

    key_id: str
    secret_sha256: str
    user: str
    project: str
    label: str = ""
    record_content: bool = False
    """the text of this key's prompts and answers is kept, outside the log"""


class KeyRevoked(Event, frozen=True, kw_only=True):
    """The key opens nothing any more."""

    key_id: str


# --- streams `quota-PROVIDER` --------------------------------------------------------------------------------------


class QuotaReported(Event, frozen=True, kw_only=True):
    """A provider said how much of a window is used. Recorded only when status, reset or a whole percent changes."""

    provider: str
    account: str
    model: str
    window: str
    status: str
    used_percent: int | None = None
    resets_at: int | None = None


class QuotaExhausted(Event, frozen=True, kw_only=True):
    """A quota is spent. The route rests until `until`; `resets_at` is what the provider said, if it said anything."""

    provider: str
    account: str
    model: str
    evidence: str
    until: int
    resets_at: int | None = None


class ProviderCooled(Event, frozen=True, kw_only=True):
    """A route rests until `until` after a failure of another kind than a spent quota."""

    provider: str
    account: str
    model: str
    kind: str
    evidence: str
    until: int


class ProviderRestored(Event, frozen=True, kw_only=True):
    """A route that rested answered again."""

    provider: str
    account: str
    model: str


class QuotaReset(Event, frozen=True, kw_only=True):
    """Somebody declared the rests of a provider over by hand."""

    provider: str


# --- stream `cache` ------------------------------------------------------------------------------------------------


class CacheCleared(Event, frozen=True, kw_only=True):
    """All cached answers were dropped."""

    entries: int


# --- streams `provider-…` ------------------------------------------------------------------------------------------


class LoginExpired(Event, frozen=True, kw_only=True):
    """The provider refused the login of this account. It is left out until the login is renewed, or for a while.

    `login` is a short hash of what the stored login looked like, to notice a new one.
    """

    provider: str
    account: str
    evidence: str
    login: str = ""


class LoginRestored(Event, frozen=True, kw_only=True):
    """The account may be asked again: it has a "new_login", it is time for "another_try", or somebody said so ("by_hand")."""

    provider: str
    account: str
    because: str = "new_login"


class ProviderIneligible(Event, frozen=True, kw_only=True):
    """The account may not use this provider. It is left out until its login changes (`login`: as in LoginExpired)."""

    provider: str
    account: str
    evidence: str
    login: str = ""


class WorkerLost(Event, frozen=True, kw_only=True):
    """A warm worker ended on its own. `exit_status` is the process's, or None for a connection."""

    provider: str
    account: str
    exit_status: int | None = None


# --- streams `request-…` -------------------------------------------------------------------------------------------


class RouteTaken(msgspec.Struct, frozen=True, array_like=True):
    """A candidate of the router. In the log it is a list of these four, because there are several in every request."""

    provider: str
    account: str
    model: str
    weight: int


class RouteExcluded(msgspec.Struct, frozen=True, array_like=True):
    """A route the router left out, and why. `reason` is one of a closed list of words, `until` wall time in ms if it is known."""

    provider: str
    account: str
    model: str
    reason: str
    until: int | None = None


class RequestAccepted(Event, frozen=True, kw_only=True):
    """The gateway took a request on. `draw` is the random number that put `candidates` in the order in which they are tried.

    `fingerprint` is an HMAC of the canonical prompt; `flight` is the flight of another request that this one shares, "" for
    its own (whose id is the request's) and for a cached answer; `reserved_tokens` is held against the principal's budget
    until the request ends; `content` says that the text of prompt and answer is kept, outside the log. `pinned`: one provider
    alone might answer. The last `spares` of the candidates were not asked for: the request allows them as a fallback.
    """

    schema: ClassVar[int] = 2

    endpoint: str
    model: str = ""
    stream: bool = False
    pinned: bool = False
    fingerprint: str
    prompt_bytes: int
    flight: str = ""
    candidates: list[RouteTaken] = []
    exclusions: list[RouteExcluded] = []
    draw: int
    cache: str = "off"
    """"hit", "miss", or "off" where the cache was not asked"""
    reserved_tokens: int = 0
    content: bool = False
    spares: int = 0


class RequestJoined(Event, frozen=True, kw_only=True):
    """The request shares a flight that was already under way."""

    flight: str


class RequestCompleted(Event, frozen=True, kw_only=True):
    """The whole answer is there. `usage` is what this request is charged: nothing for cached and joined ones."""

    provider: str
    account: str = "default"
    model: str
    finish: str = "stop"
    attempts: int = 1
    duration_ms: int
    usage: Usage = Usage()
    source: str = "flight"
    """"flight" (its own), "joined" (another request's flight) or "cache\""""


class RequestFailed(Event, frozen=True, kw_only=True):
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


class RequestCancelled(Event, frozen=True, kw_only=True):
    """The answer was no longer wanted. `by` is "client" or "gateway" (at its stop)."""

    by: str
    duration_ms: int


class RequestAbandoned(Event, frozen=True, kw_only=True):
    """The gateway died while the request was open; found and closed at the next start."""

    flight: str = ""


# --- streams `flight-…` --------------------------------------------------------------------------------------------


class AttemptStarted(Event, frozen=True, kw_only=True):
    """A flight begins to try a route. `number` counts from 1 within the flight.

    The events of a flight carry the request that started it as their correlation id.
    """

    number: int = 1
    provider: str
    account: str = "default"
    model: str


class AttemptSucceeded(Event, frozen=True, kw_only=True):
    """The route gave a whole answer. `usage` is what it cost, charged to the request that started the flight even if that one has left.

    `served_model` is what the provider called the model, where that is another name ("" = `model`).
    """

    number: int = 1
    provider: str
    account: str = "default"
    model: str
    served_model: str = ""
    finish: str = "stop"
    first_chunk_ms: int
    duration_ms: int
    usage: Usage = Usage()


class AttemptFailed(Event, frozen=True, kw_only=True):
    """The route failed. `chunks` counts what had been passed on before; with more than 0 there is no further attempt."""

    number: int = 1
    provider: str
    account: str = "default"
    model: str
    kind: str
    evidence: str
    chunks: int = 0
    duration_ms: int
    phase: str | None = None
    resets_at: int | None = None


class AttemptCancelled(Event, frozen=True, kw_only=True):
    """The attempt was stopped because nobody waits for its answer any more."""

    number: int = 1
    provider: str
    account: str = "default"
    model: str
    chunks: int = 0
    duration_ms: int


TYPES: dict[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        GatewayStarted, GatewayStopped, ActorCrashed, ActorRestarted,
        SnapshotTaken, LogArchived, EventSkipped, LogRestored, ChainKeyChanged, LossAccepted,
        ContentForgotten,
        KeyIssued, KeyRevoked,
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


class RecordedEvent(msgspec.Struct, frozen=True, gc=False):
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
        return fact_of(self)

    @property
    def category(self) -> str:
        """What comes before the first `-` of the stream's name."""
        return self.stream.partition("-")[0]


class Line(msgspec.Struct, frozen=True, gc=False):
    """What folding needs of a recorded event: the fields of `RecordedEvent` without those that only the chain is for."""

    position: int
    stream: str
    type: str
    schema: int
    recorded_at: int
    principal: str
    correlation_id: str
    data: bytes | str

    @property
    def fact(self) -> Event:
        """The fact itself, decoded anew at each call. Raises UnknownEvent."""
        return fact_of(self)


Recorded = RecordedEvent | Line
"""An event that can be folded."""


def can_read(event: Recorded) -> bool:
    """Whether this version knows the event's type and schema."""
    known = _READERS.get(event.type)
    return known is not None and 1 <= event.schema <= known[0]


def fact_of(event: Recorded) -> Event:
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
