"""The table of events: its columns, how an event becomes a row and a row an event, and how events are asked for.

Ids are UUIDs nearly always, and four of them stand in every row and index entry: as 16 bytes instead of 36 characters they
save about 80 bytes an event. The name of a stream that ends with a UUID is shortened likewise. What is no UUID in its
canonical form is stored as the text it is. The hash chain covers the text in either case: this is a matter of storage only.
"""

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from sqlalchemy import Column, Integer, LargeBinary, MetaData, Select, Table, Text, bindparam, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import NullType

from llmux.events import Line, RecordedEvent
from llmux.failures import LogDamaged

REVISION = "0002"
"""The revision of the schema that this package reads and writes; `llmux.migrations` brings a file there."""

EVENTS = Table(
    "events",
    MetaData(),
    Column("position", Integer, primary_key=True),
    Column("stream", NullType),
    Column("version", Integer),
    Column("type", Text),
    Column("schema", Integer),
    Column("event_id", NullType),
    Column("recorded_at", Integer),
    Column("principal", Text),
    Column("correlation_id", NullType),
    Column("causation_id", NullType),
    Column("data", Text),
    Column("prev_hash", LargeBinary),
    Column("hash", LargeBinary),
)
"""The columns in the order of `RecordedEvent`. The migration holds the full definition with its constraints and triggers."""

INSERT = str(EVENTS.insert().compile(dialect=sqlite.dialect(paramstyle="qmark")))
"""The text of the statement that inserts one row as `row_of` makes it."""


def packed(id: str) -> bytes | str:
    """An id as it is stored: 16 bytes when it is a UUID in canonical form, else the text itself."""
    return bytes.fromhex(id.replace("-", "")) if _is_uuid(id) else id


_is_uuid = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch

recently_packed = lru_cache(maxsize=1024)(packed)
"""The same, for ids that stand in several events that follow each other."""


def unpacked(stored: bytes | str) -> str:
    """The id that `packed` stored."""
    if isinstance(stored, str):
        return stored
    if len(stored) != 16:
        raise ValueError("an id of a wrong length")
    return uuid_text(stored)


def uuid_text(stored: bytes) -> str:
    """16 bytes as a UUID is written."""
    digits = stored.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


recent_text = lru_cache(maxsize=1024)(uuid_text)
"""The same, for ids that stand in several events that follow each other."""


def packed_stream(stream: str) -> bytes | str:
    """The name of a stream as it is stored: `category-` and 16 bytes where it ends with a UUID, else the text itself."""
    if len(stream) > 37 and stream[-37] == "-":
        id = recently_packed(stream[-36:])
        if isinstance(id, bytes):
            return stream[:-36].encode() + id
    return stream


def unpacked_stream(stored: bytes | str) -> str:
    """The name that `packed_stream` stored."""
    if isinstance(stored, str):
        return stored
    if len(stored) < 18 or stored[-17] != _DASH:
        raise ValueError("no name of a stream")
    return stored[:-16].decode() + recent_text(stored[-16:])


_DASH = ord("-")


def is_findable(row: Any) -> bool:
    """Whether ids and the name of the stream in a row of the table are in the one form in which they are looked up.

    Bytes that can be unpacked are; text is, unless it would have been packed.
    """
    stream, event_id, correlation, causation = row[1], row[5], row[8], row[9]
    return not (
        (stream.__class__ is str and len(stream) > 37 and packed_stream(stream) != stream)
        or (event_id.__class__ is str and len(event_id) == 36 and _is_uuid(event_id))
        or (correlation.__class__ is str and len(correlation) == 36 and _is_uuid(correlation))
        or (causation.__class__ is str and len(causation) == 36 and _is_uuid(causation))
    )


def row_of(event: RecordedEvent) -> tuple[Any, ...]:
    """The event as a row for `INSERT`."""
    return (
        event.position,
        packed_stream(event.stream),
        event.version,
        event.type,
        event.schema,
        packed(event.event_id),
        event.recorded_at,
        event.principal,
        recently_packed(event.correlation_id),
        recently_packed(event.causation_id),
        event.data.decode(),
        event.prev_hash,
        event.hash,
    )


def event_of(row: Any) -> RecordedEvent:
    """The event in a row of `EVENTS`. Raises LogDamaged when the row cannot be one."""
    (position, stream, version, type, schema, event_id, at, principal, correlation, causation, data, prev, hash) = row
    try:
        return RecordedEvent(
            position,
            unpacked_stream(stream),
            version,
            type,
            schema,
            unpacked(event_id),
            at,
            principal,
            unpacked(correlation),
            unpacked(causation),
            data.encode(),
            prev,
            hash,
        )
    except (TypeError, ValueError, AttributeError):
        raise LogDamaged(f"The row of position {position} is malformed.", position) from None


LINES = (
    "SELECT position, stream, type, schema, recorded_at, principal, correlation_id, data FROM events "
    "WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
)
"""What folding needs of the events (parameters: after, until, limit)."""


ROWS = "SELECT * FROM events WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
"""The same events with all columns."""


_recent_stream = lru_cache(maxsize=1024)(unpacked_stream)


def line_of(row: Any) -> Line:
    """The line in a row of `LINES`. Raises LogDamaged when the row cannot be one."""
    position, stream, type, schema, at, principal, correlation, data = row
    try:
        if stream.__class__ is bytes:
            stream = _recent_stream(stream)
        if correlation.__class__ is bytes:
            correlation = recent_text(correlation) if len(correlation) == 16 else unpacked(correlation)
        return Line(position, stream, type, schema, at, principal, correlation, data)
    except (TypeError, ValueError, AttributeError):
        raise LogDamaged(f"The row of position {position} is malformed.", position) from None


def query(
    *,
    after: int,
    limit: int,
    until: int | None = None,
    stream: str | None = None,
    streams: Collection[str] = (),
    types: Collection[str] = (),
    principal: str | None = None,
    correlation_id: str | None = None,
    recorded_from: int | None = None,
    recorded_to: int | None = None,
    newest_first: bool = False,
) -> Select[Any]:
    """The events with `after` < position <= `until` that match every filter, in the order of their positions, or against it.

    `streams` are taken together: an event of any of them matches.
    """
    column = EVENTS.c
    chosen = select(EVENTS).where(column.position > after).limit(limit)
    if until is not None:
        chosen = chosen.where(column.position <= until)
    if types:
        chosen = chosen.where(column.type.in_(sorted(types)))
    if principal is not None:
        chosen = chosen.where(column.principal == principal)
    if correlation_id is not None:
        chosen = chosen.where(column.correlation_id == packed(correlation_id))
    if recorded_from is not None:
        chosen = chosen.where(column.recorded_at >= recorded_from)
    if recorded_to is not None:
        chosen = chosen.where(column.recorded_at <= recorded_to)
    if streams:
        names = [
            packed_stream(each) for each in sorted(streams)
        ]  # of two types, of which SQLAlchemy would take the first's
        chosen = chosen.where(column.stream.in_(bindparam("streams", names, NullType(), expanding=True)))
    order = column.position
    if stream is not None:  # within a stream both orders are the same, and this one is the index's own
        chosen = chosen.where(column.stream == packed_stream(stream))
        order = column.version
    return chosen.order_by(order.desc() if newest_first else order)
