"""The form of an archive file: a part of the log as JSON lines, which need nothing but themselves to be checked. Pure.

The file is named after its first and last position and compressed with gzip. Its first line says what it is and what came
before; then comes one line for each event, with every field of its envelope; the last line holds the state after the last
event, and the versions of the streams that go on. Hashes are hex, ids are text, and `data` is the recorded JSON itself, byte
for byte: that is what the chain of hashes covers.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from llmux.events import Line, RecordedEvent
from llmux.eventstore.chain import Head
from llmux.eventstore.table import recent_text, unpacked, unpacked_stream, uuid_text

FORMAT = "llmux-archive"
VERSION = 1
_NAME = re.compile(r"events-([0-9]{12,})-([0-9]{12,})\.jsonl\.gz")

MALFORMED = (ValueError, msgspec.DecodeError)
"""What reading a line raises when it is not what it should be."""

Row = Sequence[Any]
"""The columns of an event in the order of `RecordedEvent`; ids and the name of the stream may be packed or not."""


class Beginning(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. The events `first` to `through` follow the hash `prev_hash`; `hash` is that of the last one.

    `recorded_from` and `recorded_to` are the earliest and the latest of the times at which they were recorded, in ms.
    """

    format: str = FORMAT
    format_version: int = VERSION
    first: int
    through: int
    prev_hash: str
    hash: str
    recorded_from: int
    recorded_to: int


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """The last line: what the log goes on from. `state` is canonical JSON, `streams` the last version of those that go on."""

    through: int
    state_schema: int
    streams: Mapping[str, int]
    state: msgspec.Raw


class _Event(msgspec.Struct, frozen=True):
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
    data: msgspec.Raw
    prev_hash: str
    hash: str


class _Narrow(msgspec.Struct, frozen=True):
    position: int
    stream: str
    type: str
    schema: int
    recorded_at: int
    principal: str
    correlation_id: str
    data: msgspec.Raw


class Asked(msgspec.Struct, frozen=True):
    """Which events are asked for: those that match everything given, as in `Reader.read`."""

    streams: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    principal: str | None = None
    correlation_id: str | None = None
    recorded_from: int | None = None
    recorded_to: int | None = None

    def matches(self, line: bytes) -> bool:
        """Whether the event in this line is asked for. Raises one of MALFORMED for a line that is none."""
        event = _narrow(line)
        return (
            (not self.streams or event.stream in self.streams)
            and (not self.types or event.type in self.types)
            and (self.principal is None or event.principal == self.principal)
            and (self.correlation_id is None or event.correlation_id == self.correlation_id)
            and (self.recorded_from is None or event.recorded_at >= self.recorded_from)
            and (self.recorded_to is None or event.recorded_at <= self.recorded_to)
        )

    def may_be_in(self, beginning: Beginning) -> bool:
        """False where the first line of a file already tells that no event there can match."""
        return (self.recorded_from is None or beginning.recorded_to >= self.recorded_from) and (
            self.recorded_to is None or beginning.recorded_from <= self.recorded_to
        )


EVERYTHING = Asked()

_encode = msgspec.json.Encoder().encode
_whole = msgspec.json.Decoder(_Event).decode
_narrow = msgspec.json.Decoder(_Narrow).decode
_beginning = msgspec.json.Decoder(Beginning).decode
_ending = msgspec.json.Decoder(Ending).decode


def name_of(first: int, through: int) -> str:
    """The name of the file with these positions."""
    return f"events-{first:012d}-{through:012d}.jsonl.gz"


def range_of(name: str) -> tuple[int, int] | None:
    """The first and the last position of the file with this name; None when it is no name of an archive."""
    found = _NAME.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else None


def line_of(row: Row) -> bytes:
    """The line of an event, with its line end. Raises TypeError, ValueError or AttributeError for a row that is no event."""
    position, stream, version, type, schema, event_id, at, principal, correlation, causation, data, prev, hash = row
    event = _Event(
        position,
        unpacked_stream(stream),
        version,
        type,
        schema,
        uuid_text(event_id) if event_id.__class__ is bytes and len(event_id) == 16 else unpacked(event_id),
        at,
        principal,
        recent_text(correlation)
        if correlation.__class__ is bytes and len(correlation) == 16
        else unpacked(correlation),
        unpacked(causation),
        msgspec.Raw(data.encode()),
        prev.hex(),
        hash.hex(),
    )
    return _encode(event) + b"\n"


def row_of(line: bytes) -> tuple[Any, ...]:
    """The columns of the event in a line, with ids as text. Raises one of MALFORMED for a line that is no event."""
    event = _whole(line)
    return (
        event.position,
        event.stream,
        event.version,
        event.type,
        event.schema,
        event.event_id,
        event.recorded_at,
        event.principal,
        event.correlation_id,
        event.causation_id,
        bytes(event.data).decode(),
        bytes.fromhex(event.prev_hash),
        bytes.fromhex(event.hash),
    )


def event_in(line: bytes) -> RecordedEvent:
    """The event in a line. Raises one of MALFORMED for a line that is none."""
    event = _whole(line)
    return RecordedEvent(
        position=event.position,
        stream=event.stream,
        version=event.version,
        type=event.type,
        schema=event.schema,
        event_id=event.event_id,
        recorded_at=event.recorded_at,
        principal=event.principal,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        data=bytes(event.data),
        prev_hash=bytes.fromhex(event.prev_hash),
        hash=bytes.fromhex(event.hash),
    )


def line_in(line: bytes) -> Line:
    """What folding needs of the event in a line. Raises one of MALFORMED for a line that is none."""
    event = _narrow(line)
    return Line(
        event.position,
        event.stream,
        event.type,
        event.schema,
        event.recorded_at,
        event.principal,
        event.correlation_id,
        bytes(event.data),
    )


def beginning_of(before: Head, head: Head, recorded_from: int, recorded_to: int) -> bytes:
    """The first line of a file with the events after `before`, up to `head`."""
    beginning = Beginning(
        first=before.position + 1,
        through=head.position,
        prev_hash=before.hash.hex(),
        hash=head.hash.hex(),
        recorded_from=recorded_from,
        recorded_to=recorded_to,
    )
    return _encode(beginning) + b"\n"


def beginning_in(line: bytes) -> Beginning:
    """The first line, read. Raises one of MALFORMED for what is none, or that of a later form than this program knows."""
    beginning = _beginning(line)
    if beginning.format != FORMAT or beginning.format_version != VERSION:
        raise ValueError("another form of archive")
    return beginning


def ending_of(through: int, state: bytes, state_schema: int, streams: Mapping[str, int]) -> bytes:
    """The last line of a file."""
    sorted_streams = {stream: streams[stream] for stream in sorted(streams)}
    ending = Ending(through=through, state_schema=state_schema, streams=sorted_streams, state=msgspec.Raw(state))
    return _encode(ending) + b"\n"


def ending_in(line: bytes) -> Ending:
    """The last line, read. Raises one of MALFORMED for what is none."""
    return _ending(line)


Build = Callable[[bytes], Any]
"""What is made of an event's line: `event_in`, `line_in` or `row_of`."""
