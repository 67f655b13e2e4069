"""The command line: serve, demo, doctor, events, replay, verify."""

import json
import os
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import structlog
import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from llmux import __version__, config, logs
from llmux.actors import facts as fold
from llmux.actors.opening import open_system, replay
from llmux.actors.system import System
from llmux.clock import SystemClock
from llmux.config import Settings
from llmux.doctor import Report, examine
from llmux.events import RecordedEvent
from llmux.eventstore import Reader, open_reader, verify
from llmux.failures import ConfigurationWrong, LLMuxError, LogDamaged
from llmux.http.app import make_app
from llmux.http.server import serve as serve_http

FOLLOW_INTERVAL_S = 0.25
EXIT_FAILED = 1
EXIT_CONFIGURATION = 2


class _Command(click.Command):
    """A command whose LLMuxErrors are sentences on stderr and an exit code, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (LLMuxError, BaseExceptionGroup) as raised:
            error = _sole(raised)
            if not isinstance(error, LLMuxError):
                raise
            click.echo(f"llmux: {error}", err=True)
            ctx.exit(EXIT_CONFIGURATION if isinstance(error, ConfigurationWrong) else EXIT_FAILED)


def _sole(error: BaseException) -> BaseException:
    """The only plain exception inside a (possibly nested) group; a group that holds several is itself."""
    inner = error
    while isinstance(inner, BaseExceptionGroup):
        if len(inner.exceptions) > 1:
            return error
        inner = inner.exceptions[0]
    return inner


class _Group(click.Group):
    command_class = _Command


@click.group(cls=_Group)
@click.version_option(__version__, prog_name="llmux")
def main() -> None:
    """One HTTP API over your logged-in Claude Code, Gemini CLI and Codex, and a local Ollama."""


# --- the gateway -----------------------------------------------------------------------------------------------------


@main.command()
def serve() -> None:
    """Start the gateway (http://127.0.0.1:8765 unless HOST and PORT say otherwise)."""
    _serve(config.from_environment())


@main.command()
def demo() -> None:
    """Start the gateway with scripted answers in place of all providers: no account needed, nothing is asked."""
    settings = config.from_environment(demo=True)
    click.echo("Demo: every answer is made up by LLMux itself, and says so in `provider`.", err=True)
    if os.environ.get("LLMUX_DATA_DIR"):
        _serve(settings)
        return
    with tempfile.TemporaryDirectory(prefix="llmux-demo-") as directory:  # a demo leaves no trace in the real log
        click.echo("Its log lasts as long as the demo. To see it meanwhile, type in another terminal:", err=True)
        click.echo(f"LLMUX_DATA_DIR={shlex.quote(directory)} llmux events", err=True)
        _serve(config.replaced(settings, data_dir=Path(directory)))


def _serve(settings: Settings) -> None:
    logs.configure()
    os.umask(0o077)
    trio.run(_gateway, settings)


async def _gateway(settings: Settings) -> None:
    log = structlog.get_logger()
    stop = trio.Event()
    async with open_system(settings, SystemClock()) as system:
        _tell_who_is_there(system)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, stop)
            door = partial(serve_http, make_app(system), settings, shutdown_trigger=stop.wait)
            port = await nursery.start(door)
            log.info("listening", url=f"http://{settings.host}:{port}", log=str(settings.data_dir))
            await stop.wait()
            nursery.cancel_scope.deadline = trio.current_time() + settings.shutdown_grace_ms / 1000 + 5
    log.info("stopped", position=system.facts.position)


