"""Is the log what was written? Walks the chain and names the first position that does not fit."""

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from llmux.eventstore.chain import EMPTY, NO_KEYS, UNKEYED, Head, Keys, message, sealed
from llmux.eventstore.origin import Origin
from llmux.eventstore.reader import Reader
from llmux.eventstore.table import is_findable, unpacked, uuid_text
from llmux.eventstore.vouching import check_origin
from llmux.failures import ChainKeyWrong, LogDamaged, StoreFailure, TailMissing, printable

PAGE = 10_000


class Verified(msgspec.Struct, frozen=True):
    """The log is whole: `events` were checked, and `head` is where it ends. `key` names the key of its end ("" = none)."""

    events: int
    head: Head
    key: str = UNKEYED


async def verify(
    reader: Reader,
    *,
    first: int | None = None,
    walk: "Walk | None" = None,
    keys: Keys = NO_KEYS,
    progress: Callable[[int, int], object] | None = None,
) -> Verified:
    """Checks every event from position `first` (the file's first) to the end of the log as it is now; it may go on growing.

    Checked are: positions and versions without gaps, every hash, every link to the hash before, that no tail is missing, and
    the file itself. What precedes `first` is trusted; a `walk` that has come through the archives goes on from there instead.
    Unknown types of events are no damage. `progress` is called with (position, last position) after each page.

    Raises LogDamaged, which names the first bad position and what is wrong with it (TailMissing, when it is the end that is
    missing); ChainKeyWrong, when nothing is wrong as far as the `keys` show, but they do not show everything; StoreFailure
    when the log cannot be read at all; ValueError for a position that is not in the file.
    """
    while True:
        origin = await reader.origin()
        try:
            return await _verify(reader, origin, first, walk, keys, progress)
        except (LogDamaged, ValueError):
            if walk is not None or (await reader.origin()).head == origin.head:
                raise  # else events moved into archives meanwhile, which looks as if they were missing


async def _verify(
    reader: Reader,
    begins: Origin,
    first: int | None,
    walk: "Walk | None",
    keys: Keys,
    progress: Callable[[int, int], object] | None,
) -> Verified:
    last, ever = await reader.ends()
    origin = begins.head
    last, ever = max(last, origin.position), max(ever, origin.position)
    if walk is None:
        walk = Walk(await _before(reader, first or origin.position + 1, origin, last), keys)
    elif walk.head != origin:
        raise LogDamaged(
            f"The archives do not lead to what position {origin.position + 1} follows.", origin.position + 1
        )
    await check_origin(reader, begins)
    gap = await reader.version_gap(walk.head.position, last)
    while walk.head.position < last:
        rows = await _page(reader, walk.head.position, last)
        if not rows:
            raise LogDamaged(f"Position {walk.head.position + 1} is missing.", walk.head.position + 1)
        walk.take(rows, gap, stored=True)
        if progress is not None:
            progress(walk.head.position, last)
    if ever != last:
        raise TailMissing(
            f"The log ends at position {last}, but its last position was {ever} once: the tail is missing.", last + 1
        )
    if await reader.integrity() != "ok":
        raise LogDamaged("Every event is whole, but the file around them is damaged: SQLite's integrity check fails.")
    return walk.ended()


async def key_at_end(reader: Reader, keys: Keys) -> str | None:
    """The name of that of `keys` which the last event is under, the present one for an empty log; None when it is none of them."""
    last = (await reader.head_on_disk()).position
    rows = await reader.rows(after=last - 1, until=last, limit=1)
    if not rows:
        return keys.name
    try:
        text = _message(rows[0])
    except (TypeError, ValueError, AttributeError, struct.error):
        raise LogDamaged(f"Position {last}: the row is malformed. Restore the log from a backup.", last) from None
    for key, name in zip(keys.eras, keys.names, strict=True):
        if sealed(text, key) == rows[0][12]:
            return name
    return None


async def check_end(reader: Reader, keys: Keys) -> None:
    """Raises ChainKeyWrong unless the log ends under the present one of `keys`, so that it can go on under it."""
    found = await key_at_end(reader, keys)
    if found == keys.name:
        return
    last = (await reader.head_on_disk()).position
    what_is_set = f"LLMUX_CHAIN_KEY is set ({keys.name})" if keys.name else "LLMUX_CHAIN_KEY is not set"
    if found is not None:
        raise ChainKeyWrong(
            f"{what_is_set}, but the log has gone on {f'under {found}' if found else 'without a key'} up to its end, at "
            f"position {last}. If the key that is set is new, type: llmux rekey. If it is not, somebody has written the log "
            "anew: type `llmux verify`, and restore a backup.",
            last,
        )
    raise ChainKeyWrong(
        f"{what_is_set}, but the last event of the log, at position {last}, is under another key, or was changed: `llmux "
        "verify` tells. Set the key that the log was written with, in LLMUX_CHAIN_KEY or LLMUX_CHAIN_KEY_FILE (for a new key, "
        "the old one and behind it the new one, separated by a blank). If it is lost, set a new one and type: "
        "llmux rekey --lost",
        last,
    )


