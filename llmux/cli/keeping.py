"""`llmux backup`, `llmux restore` and `llmux rekey`: the log as something that is kept."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click
import trio

from llmux import config
from llmux.actors.backups import BackedUp, Restored, back_up_log, restore_log
from llmux.actors.mending import rekey as rekey_log
from llmux.cli.command import Command
from llmux.cli.verifying import bar, with_progress
from llmux.clock import SystemClock
from llmux.config import Settings
from llmux.eventstore import Keys, Reader, Verified

_FILE = click.Path(path_type=Path)


@click.command(cls=Command)
@click.argument("file", type=_FILE)
@click.option("--archives", type=_FILE, help="Copy the archived events to this folder as well.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def backup(file: Path, archives: Path | None, force: bool) -> None:
    """Write the log into FILE, beside a running gateway or without one. Kept texts are not in it."""
    made = trio.run(_back_up, config.from_environment(), file.absolute(), archives and archives.absolute(), force)
    click.echo(f"The log up to position {made.position} is in {file} ({made.bytes} bytes).")
    if archives is None and made.archived_through:
        click.echo(
            f"The events up to position {made.archived_through} are in archives: --archives FOLDER copies them too."
        )
    if archives is not None:
        click.echo(f"{_files(made.archives)} copied to {archives}; the others were there already, and are whole.")
    if made.unsure:
        click.echo(f"Its chain could not be checked wholly. {made.unsure}", err=True)
    else:
        click.echo("It was read back, and its chain holds.")


def _files(copied: int) -> str:
    return "One archive file was" if copied == 1 else f"{copied} archive files were"


async def _back_up(settings: Settings, file: Path, archives: Path | None, force: bool) -> BackedUp:
    with ExitStack() as copying:
        shown = copying.enter_context(bar("copying"))

        def progress(done: int, pages: int) -> None:
            shown(done, pages)
            if done == pages:  # the next bar is that of verifying
                copying.close()

        return await back_up_log(settings, file, _check, archives=archives, force=force, progress=progress)


async def _check(reader: Reader, keys: Keys) -> Verified:
    return await with_progress(reader, keys=keys)


@click.command(cls=Command)
@click.argument("file", type=_FILE)
@click.option("--archives", type=_FILE, help="Copy the archived events back from this folder as well.")
@click.option(
    "--replace", is_flag=True, help="Put it in the place of a log that is there; that one is kept under another name."
)
def restore(file: Path, archives: Path | None, replace: bool) -> None:
    """Put the backup FILE in the place of the log. The gateway must be stopped."""
    done: Restored = trio.run(
        partial(restore_log, archives=archives and archives.absolute(), replace=replace),
        config.from_environment(),
        SystemClock(),
        file.absolute(),
        _check,
    )
    click.echo(f"The log is the one of {file}, up to position {done.position}; the next event says so.")
    if done.aside is not None:
        click.echo(f"The log that was there is kept as {done.aside}.")
    if archives is not None:
        click.echo(f"{_files(done.archives)} copied back; the others were there already, and are whole.")


@click.command(cls=Command)
@click.option("--lost", is_flag=True, help="The key before is lost: go on without checking what it protects.")
def rekey(lost: bool) -> None:
    """Go on under the chain key that is set now. The gateway must be stopped."""
    rekeyed = trio.run(partial(rekey_log, lost=lost), config.from_environment(), SystemClock(), _check)
    if rekeyed is None:
        click.echo("The log is under the key that is set already.")
        return
    before = f"under {rekeyed.before}" if rekeyed.before else "without a key"
    click.echo(f"From position {rekeyed.position} on the log is under the key {rekeyed.after}; before it was {before}.")
    if lost:
        click.echo("What is before it can be read, and no longer be verified.", err=True)
