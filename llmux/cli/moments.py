"""Moments of the log as people type them: a position, or a time."""

import re
from datetime import UTC, datetime, timedelta

import click
import msgspec

from llmux.eventstore import Reader

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Moment(msgspec.Struct, frozen=True):
    """Either a `position` of the log or a wall time in ms since 1970 (`time_ms`); the other is None."""

    position: int | None = None
    time_ms: int | None = None


def moment_of(text: str, option: str) -> Moment:
    """What `text` names. A time without a zone is local time. Raises BadParameter, which names `option`."""
    if re.fullmatch(r"[0-9]{1,18}", text):
        return Moment(position=int(text))
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
        return Moment(time_ms=(moment - _EPOCH) // timedelta(milliseconds=1))
    except (ValueError, OverflowError):
        raise click.BadParameter(
            "write a position such as 120, or a time such as 2026-11-22T18:30:00Z", param_hint=option
        ) from None


async def position_at(reader: Reader, moment: Moment) -> int:
    """The position that the moment names: itself, or the last one before the first event that is recorded later."""
    if moment.position is not None:
        return moment.position
    assert moment.time_ms is not None
    position, page = 0, reader.limits.read_rows_max
    while recorded := await reader.read(after=position, limit=page):
        for event in recorded:
            if event.recorded_at > moment.time_ms:
                return position
            position = event.position
    return position
