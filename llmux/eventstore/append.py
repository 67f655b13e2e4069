"""What an append is, and what a batch of appends does to a log. Pure: no database, no clock."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from llmux.events import NewEvent, RecordedEvent, canonical, type_of
from llmux.eventstore.chain import Head, message, sealed
from llmux.failures import EventIdReused, EventMalformed, StoreFailure, WrongExpectedVersion, printable

NO_STREAM = -1
"""Expected version: the stream has no event yet."""

ANY = -2
"""Expected version: whatever it is."""


class Append(msgspec.Struct, frozen=True):
    """Events to be recorded together or not at all, in this order; they may go to several streams.

    `expected` maps a stream to the version it must have before (`NO_STREAM`, `ANY` or a number). Streams that it does not
    name are `ANY`; it may also name streams that get no event here.
    """

    events: tuple[NewEvent, ...]
    expected: Mapping[str, int] = {}


class Appended(msgspec.Struct, frozen=True):
    """The events as the log holds them. `repeated`: they had been recorded before, and nothing was written now."""

    events: tuple[RecordedEvent, ...]
    repeated: bool = False


Outcome = Appended | StoreFailure


class Draft(msgspec.Struct, frozen=True):
    """A new event whose fact is encoded already, so that nobody can change it while it waits."""

    event: NewEvent
    type: str
    schema: int
    data: bytes
    parts: tuple[bytes, ...]
    """what the chain covers beside the numbers and the hash before, in its form"""

    def is_recorded_as(self, other: RecordedEvent) -> bool:
        """Whether `other` is this event: everything that its author chose is the same."""
        event = self.event
        return (
            event.stream == other.stream
            and event.principal == other.principal
            and event.correlation_id == other.correlation_id
            and event.causation_id == other.causation_id
            and (self.type, self.schema, self.data) == (other.type, other.schema, other.data)
        )

    def recorded(self, after: Head, version: int, now: int, key: bytes | None = None) -> RecordedEvent:
        """This event as the next one after the head. `key`: see `chain.digest`."""
        event, position = self.event, after.position + 1
        hash = sealed(message(position, version, self.schema, now, (*self.parts, after.hash)), key)
        return RecordedEvent(
            position,
            event.stream,
            version,
            self.type,
            self.schema,
            event.event_id,
            now,
            event.principal,
            event.correlation_id,
            event.causation_id,
            self.data,
            after.hash,
            hash,
        )


def draft_of(event: NewEvent) -> Draft:
    """The event, encoded. Raises whatever encoding raises for what is no event, or no text that UTF-8 can hold."""
    type, data = type_of(event.fact), canonical(event.fact)
    parts = (
        event.stream.encode(),
        type.encode(),
        event.event_id.encode(),
        event.principal.encode(),
        event.correlation_id.encode(),
        event.causation_id.encode(),
        data,
    )
    return Draft(event, type, event.fact.schema, data, parts)


class Prepared(msgspec.Struct, frozen=True):
    """An append whose events are encoded."""

    drafts: tuple[Draft, ...]
    expected: Mapping[str, int]

    @property
    def streams(self) -> set[str]:
        """The streams whose versions decide about it."""
        return {draft.event.stream for draft in self.drafts} | self.expected.keys()


def prepared(append: Append) -> Prepared | EventMalformed:
    """Encodes the events. What cannot be recorded at all becomes a failure here, before a transaction begins."""
    try:
        drafts = tuple([draft_of(event) for event in append.events])
        "".join(append.expected).encode()
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        return EventMalformed(f"The events cannot be recorded: {type(error).__name__}: {printable(str(error), 200)}")
    return Prepared(drafts, dict(append.expected))


class Plan:
    """Decides about one batch, append by append; a refused append leaves no trace.

    `versions` holds the present version of every stream of the batch (absent: no stream), `recorded` the events of the log
    whose ids occur in the batch. Afterwards `events` are to be written, `head` is the head they lead to, and `outcomes`
    holds one outcome per entry. `key` keys the chain.
    """

    def __init__(
        self,
        head: Head,
        versions: Mapping[str, int],
        recorded: Iterable[RecordedEvent],
        now: int,
        key: bytes | None = None,
    ):
        self.head = head
        self.events: list[RecordedEvent] = []
        self.outcomes: list[Outcome] = []
        self._now, self._key = now, key
        self._versions = dict(versions)
        self._by_id = {event.event_id: event for event in recorded}

    def decide(self, entries: Sequence[Prepared | StoreFailure]) -> "Plan":
        """Decides about every entry in its order; a failure stays what it is."""
        for entry in entries:
            self.outcomes.append(entry if isinstance(entry, StoreFailure) else self._decide(entry))
        return self

    def _decide(self, entry: Prepared) -> Outcome:
        seen = [self._by_id[draft.event.event_id] for draft in entry.drafts if draft.event.event_id in self._by_id]
        if seen:
            return self._repeated(entry, seen)
        if len(entry.drafts) > 1 and len({draft.event.event_id for draft in entry.drafts}) < len(entry.drafts):
            return EventIdReused("The append holds the same event id twice.")
        for stream, expected in entry.expected.items():
            actual = self._versions.get(stream, NO_STREAM)
            if expected not in (ANY, actual):
                return WrongExpectedVersion(stream, expected, actual)
        return Appended(tuple([self._record(draft) for draft in entry.drafts]))

    def _repeated(self, entry: Prepared, seen: Collection[RecordedEvent]) -> Outcome:
        """An append that was acknowledged, or whose outcome was unknown, comes again: its expected versions no longer matter."""
        if len(seen) < len(entry.drafts):
            return EventIdReused("A part of these events is in the log already, the rest is not.")
        for draft, event in zip(entry.drafts, seen, strict=True):
            if not draft.is_recorded_as(event):
                return EventIdReused(f"The id of event {event.position} is used again for another event.")
        return Appended(tuple(seen), repeated=True)

    def _record(self, draft: Draft) -> RecordedEvent:
        stream = draft.event.stream
        version = self._versions.get(stream, NO_STREAM) + 1
        event = draft.recorded(self.head, version, self._now, self._key)
        self._versions[stream] = version
        self._by_id[event.event_id] = event
        self.head = Head(event.position, event.hash)
        self.events.append(event)
        return event