async def _stop_on_signal(stop: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            stop.set()
            return


def _tell_who_is_there(system: System) -> None:
    log = structlog.get_logger()
    for name, provider in system.health().providers.items():
        if provider.available:
            log.info("provider is ready", provider=name, version=provider.version, weight=provider.weight)
        else:
            log.warning("provider is left out", provider=name, why=provider.sentence)


# --- the doctor ------------------------------------------------------------------------------------------------------


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Say what is installed, in which version, who is logged in, and what to type next."""
    report = trio.run(examine, config.from_environment())
    if as_json:
        _print_json(report.plain())
    else:
        _print_report(report)
    sys.exit(0 if report.ready else EXIT_FAILED)


def _print_report(report: Report) -> None:
    console = Console()
    console.print(f"LLMux {__version__}, data in {report.data_dir}", highlight=False, soft_wrap=True)
    console.print("A gateway is running on it." if report.running else "No gateway is running on it.")
    table = Table("provider", "account", "installed", "version", "login", "weight", box=None, pad_edge=False)
    for entry in report.providers:
        login = "-" if not entry.installed else "yes" if entry.logged_in else "no"
        signs = ("yes" if entry.installed else "no", entry.version or "-", login)
        table.add_row(entry.provider, entry.account, *signs, str(entry.weight))
    console.print(table)
    for entry in report.providers:
        if entry.sentence:
            console.print(f"{entry.provider}: {entry.sentence}", highlight=False, soft_wrap=True)
    if not report.ready:
        console.print(
            "No provider is ready. `llmux demo` shows the gateway without any.", highlight=False, soft_wrap=True
        )


# --- the log ---------------------------------------------------------------------------------------------------------


@main.command()
@click.option("--follow", is_flag=True, help="Go on with what is recorded from now on.")
@click.option("--stream", help="Only this stream, such as request-0192… or gateway.")
@click.option("--type", "types", multiple=True, help="Only events of this type; may be given more than once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def events(follow: bool, stream: str | None, types: tuple[str, ...], as_json: bool) -> None:
    """Print the events of the log."""
    show = _json_line if as_json else _text_line
    _read_log(partial(_print_events, follow=follow, stream=stream, types=types, show=show))


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


@main.command("replay")
@click.option(
    "--at", "moment", help="A position, or a time such as 2026-11-22T18:30:00Z; the end of the log by default."
)
def replay_command(moment: str | None) -> None:
    """Fold the log and print the facts of every actor as JSON."""
    _read_log(partial(_print_facts, moment=moment))


async def _print_facts(reader: Reader, *, moment: str | None) -> None:
    until = None if moment is None else await _position_at(reader, moment)
    facts = await replay(reader, reader.limits.read_rows_max, until=until)
    if until is not None and facts.position < until:
        raise click.BadParameter(f"the log ends at position {facts.position}", param_hint="--at")
    _print_json(fold.plain(facts))


async def _position_at(reader: Reader, moment: str) -> int:
    """The position that `moment` names: itself, or the last one before the first event that is recorded later."""
    if re.fullmatch(r"[0-9]{1,18}", moment):
        return int(moment)
    try:
        limit_ms = datetime.fromisoformat(moment).astimezone(UTC).timestamp() * 1000
    except (ValueError, OverflowError):
        raise click.BadParameter(
            "write a position such as 120, or a time such as 2026-11-22T18:30:00Z", param_hint="--at"
        ) from None
    position, page = 0, reader.limits.read_rows_max
    while recorded := await reader.read(after=position, limit=page):
        for event in recorded:
            if event.recorded_at > limit_ms:
                return position
            position = event.position
    return position


@main.command("verify")
@click.option("--from", "first", type=click.IntRange(1), default=1, help="Begin at this position.")
def verify_command(first: int) -> None:
    """Check that the log is what was written: its chain of hashes, its positions, its end."""
    _read_log(partial(_verify, first=first))


async def _verify(reader: Reader, *, first: int) -> None:
    columns = (TextColumn("verifying"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("verify")
        try:
            verified = await verify(
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


def _read_log(work: Callable[[Reader], Awaitable[None]]) -> None:
    """Runs `work` on a reader of the log, whether a gateway runs or not."""
    settings = config.from_environment()

    async def run() -> None:
        async with open_reader(settings.data_dir, settings.limits) as reader:
            await work(reader)

    try:
        trio.run(run)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True))
