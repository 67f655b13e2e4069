"""Moments of the log as people type them on the command line: a position, or a time, which without a zone is local."""

import re

import click
import msgspec

from llmux.actors.moments import time_of
from llmux.eventstore import Reader
from llmux.failures import ClientFailure


class Moment(msgspec.Struct, frozen=True):
    """Either a `position` of the log or a wall time in ms since 1970 (`time_ms`); the other is None."""

    position: int | None = None
    time_ms: int | None = None


def moment_of(text: str, option: str) -> Moment:
    """What `text` names. Raises BadParameter, which names `option`."""
    if re.fullmatch(r"[0-9]{1,18}", text):
        return Moment(position=int(text))
    try:
        return Moment(time_ms=time_of(text, option, local=True))
    except ClientFailure:
        raise click.BadParameter(
            "write a position such as 120, or a time such as 2026-11-22T18:30:00Z", param_hint=option
        ) from None


async def position_at(reader: Reader, moment: Moment) -> int:
    """The position that the moment names: itself, or the last one before the first event that is recorded later."""
    if moment.position is not None:
        return moment.position
    assert moment.time_ms is not None
    head = await reader.head_on_disk()
    later = await reader.read(limit=1, recorded_from=moment.time_ms + 1)
    return later[0].position - 1 if later else head.position
