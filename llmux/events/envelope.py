"""The envelope in which a fact is recorded."""

import msgspec

from llmux.events.catalogue import fact_of
from llmux.events.event import Event


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
