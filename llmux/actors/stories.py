"""One request's story, told from its own events: who asked for what, why it went where it went, and what became of it."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from llmux.actors.moments import iso
from llmux.actors.telling import told
from llmux.events import (
    AttemptCancelled,
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    RecordedEvent,
    RequestAbandoned,
    RequestAccepted,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
)
from llmux.eventstore import Reader
from llmux.failures import ClientFailure, printable
from llmux.prompts import Usage

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DAY_MS = 24 * 3_600_000
"""how far what belongs to an id may be recorded from the time in it; clocks are set back, and requests are abandoned"""
_STATES = {
    RequestCompleted: "completed",
    RequestFailed: "failed",
    RequestCancelled: "cancelled",
    RequestAbandoned: "abandoned",
}


class Taken(msgspec.Struct, frozen=True, rename="camel"):
    """A route that could be taken, in the order in which they were to be tried."""

    provider: str
    account: str
    model: str
    weight: int


class LeftOut(msgspec.Struct, frozen=True, rename="camel"):
    """A route that could not be taken: why, and until when (None = nobody knows)."""

    provider: str
    account: str
    model: str
    reason: str
    until: str | None


class Tokens(msgspec.Struct, frozen=True, rename="camel"):
    """What it cost, as the provider counted."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    cache_write_input_tokens: int
    reasoning_tokens: int
    total_tokens: int


class Attempt(msgspec.Struct, frozen=True, rename="camel"):
    """One try of one route. `outcome` is "succeeded", "failed", "cancelled", "abandoned" or "open"; `chunks` counts what of a
    failed or cancelled one had been passed on.
    """

    number: int
    provider: str
    account: str
    model: str
    started_at: str
    outcome: str
    served_model: str = ""
    first_chunk_ms: int | None = None
    duration_ms: int | None = None
    kind: str | None = None
    evidence: str | None = None
    phase: str | None = None
    resets_at: str | None = None
    chunks: int | None = None
    usage: Tokens | None = None


