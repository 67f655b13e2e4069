"""`llmux serve` and `llmux demo`: the gateway itself."""

import os
import shlex
import signal
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import click
import structlog
import trio

from llmux import config, logs
from llmux.actors.opening import open_system
from llmux.actors.system import System
from llmux.cli.command import Command
from llmux.clock import SystemClock
from llmux.config import Settings
from llmux.http.app import make_app
from llmux.http.server import serve as serve_http


@click.command(cls=Command)
def serve() -> None:
    """Start the gateway (http://127.0.0.1:8765 unless HOST and PORT say otherwise)."""
    _serve(config.from_environment())


@click.command(cls=Command)
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
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:  # to the end: none cuts a stop short
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, signals, stop)
            await _serve_until(stop, settings)
            nursery.cancel_scope.cancel()


async def _serve_until(stop: trio.Event, settings: Settings) -> None:
    log = structlog.get_logger()
    async with open_system(settings, SystemClock()) as system:
        _tell_who_is_there(system)
        async with trio.open_nursery() as nursery:
            door = partial(serve_http, make_app(system), settings, shutdown_trigger=stop.wait)
            port = await nursery.start(door)
            log.info("listening", url=f"http://{settings.host}:{port}", log=str(settings.data_dir))
            await stop.wait()
            nursery.cancel_scope.deadline = trio.current_time() + settings.shutdown_grace_ms / 1000 + 5
    log.info("stopped", position=system.facts.position)


async def _stop_on_signal(signals: AsyncIterator[int], stop: trio.Event) -> None:
    async for _ in signals:
        stop.set()


def _tell_who_is_there(system: System) -> None:
    log = structlog.get_logger()
    for name, provider in system.health().providers.items():
        if provider.available:
            log.info("provider is ready", provider=name, version=provider.version, weight=provider.weight)
        else:
            log.warning("provider is left out", provider=name, why=provider.sentence)
