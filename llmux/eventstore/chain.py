"""The hash chain: what is hashed, in which form, and where the chain begins. Pure.

An event's hash covers every field of its envelope and the hash of the event before it, so that no field of any event can
change without every later hash changing too. The hashed message is unambiguous: a domain, twelve integers (the numeric
fields and the length of each variable field) as 8 big-endian bytes each, then the variable fields, one after the other.

The hash is SHA-256, which shows a change to whoever kept a later hash; or HMAC-SHA-256 under a key that is not where the log
is, which nobody can compute who has only the log. Which of them an event has is not written anywhere that would have to be
believed: the hash itself tells. A log goes through its keys in one order (none, the first, the second, ...) and never back.
"""

import hashlib
import hmac
import struct
from collections.abc import Sequence

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

UNKEYED = ""
"""The name of the time in which a log has no key."""


class Keys:
    """The keys of a log in the order in which they came into use. The last one is in use now; without any it is SHA-256.

    A key's bytes are the UTF-8 of its text. Shown are only names: "hmac:" and 16 hex digits of a hash of the key.
    """

    def __init__(self, texts: Sequence[str] = ()):
        self._keys: tuple[bytes | None, ...] = (None, *(text.encode() for text in texts))

    def __repr__(self) -> str:
        return f"<Keys {' '.join(map(name_of, self._keys[1:])) or 'none'}>"

    @property
    def eras(self) -> tuple[bytes | None, ...]:
        """What may have keyed an event, in the order of time; the first is None, for the time without a key."""
        return self._keys

    @property
    def present(self) -> bytes | None:
        """What keys the next event; None without a key."""
        return self._keys[-1]

    @property
    def earlier(self) -> "Keys":
        """All of them but the present one."""
        return Keys([key.decode() for key in self._keys[1:-1] if key is not None])

    @property
    def name(self) -> str:
        """The name of the present key, or UNKEYED."""
        return name_of(self.present)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all eras."""
        return tuple(map(name_of, self._keys))


def name_of(key: bytes | None) -> str:
    """How a key is called where people read of it; it tells nothing of the key but whether another one is the same."""
    return (
        UNKEYED if key is None else "hmac:" + hashlib.sha256(b"llmux: the name of a chain key" + key).hexdigest()[:16]
    )


NO_KEYS = Keys()


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
    return sealed(message(position, version, schema, recorded_at, parts), key)


def message(position: int, version: int, schema: int, recorded_at: int, parts: Sequence[bytes]) -> bytes:
    """What is hashed of an event. `parts`: stream, type, event id, principal, correlation id, causation id, data, hash before."""
    return _HEADER.pack(_DOMAIN, position, version, schema, recorded_at, *map(len, parts)) + b"".join(parts)


def sealed(message: bytes, key: bytes | None) -> bytes:
    """The hash of a message, under a key or without one."""
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