class Story(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A request from its acceptance to its end (`state` "open": there is none yet).

    `flight` is the flight whose attempts these are ("" for a cached answer), `joined` says that another request started it;
    `usage` is what this request was charged. `summary` says it all in sentences, `events` are the facts themselves.
    """

    id: str
    state: str
    summary: list[str] = []
    principal: str
    endpoint: str
    model: str
    stream: bool
    pinned: bool
    prompt_bytes: int
    fingerprint: str
    accepted_at: str
    ended_at: str | None = None
    duration_ms: int | None = None
    cache: str
    flight: str
    joined: bool
    draw: int
    candidates: list[Taken]
    spares: int = 0
    exclusions: list[LeftOut]
    attempts: list[Attempt]
    provider: str = ""
    answered_model: str = ""
    finish: str | None = None
    code: str | None = None
    blame: str | None = None
    cancelled_by: str | None = None
    usage: Tokens | None = None
    events: list[dict[str, Any]] = []

    def plain(self) -> dict[str, Any]:
        """The story as JSON can hold it."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def id_of(text: str) -> str:
    """A request id in the form that the log has it in. Raises ClientFailure."""
    id = text.strip().lower().removeprefix("request-")
    if not _ID.fullmatch(id):
        raise ClientFailure(
            f"'{printable(text, 60)}' is no request id. One looks like 01970c4e-7f3a-7000-8000-9a3c5e7d1f20: the header "
            "x-request-id of an answer."
        )
    return id


async def events_of(reader: Reader, id: str) -> tuple[list[RecordedEvent], list[RecordedEvent]]:
    """The events of the request and those of its flight. Raises ClientFailure (400 for what is no id, 404 for one unknown).

    No scan of the log: in the database streams are indexed, and in archives the time in the id says where to look.
    """
    id = id_of(id)
    own = await _stream(reader, f"request-{id}", id)
    if own and not any(type(event.fact) in _STATES for event in own):  # open, or closed long after it began
        own += await reader.read(
            limit=1, stream=own[0].stream, after=own[-1].position, recorded_from=_began(id) + _DAY_MS
        )
    if not own:
        raise ClientFailure(
            f"No request {id} is in the log. One that was refused at the door never was.",
            status=404,
            code="request_not_found",
        )
    flight = flight_of(own)
    return own, await _stream(reader, f"flight-{flight}", flight) if flight else []


async def _stream(reader: Reader, stream: str, id: str) -> list[RecordedEvent]:
    """The events of a stream that is named after an id, from the database, and from the archives around the id's time."""
    page, began = reader.limits.read_rows_max, _began(id)
    here = await reader.read(limit=page, stream=stream, archived=False)
    if here and here[0].version == 0:
        return here
    until = here[0].position - 1 if here else None
    first, last = began - _DAY_MS, began + _DAY_MS
    return await reader.read(limit=page, stream=stream, until=until, recorded_from=first, recorded_to=last) + here


def _began(id: str) -> int:
    """The wall time in ms that a UUIDv7 was made at."""
    return int(id[:8] + id[9:13], 16)


async def streams_of(reader: Reader, id: str) -> tuple[str, ...]:
    """The streams that hold the events of a request. Raises as `events_of`."""
    own, _ = await events_of(reader, id)
    flight = flight_of(own)
    return (own[0].stream, f"flight-{flight}") if flight else (own[0].stream,)


async def story_of(reader: Reader, id: str) -> Story:
    """The story of this request, from its two streams alone. Raises as `events_of`."""
    return story(*await events_of(reader, id))


def flight_of(own: Sequence[RecordedEvent]) -> str:
    """The flight that the events of a request name: another's, its own, or none ("")."""
    fact = own[0].fact
    if not isinstance(fact, RequestAccepted):  # the log begins in the middle of it
        return next((flight for each in own if (flight := getattr(each.fact, "flight", ""))), own[0].correlation_id)
    return fact.flight or ("" if fact.cache == "hit" else own[0].correlation_id)


def story(own: Sequence[RecordedEvent], shared: Sequence[RecordedEvent]) -> Story:
    """The story that the events of a request (`own`) and of its flight (`shared`) tell. Raises ClientFailure (404) when the
    beginning is not among them.
    """
    first, accepted = own[0], own[0].fact
    if not isinstance(accepted, RequestAccepted):
        raise ClientFailure(
            "The beginning of this request is archived; its end alone is no story.", status=404, code="request_archived"
        )
    id, flight = first.correlation_id, flight_of(own)
    end = next((event for event in own if type(event.fact) in _STATES), None)
    abandoned = end is not None and isinstance(end.fact, RequestAbandoned)
    both = sorted((*own, *shared), key=lambda event: event.position)
    bare = Story(
        id=id,
        state="open" if end is None else _STATES[type(end.fact)],
        principal=first.principal,
        endpoint=accepted.endpoint,
        model=accepted.model,
        stream=accepted.stream,
        pinned=accepted.pinned,
        prompt_bytes=accepted.prompt_bytes,
        fingerprint=accepted.fingerprint,
        accepted_at=iso(first.recorded_at),
        ended_at=None if end is None else iso(end.recorded_at),
        cache=accepted.cache,
        flight=flight,
        joined=bool(accepted.flight),
        draw=accepted.draw,
        spares=accepted.spares,
        candidates=[Taken(each.provider, each.account, each.model, each.weight) for each in accepted.candidates],
        exclusions=[
            LeftOut(each.provider, each.account, each.model, each.reason, _iso(each.until))
            for each in accepted.exclusions
        ],
        attempts=_attempts(shared, "abandoned" if abandoned else "open"),
        events=[plain_event(event) for event in both],
        **_ending(end),
    )
    return msgspec.structs.replace(bare, summary=told(bare))


def _ending(end: RecordedEvent | None) -> dict[str, Any]:
    match end.fact if end is not None else None:
        case RequestCompleted() as fact:
            return {
                "duration_ms": fact.duration_ms,
                "provider": fact.provider,
                "answered_model": fact.model,
                "finish": fact.finish,
                "usage": _tokens(fact.usage),
            }
        case RequestFailed() as fact:
            failed = {"provider": fact.provider, "answered_model": fact.model, "code": fact.code, "blame": fact.blame}
            return {"duration_ms": fact.duration_ms, **failed}
        case RequestCancelled() as fact:
            return {"duration_ms": fact.duration_ms, "cancelled_by": fact.by}
    return {}


def _attempts(shared: Sequence[RecordedEvent], unended: str) -> list[Attempt]:
    attempts: dict[int, Attempt] = {}
    for event in shared:
        fact = event.fact
        if isinstance(fact, AttemptStarted):
            at = iso(event.recorded_at)
            attempts[fact.number] = Attempt(fact.number, fact.provider, fact.account, fact.model, at, unended)
        elif isinstance(fact, AttemptSucceeded | AttemptFailed | AttemptCancelled) and fact.number in attempts:
            attempts[fact.number] = msgspec.structs.replace(attempts[fact.number], **_outcome(fact))
    return list(attempts.values())


def _outcome(fact: AttemptSucceeded | AttemptFailed | AttemptCancelled) -> dict[str, Any]:
    match fact:
        case AttemptSucceeded():
            return {
                "outcome": "succeeded",
                "served_model": fact.served_model,
                "first_chunk_ms": fact.first_chunk_ms,
                "duration_ms": fact.duration_ms,
                "usage": _tokens(fact.usage),
            }
        case AttemptFailed():
            return {
                "outcome": "failed",
                "duration_ms": fact.duration_ms,
                "kind": fact.kind,
                "evidence": fact.evidence,
                "phase": fact.phase,
                "resets_at": _iso(fact.resets_at),
                "chunks": fact.chunks,
            }
    return {"outcome": "cancelled", "duration_ms": fact.duration_ms, "chunks": fact.chunks}


def _tokens(usage: Usage) -> Tokens:
    return Tokens(
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_input_tokens,
        usage.cache_write_input_tokens,
        usage.reasoning_tokens,
        usage.total_tokens,
    )


def _iso(ms: int | None) -> str | None:
    return None if ms is None else iso(ms)


def plain_event(event: RecordedEvent) -> dict[str, Any]:
    """An event as JSON shows it, in the words of its envelope."""
    return {
        "position": event.position,
        "stream": event.stream,
        "version": event.version,
        "type": event.type,
        "schema": event.schema,
        "event_id": event.event_id,
        "recorded_at": iso(event.recorded_at),
        "principal": event.principal,
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "data": msgspec.json.decode(event.data),
        "hash": event.hash.hex(),
    }
