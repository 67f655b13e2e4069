"""Moments of the log, as people write them: a position, or a time."""

import re
from datetime import UTC, datetime, timedelta

from llmux.eventstore import Reader
from llmux.failures import ClientFailure, printable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[0-9]{1,18}")
_LOST_PLUS = re.compile(r"(T[^ ]+) (\d\d:?\d\d)")
"""a zone whose + a URL turned into a blank"""


def iso(ms: int) -> str:
    """Wall time in ms as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_of(text: str, param: str, *, local: bool = False) -> int:
    """The wall time in ms that `text` names: ISO 8601, or ms since 1970. Without a zone it is UTC, or `local` time.

    Raises ClientFailure, which names `param`.
    """
    if _NUMBER.fullmatch(text):
        return int(text)
    try:
        named = datetime.fromisoformat(_LOST_PLUS.sub(r"\1+\2", text))
        if named.tzinfo is None and not local:
            named = named.replace(tzinfo=UTC)
        return (named.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise ClientFailure(
            f"{param}: '{printable(text, 60)}' is no time. Write one such as 2026-11-22T18:30:00Z, or ms since 1970.",
            param=param,
        ) from None


async def position_at(reader: Reader, text: str, param: str = "at") -> int:
    """The position that `text` names: itself, or the last one before the first event that is recorded later than that time.

    A plain number is a position. Raises ClientFailure for what is neither, and for a position after the head.
    """
    head = (await reader.head_on_disk()).position
    if _NUMBER.fullmatch(text):
        if int(text) > head:
            raise ClientFailure(f"{param}: the log ends at position {head}.", param=param)
        return int(text)
    try:
        limit_ms = time_of(text, param)
    except ClientFailure:
        raise ClientFailure(
            f"{param}: '{printable(text, 60)}' is neither a position such as 120 nor a time such as 2026-11-22T18:30:00Z.",
            param=param,
        ) from None
    later = await reader.read(limit=1, recorded_from=limit_ms + 1)
    return later[0].position - 1 if later else head