class Walk:
    """Goes along the chain, event by event. `head` is the last one of those that were taken and fit.

    Which key an event is under, its hash itself tells. A log goes through its keys in their order and never back, so an event
    that is under none, or an earlier one, does not fit where a later one has been.
    """

    def __init__(self, head: Head = EMPTY, keys: Keys = NO_KEYS):
        self.head = self._began = head
        self._keys = keys
        self._era = 0
        self._unknown: tuple[int, str] | None = None
        """the first position whose key is not among ours, and that key's name"""
        self._blind = False
        """the events here are under such a key: only their links can be checked"""

    def take(self, rows: Iterable[Sequence[Any]], gap: int | None = None, *, stored: bool = False) -> None:
        """Goes over the next events: their columns, in order. Raises LogDamaged at the first one that does not fit.

        An id or the name of a stream may be packed or not, unless the rows are `stored` in the table. `gap` is a position
        whose version is known to be wrong.
        """
        position, hash = self.head.position, self.head.hash
        key = self._keys.eras[self._era]
        for row in rows:
            position += 1
            if row[0] != position:
                raise LogDamaged(f"Position {position} is missing; the next event is {row[0]}.", position)
            if row[11] != hash:
                raise LogDamaged(f"Position {position}: the hash of the event before it is another one.", position)
            try:
                text = _message(row)
            except (TypeError, ValueError, AttributeError, struct.error):
                raise LogDamaged(f"Position {position}: the row is malformed.", position) from None
            hash = row[12]
            if self._blind or sealed(text, key) != hash:
                self._turn(row, text)
                key = self._keys.eras[self._era]
            if stored and not is_findable(row):
                raise LogDamaged(
                    f"Position {position}: an id of it is stored in another form, so the event would not be found by it.",
                    position,
                )
            if position == gap:
                stream = printable(_text_of_stream(row[1]).decode(), 60)
                raise LogDamaged(f"Position {position}: version {row[2]} does not follow in {stream}.", position)
        self.head = Head(position, hash)

    def _turn(self, row: Sequence[Any], text: bytes) -> None:
        """The event is not under the key of those before it: finds the later one that it is under. Raises LogDamaged."""
        position, eras = row[0], self._keys.eras
        for era in range(self._era + 1, len(eras)):
            if sealed(text, eras[era]) == row[12]:
                self._era, self._blind = era, False
                return
        if self._blind:
            return
        name = _claimed(row)
        if not name or name in self._keys.names:
            # a walk that begins in the middle does not know the key there
            other = " It may be under a chain key that is not set." if position - 1 == self._began.position > 0 else ""
            raise LogDamaged(f"Position {position}: the content does not match its hash.{other}", position)
        self._unknown, self._blind = self._unknown or (position, name), True

    def ended(self) -> Verified:
        """The result, at the end of the log. Raises ChainKeyWrong when the keys do not tell everything."""
        present, last, began = self._keys.name, self.head.position, self._began.position
        if self._unknown is not None:
            position, name = self._unknown
            ours = f"; what is set is {present}" if present else ""
            raise ChainKeyWrong(
                f"Positions {position} to {last} are hashed with the key {name}{ours}. Set LLMUX_CHAIN_KEY, or "
                "LLMUX_CHAIN_KEY_FILE, to check them. All that can be checked without it is well.",
                position,
            )
        if self._keys.eras[self._era] != self._keys.present and last > began:
            raise ChainKeyWrong(
                f"Every event is whole, but the last one, at position {last}, is not hashed with the chain key that is set "
                f"({present}). If the key is new, type `llmux rekey`. If it is not, somebody has written this log anew.",
                last,
            )
        return Verified(last - began, self.head, self._keys.names[self._era])


def _message(row: Sequence[Any]) -> bytes:
    """What is hashed of a row. Raises TypeError, ValueError, AttributeError or struct.error when it is no event."""
    position, stream, version, type, schema, event_id, at, principal, correlation, causation, data, prev, _ = row
    parts = (
        _text_of_stream(stream),
        type.encode(),
        uuid_text(event_id).encode() if event_id.__class__ is bytes and len(event_id) == 16 else _text_of(event_id),
        principal.encode(),
        _text_of(correlation),
        _text_of(causation),
        data.encode(),
        prev,
    )
    return message(position, version, schema, at, parts)


@lru_cache(maxsize=4096)
def _text_of(stored: bytes | str) -> bytes:
    return unpacked(stored).encode()


def _text_of_stream(stored: bytes | str) -> bytes:
    if isinstance(stored, str):
        return stored.encode()
    if len(stored) < 18 or stored[-17:-16] != b"-":
        raise ValueError("no name of a stream")
    return stored[:-16] + _text_of(stored[-16:])


_CLAIMS = {"GatewayStarted": "chain", "ChainKeyChanged": "after"}
"""The events that a time under a new key begins with, and where they name it."""


def _claimed(row: Sequence[Any]) -> str:
    """The name of the key that an event says begins with it ("" = none). Believed only for what to say of it."""
    field = _CLAIMS.get(row[3])
    try:
        name = msgspec.json.decode(row[10]).get(field, "") if field else ""
    except (msgspec.DecodeError, AttributeError):
        return ""
    return printable(name, 40) if isinstance(name, str) else ""


async def _before(reader: Reader, first: int, origin: Head, last: int) -> Head:
    """The head as it was before position `first`."""
    if 0 < first <= origin.position:
        raise ValueError(f"the positions up to {origin.position} are in archives; to check them, add --archives")
    if not origin.position < first <= last + 1:
        raise ValueError(f"the log has positions {origin.position + 1} to {last}; there is no {first}")
    if first == origin.position + 1:
        return origin
    rows = await _page(reader, first - 2, first - 1)
    if not rows:
        raise LogDamaged(f"Position {first - 1} is missing.", first - 1)
    return Head(first - 1, rows[0][12])


async def _page(reader: Reader, after: int, until: int) -> Sequence[Any]:
    """The next rows, fewer where a page cannot be read. Raises LogDamaged when not even the next one can."""
    limit = min(PAGE, until - after)
    while True:
        try:
            return await reader.rows(after=after, until=after + limit, limit=limit)
        except StoreFailure as failure:
            if failure.code == "store_busy":
                raise
            if limit == 1:
                raise LogDamaged(f"Position {after + 1} cannot be read: {failure}", after + 1) from failure
        limit = max(1, limit // 16)
