"""`llmux events`: the log as a table, as lines, or as JSON; and `llmux request`: what became of one request."""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial

import click
import trio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmux.actors.history import Wanted
from llmux.actors.moments import iso, time_of
from llmux.actors.stories import plain_event, story_of, streams_of
from llmux.cli.command import Command, CommandWithMore, print_json, read_log
from llmux.events import TYPES, RecordedEvent
from llmux.eventstore import Reader
from llmux.failures import ClientFailure, printable

FOLLOW_INTERVAL_S = 0.25
DATA_CHARS_MAX = 160
POSITION_MAX = 2**63 - 1

Show = Callable[[Sequence[RecordedEvent]], None]
"""Prints the next events."""


class _Time(click.ParamType[int]):
    """A wall time in ms; without a zone it is local time."""

    name = "time"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else time_of(value, "", local=True)
        except ClientFailure:
            self.fail("write a time such as 2026-11-22T18:30:00Z, or ms since 1970", param, ctx)


@click.command(cls=CommandWithMore)
@click.option("--follow", is_flag=True, help="Go on with what is recorded from now on.")
@click.option(
    "--stream", "streams", multiple=True, help="Only this stream, such as gateway; may be given more than once."
)
@click.option("--type", "types", multiple=True, help="Only events of this type; may be given more than once.")
@click.option("--principal", help="Only what this key id (or local, admin, gateway) caused.")
@click.option("--request", "request_id", help="Only the events of this request and of its flight.")
@click.option("--after", type=click.IntRange(0, POSITION_MAX), default=0, help="Begin after this position.")
@click.option("--until", type=click.IntRange(0, POSITION_MAX), help="End with this position.")
@click.option("--from", "recorded_from", type=_Time(), help="Only what was recorded at this time or later.")
@click.option("--to", "recorded_to", type=_Time(), help="Only what was recorded at this time or before.")
@click.option("--limit", type=click.IntRange(1), help="Print at most so many events.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--table/--lines", default=None, help="A table (the default on a terminal), or one line an event.")
def events(
    follow: bool,
    streams: tuple[str, ...],
    types: tuple[str, ...],
    principal: str | None,
    request_id: str | None,
    after: int,
    until: int | None,
    recorded_from: int | None,
    recorded_to: int | None,
    limit: int | None,
    as_json: bool,
    table: bool | None,
) -> None:
    """Print the events of the log."""
    if follow and recorded_to is not None:
        raise click.UsageError("--follow goes on, and --to ends: give one of them.")
    for name in sorted(frozenset(types) - TYPES.keys()):  # it may be what a newer version recorded
        click.echo(f"llmux: This version knows no event that is called '{printable(name, 60)}'.", err=True)
    wanted = Wanted(frozenset(streams), frozenset(types), principal, recorded_from, recorded_to)
    as_table = sys.stdout.isatty() if table is None else table
    show = _as_json if as_json else EventTable().print if as_table else _as_lines

    async def work(reader: Reader) -> None:
        chosen = wanted if request_id is None else await _of_request(reader, wanted, request_id)
        await print_events(reader, chosen, show, follow=follow, after=after, until=until, limit=limit)

    read_log(work)


async def _of_request(reader: Reader, wanted: Wanted, id: str) -> Wanted:
    streams = frozenset(await streams_of(reader, id))
    if wanted.streams and not (streams := streams & wanted.streams):
        raise click.UsageError("No event of that request is in such a stream.")
    return Wanted(streams, wanted.types, wanted.principal, wanted.recorded_from, wanted.recorded_to)


async def print_events(
    reader: Reader,
    wanted: Wanted,
    show: Show,
    *,
    follow: bool = False,
    after: int = 0,
    until: int | None = None,
    limit: int | None = None,
) -> None:
    """Shows the events after `after` that match, page by page, up to `until` or `limit` of them; with `follow`, also those to
    come. Reads no event twice.
    """
    position, left = after, limit
    while True:
        head = await reader.head_on_disk()
        rows = reader.limits.read_rows_max if left is None else min(left, reader.limits.read_rows_max)
        recorded = await reader.read(
            after=position,
            until=until,
            limit=rows,
            streams=wanted.streams,
            types=wanted.types,
            principal=wanted.principal,
            recorded_from=wanted.recorded_from,
            recorded_to=wanted.recorded_to,
        )
        if recorded:
            show(recorded)
            position = recorded[-1].position
            left = None if left is None else left - len(recorded)
        if left == 0:
            return
        if len(recorded) < rows:
            if not follow or (until is not None and head.position >= until):
                return
            position = max(position, head.position)  # up to there, whatever matches is printed now
            await trio.sleep(FOLLOW_INTERVAL_S)


def _as_json(recorded: Sequence[RecordedEvent]) -> None:
    for event in recorded:
        click.echo(json.dumps(plain_event(event), ensure_ascii=False, separators=(",", ":")))


def _as_lines(recorded: Sequence[RecordedEvent]) -> None:
    for event in recorded:
        click.echo(
            f"{event.position:>8}  {iso(event.recorded_at)}  {event.stream:<46}  {event.type:<18}  {_data_of(event)}"
        )


def _data_of(event: RecordedEvent) -> str:
    return printable(event.data.decode(), DATA_CHARS_MAX)


class EventTable:
    """A table that goes on for as long as there are events: the widths of its columns stay, the head is printed once."""

    def __init__(self, console: Console | None = None):
        self._console = console or Console()
        self._headed = False

    def print(self, recorded: Sequence[RecordedEvent]) -> None:
        """Prints a row for each event."""
        table = Table(box=None, pad_edge=False, expand=True, show_header=not self._headed, header_style="bold")
        self._headed = True
        table.add_column("position", justify="right", width=8, no_wrap=True)
        table.add_column("recorded at", width=24, no_wrap=True)
        table.add_column("stream", min_width=12, ratio=3, no_wrap=True, overflow="ellipsis")
        table.add_column("type", width=18, no_wrap=True, overflow="ellipsis")
        table.add_column("principal", width=9, no_wrap=True, overflow="ellipsis")
        table.add_column("data", min_width=12, ratio=5, no_wrap=True, overflow="ellipsis")
        for event in recorded:
            shown = (event.stream, event.type, event.principal, _data_of(event))
            table.add_row(str(event.position), iso(event.recorded_at), *map(Text, shown))
        self._console.print(table)


@click.command(cls=Command)
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="Print the whole story as JSON.")
def request(id: str, as_json: bool) -> None:
    """Tell the story of the request with this ID (the header x-request-id of its answer)."""
    read_log(partial(_tell, id=id, as_json=as_json))


async def _tell(reader: Reader, *, id: str, as_json: bool) -> None:
    story = await story_of(reader, id)
    if as_json:
        print_json(story.plain())
        return
    for sentence in story.summary:
        click.echo(printable(sentence, 2000))
    click.echo()
    for event in story.events:
        click.echo(f"{event['position']:>8}  {event['recorded_at']}  {event['type']}")
