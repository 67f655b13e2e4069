"""`llmux verify`: is the log what was written?"""

import sys
from functools import partial

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from llmux.cli.command import EXIT_FAILED, Command, read_log
from llmux.eventstore import Reader
from llmux.eventstore import verify as verify_log
from llmux.failures import LogDamaged


@click.command(cls=Command)
@click.option("--from", "first", type=click.IntRange(1), default=1, help="Begin at this position.")
def verify(first: int) -> None:
    """Check that the log is what was written: its chain of hashes, its positions, its end."""
    read_log(partial(_verify, first=first))


async def _verify(reader: Reader, *, first: int) -> None:
    columns = (TextColumn("verifying"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("verify")
        try:
            verified = await verify_log(
                reader, first=first, progress=lambda done, last: progress.update(task, completed=done, total=last)
            )
        except LogDamaged as damage:
            progress.stop()
            click.echo(f"The chain is broken. {damage}", err=True)
            sys.exit(EXIT_FAILED)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--from") from None
    head = verified.head
    click.echo(f"The chain holds: {verified.events} events, head at position {head.position}, hash {head.hash.hex()}.")
