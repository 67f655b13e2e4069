"""`llmux archive`: the older part of the log moves into compressed files, through the running gateway or without one."""

from typing import Any

import click
import msgspec

from llmux import config
from llmux.actors.archiver import Archived, ArchiveLog
from llmux.actors.archiver import archive as archive_log
from llmux.actors.journal import Journal
from llmux.actors.moments import iso
from llmux.cli.command import Command
from llmux.cli.control import call, carry_out
from llmux.cli.moments import moment_of
from llmux.clock import SystemClock
from llmux.http.archive import ARCHIVE


@click.command(cls=Command)
@click.option(
    "--before",
    required=True,
    metavar="AGE|TIME|POSITION",
    help="What is older than 30d (or 12h), was recorded before 2026-01-01, or stands before a position.",
)
def archive(before: str) -> None:
    """Move the older part of the log into compressed files under DATA/archives, and give its room back.

    events, replay, usage, simulate and verify --archives go on reading it there.
    """
    settings, clock = config.from_environment(), SystemClock()
    before = _in_utc(before)

    async def here(journal: Journal) -> dict[str, Any]:
        done = await archive_log(journal, settings, clock, ArchiveLog(before, principal="admin"))
        return msgspec.to_builtins(done)  # type: ignore[no-any-return]

    def ask() -> dict[str, Any]:
        patience_s = settings.limits.archive_ms_max / 1000 + 5
        answer: dict[str, Any] = call(settings, "POST", ARCHIVE, {"before": before}, timeout_s=patience_s)
        return answer

    _tell(msgspec.convert(carry_out(settings, ask=ask, here=here), Archived))


def _in_utc(before: str) -> str:
    """Ages and positions stay what they are; a time without a zone is local time here, and would be UTC over there."""
    if before.removesuffix("d").removesuffix("h").isdigit():
        return before
    moment = moment_of(before, "--before")
    assert moment.time_ms is not None
    return iso(moment.time_ms)


def _tell(done: Archived) -> None:
    if not done.events:
        click.echo(f"Nothing to archive: the log begins after position {done.through}, and what follows is younger.")
    else:
        click.echo(f"Archived the positions {done.first} to {done.through} ({done.events} events) into:")
        for file in done.files:
            click.echo(f"  {file}")
        click.echo(f"They take {_size(done.archive_bytes)} there.")
    for name in done.set_aside:
        click.echo(f"archives/{name} is no archive of this log; it was set aside under this name.")
    click.echo(f"The database had {_size(done.bytes_before)} and has {_size(done.bytes_after)}.")


def _size(count: int) -> str:
    return f"{count / 1024 / 1024:.1f} MiB" if count >= 1024 * 1024 else f"{count / 1024:.0f} KiB"
