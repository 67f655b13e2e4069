"""Facts about requests, and about the attempts of the flights that answer them."""

from typing import ClassVar

import msgspec

from llmux.events.event import Event
from llmux.prompts import Usage

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
    candidates: list[RouteTaken] = msgspec.field(default_factory=list)
    exclusions: list[RouteExcluded] = msgspec.field(default_factory=list)
    draw: int
    cache: str = "off"
    """"hit", "miss", or "off" where the cache was not asked"""
    reserved_tokens: int = 0
    content: bool = False
    idempotency: str = ""
    """an HMAC of the idempotency key that this request came with"""
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
    """The answer was no longer wanted. `by` is "client" or "gateway" (at its stop), or what became of the principal's key:
    "key_revoked", "key_rotated" or "key_expired".
    """

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
