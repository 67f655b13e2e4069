"""`llmux verify`: is the log what was written? `llmux witness`: does it still end where it was witnessed?"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

import click
import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from llmux import config
from llmux.actors.audit import audit
from llmux.actors.mending import accept_loss
from llmux.cli.command import EXIT_FAILED, Command, read_log
from llmux.clock import SystemClock
from llmux.config import Settings
from llmux.eventstore import Keys, Reader, Verified, Witness, check_witness, read_witness
from llmux.eventstore import verify as verify_log
from llmux.failures import ChainKeyWrong, LogDamaged, TailMissing


@click.command(cls=Command)
@click.option("--from", "first", type=click.IntRange(1), help="Begin at this position.")
@click.option(
    "--archives", is_flag=True, help="Check the archives too, and that each state sealed there is the right one."
)
def verify(first: int | None, archives: bool) -> None:
    """Check that the log is what was written: its chain of hashes, its positions, its end, its witness."""
    settings = config.from_environment()
    witness = read_witness(settings.witness)
    keys = Keys(settings.chain_keys)
    read_log(partial(_verify, first=first, archives=archives, keys=keys, witness=witness))


async def _verify(reader: Reader, *, first: int | None, archives: bool, keys: Keys, witness: Witness | None) -> None:
    files = 0
    try:
        if archives:
            with bar("verifying") as shown:
                audited = await audit(reader, first=first, keys=keys, progress=shown)
            verified, files = audited.verified, audited.archives
        else:
            verified = await with_progress(reader, first=first, keys=keys)
        compared = await check_witness(reader, witness)
    except TailMissing as missing:
        click.echo(f"The end of the log is not what it was. {missing}", err=True)
        sys.exit(EXIT_FAILED)
    except LogDamaged as damage:
        click.echo(f"The chain is broken. {damage}", err=True)
        sys.exit(EXIT_FAILED)
    except ChainKeyWrong as unsure:
        click.echo(f"Not verified. {unsure}", err=True)
        sys.exit(EXIT_FAILED)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--from") from None
    head = verified.head
    click.echo(f"The chain holds: {verified.events} events, head at position {head.position}, hash {head.hash.hex()}.")
    click.echo(f"It is under the key {verified.key}." if verified.key else "It is not under a key (LLMUX_CHAIN_KEY).")
    if files:
        click.echo(f"{files} archive{'s' if files > 1 else ''} checked, and the state at the end of each.")
    elif origin := (await reader.origin()).head.position:
        click.echo(f"The positions up to {origin} are in archives, which were not looked at (--archives).")
    click.echo(_told(witness, compared))


async def with_progress(reader: Reader, *, first: int | None = None, keys: Keys, what: str = "verifying") -> Verified:
    """Verifies with a bar on stderr. Raises what `verify` raises, and takes the bar away."""
    with bar(what) as shown:
        return await verify_log(reader, first=first, keys=keys, progress=shown)


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], object]]:
    """A bar on stderr, for as long as the block lasts; yields what is to be told (done, all). Nothing where nobody looks."""
    console = Console(stderr=True)
    if not console.is_terminal:  # there, rich would leave an empty line
        yield lambda done, last: None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what)
        yield lambda done, last: progress.update(task, completed=done, total=last)


def _told(witness: Witness | None, compared: bool) -> str:
    if witness is None:
        return (
            "Nothing outside the log witnesses its end yet; the gateway writes a witness each minute and when it stops."
        )
    at = datetime.fromtimestamp(witness.at / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    said = f"Its end was witnessed at position {witness.position}, {at}"
    if compared:
        return f"{said}, and is the same."
    return (
        f"{said}, and could not be compared: this position is in an archive that is not there, or is not the one that the log "
        "says. Put the archive back to compare it."
    )


@click.command(cls=Command)
@click.option(
    "--accept", is_flag=True, help="Go on with the log as it is, although its end is missing. It is recorded."
)
@click.option("--reason", default="", help="With --accept: what happened.")
def witness(accept: bool, reason: str) -> None:
    """Check that the log still reaches as far as it was witnessed to."""
    settings = config.from_environment()
    if accept:
        if not 1 <= len(reason.strip()) <= 500:
            raise click.BadParameter("say what happened, in at most 500 characters", param_hint="--reason")
        click.echo(trio.run(_accept, settings, reason.strip()))
        return
    read_log(partial(_compare, witness=read_witness(settings.witness)))


async def _compare(reader: Reader, *, witness: Witness | None) -> None:
    compared = await check_witness(reader, witness)
    head = await reader.head_on_disk()
    click.echo(f"The log ends at position {head.position}, hash {head.hash.hex()}.")
    click.echo(_told(witness, compared))


async def _accept(settings: Settings, reason: str) -> str:
    accepted = await accept_loss(settings, SystemClock(), reason)
    if accepted is None:
        return "No loss was found: there is nothing to accept."
    return f"The log goes on after position {accepted.position}. What is missing, and why, it says itself now."
