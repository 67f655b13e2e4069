"""`llmux events`: the log as a table or as JSON lines."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click
import trio

from llmux.cli.command import Command, read_log
from llmux.events import RecordedEvent
from llmux.eventstore import Reader

FOLLOW_INTERVAL_S = 0.25


@click.command(cls=Command)
@click.option("--follow", is_flag=True, help="Go on with what is recorded from now on.")
@click.option("--stream", help="Only this stream, such as request-0192… or gateway.")
@click.option("--type", "types", multiple=True, help="Only events of this type; may be given more than once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def events(follow: bool, stream: str | None, types: tuple[str, ...], as_json: bool) -> None:
    """Print the events of the log."""
    show = _json_line if as_json else _text_line
    read_log(partial(_print_events, follow=follow, stream=stream, types=types, show=show))


async def _print_events(
    reader: Reader, *, follow: bool, stream: str | None, types: tuple[str, ...], show: Callable[[RecordedEvent], str]
) -> None:
    position = 0
    page = reader.limits.read_rows_max
    while True:
        head = await reader.head_on_disk()
        recorded = await reader.read(after=position, limit=page, stream=stream, types=types)
        for event in recorded:
            click.echo(show(event))
            position = event.position
        if len(recorded) < page:
            if not follow:
                return
            position = max(position, head.position)  # up to there, whatever matches is printed now
            await trio.sleep(FOLLOW_INTERVAL_S)


def _plain_event(event: RecordedEvent) -> dict[str, Any]:
    return {
        "position": event.position,
        "stream": event.stream,
        "version": event.version,
        "type": event.type,
        "schema": event.schema,
        "event_id": event.event_id,
        "recorded_at": _time_of(event),
        "principal": event.principal,
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "data": json.loads(event.data),
        "hash": event.hash.hex(),
    }


def _json_line(event: RecordedEvent) -> str:
    return json.dumps(_plain_event(event), ensure_ascii=False, separators=(",", ":"))


def _text_line(event: RecordedEvent) -> str:
    data = event.data.decode()
    shown = data if len(data) <= 160 else data[:159] + "…"
    return f"{event.position:>8}  {_time_of(event)}  {event.stream:<46}  {event.type:<18}  {shown}"


def _time_of(event: RecordedEvent) -> str:
    moment = datetime.fromtimestamp(event.recorded_at / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
