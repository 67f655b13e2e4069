"""The hash chain: what is hashed, in which form, and where the chain begins. Pure.

An event's hash covers every field of its envelope and the hash of the event before it, so that no field of any event can
change without every later hash changing too. The hashed message is unambiguous: a domain, twelve integers (the numeric
fields and the length of each variable field) as 8 big-endian bytes each, then the variable fields, one after the other.
"""

import hashlib
import hmac
import struct

import msgspec

from llmux.events import RecordedEvent

GENESIS = hashlib.sha256(b"llmux: the event log begins").digest()
"""Stands in for the hash of the event before the first."""

_DOMAIN = b"llmux.event.1"
_HEADER = struct.Struct(f">{len(_DOMAIN)}s12q")


class Head(msgspec.Struct, frozen=True):
    """The end of the log: its last position (0 = empty) and that event's hash (32 bytes)."""

    position: int
    hash: bytes


EMPTY = Head(0, GENESIS)
"""The head of a log without events."""


def digest(
    position: int,
    stream: str,
    version: int,
    type: str,
    schema: int,
    event_id: str,
    recorded_at: int,
    principal: str,
    correlation_id: str,
    causation_id: str,
    data: bytes,
    prev_hash: bytes,
    key: bytes | None = None,
) -> bytes:
    """The hash of an event with these fields: SHA-256, or HMAC-SHA-256 when there is a `key`. 32 bytes.

    The parameters stand in the order of `RecordedEvent`. Raises UnicodeEncodeError for text that is no UTF-8 and
    struct.error for a number of more than 64 bits.
    """
    parts = (
        stream.encode(),
        type.encode(),
        event_id.encode(),
        principal.encode(),
        correlation_id.encode(),
        causation_id.encode(),
        data,
        prev_hash,
    )
    header = _HEADER.pack(_DOMAIN, position, version, schema, recorded_at, *map(len, parts))
    message = header + b"".join(parts)
    return hmac.digest(key, message, "sha256") if key is not None else hashlib.sha256(message).digest()


def hash_of(event: RecordedEvent, key: bytes | None = None) -> bytes:
    """The hash that `event` should have. Its own `hash` does not enter."""
    return digest(
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
        event.data,
        event.prev_hash,
        key,
    )
