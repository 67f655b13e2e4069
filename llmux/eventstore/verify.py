"""Is the log what was written? Walks the chain and names the first position that does not fit."""

from collections.abc import Callable

import msgspec

from llmux.events import RecordedEvent
from llmux.eventstore.chain import EMPTY, Head, hash_of
from llmux.eventstore.reader import Reader
from llmux.failures import LogDamaged, StoreFailure

PAGE = 1_000


class Verified(msgspec.Struct, frozen=True):
    """The log is whole: `events` were checked, and `head` is where it ends."""

    events: int
    head: Head


async def verify(
    reader: Reader, *, first: int = 1, progress: Callable[[int, int], object] | None = None, key: bytes | None = None
) -> Verified:
    """Checks every event from position `first` to the end of the log as it is now; a store may go on appending.

    Checked are: positions and versions without gaps, every hash, every link to the hash before, that no tail is missing, and
    the file itself. With `first` > 1 the event before it is trusted. Unknown types of events are no damage.
    `progress` is called with (position, last position) after each page. Raises LogDamaged, which names the first bad
    position and what is wrong with it; StoreFailure when the log cannot be read at all.
    """
    last, count = await reader.ends()
    if not 1 <= first <= last + 1:
        raise ValueError(f"the log has positions 1 to {last}; there is no {first}")
    head = await _before(reader, first)
    gap = await reader.version_gap(head.position, last)
    while head.position < last:
        page = await _page(reader, head.position, last)
        if not page:
            raise LogDamaged(f"Position {head.position + 1} is missing.", head.position + 1)
        for event in page:
            head = _next(head, event, key)
            if event.position == gap:
                raise LogDamaged(f"Position {gap}: version {event.version} does not follow in {event.stream}.", gap)
        if progress is not None:
            progress(head.position, last)
    if count != last:
        raise LogDamaged(
            f"The log ends at position {last}, but its last position was {count} once: the tail is missing.", last + 1
        )
    state = await reader.integrity()
    if state != "ok":
        raise LogDamaged("Every event is whole, but the file around them is damaged: SQLite's integrity check fails.")
    return Verified(last - first + 1, head)


def _next(head: Head, event: RecordedEvent, key: bytes | None) -> Head:
    """The head after `event`. Raises LogDamaged when it does not belong there."""
    here = head.position + 1
    if event.position != here:
        raise LogDamaged(f"Position {here} is missing; the next event is {event.position}.", here)
    if event.prev_hash != head.hash:
        raise LogDamaged(f"Position {here}: the hash of the event before it is another one.", here)
    try:
        expected = hash_of(event, key)
    except (TypeError, ValueError, AttributeError):
        raise LogDamaged(f"Position {here}: the row is malformed.", here) from None
    if event.hash != expected:
        raise LogDamaged(f"Position {here}: the content does not match its hash.", here)
    return Head(here, event.hash)


async def _before(reader: Reader, first: int) -> Head:
    """The head as it was before position `first`."""
    if first == 1:
        return EMPTY
    events = await reader.read(after=first - 2, until=first - 1, limit=1)
    if not events:
        raise LogDamaged(f"Position {first - 1} is missing.", first - 1)
    return Head(first - 1, events[0].hash)


async def _page(reader: Reader, after: int, until: int) -> list[RecordedEvent]:
    """The next events. When a page cannot be read, the ones before the trouble, and then the trouble with its position."""
    limit = min(PAGE, reader.limits.read_rows_max)
    try:
        return await reader.read(after=after, until=until, limit=limit)
    except StoreFailure as failure:
        if failure.code == "store_busy":
            raise
    good: list[RecordedEvent] = []
    try:
        while len(good) < limit and after + len(good) < until:
            here = after + len(good)
            good += await reader.read(after=here, until=here + 1, limit=1) or [await _one(reader, here, until)]
    except StoreFailure as failure:
        if good:
            return good
        raise LogDamaged(f"Position {after + 1} cannot be read: {failure}", after + 1) from failure
    return good


async def _one(reader: Reader, after: int, until: int) -> RecordedEvent:
    events = await reader.read(after=after, until=until, limit=1)
    if not events:
        raise LogDamaged(f"Position {after + 1} is missing.", after + 1)
    return events[0]
