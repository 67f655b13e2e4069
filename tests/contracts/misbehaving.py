"""An adapter at work over the program (of Ollama: the server) that misbehaves, in each provider's protocol alike."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from llmux.config import Limits
from llmux.failures import ProviderFailure
from llmux.prompts import Prompt, user
from llmux.providers.adapter import Adapter, Call
from llmux.providers.registry import adapter_for
from tests.contracts.programs import adapter_over, call_of, installed
from tests.providers.hearing import Heard, descendants, place_of
from tests.upstreams.running import upstream

PROGRAM = "tests.contracts.hostile_programs"
SCRIPTS = {
    "": "say=good+answer",
    "crash before start": "fail=crashed",
    "crash in the midst": "say=half+an+ans,fail=crashed,after=3",
    "half a line": "say=half+an+ans,fail=garbled,after=3",
    "error as an answer": "fail=rate_limited",
    "hang": "hang",
    "stall": "say=so,hang,after=1",
}
"""How the scripted provider misbehaves, which has no program: a mode is the name of the model."""


class Misbehaving:
    """The adapter, and what its program is told beside the protocol."""

    def __init__(self, provider: str, adapter: Adapter, how: Path, server: int | None = None):
        self.provider, self.adapter, self._how, self._server = provider, adapter, how, server
        self.end: Callable[[], None] = lambda: None
        """ends the service"""

    def be(self, mode: str) -> None:
        """From the next answer on. "" is well-behaved."""
        self._how.write_text(mode, "utf-8")

    @property
    def asked(self) -> bool:
        """Whether the program was asked for an answer."""
        return self.provider == "scripted" or Path(f"{self._how}.asked").exists()

    def left(self) -> set[int]:
        """The processes that there are because of it, orphans too: they have inherited the name of our file."""
        if self._server is not None:
            return set(descendants(self._server))
        mark = f"HOSTILE={self._how}\0".encode()
        return {int(entry.name) for entry in Path("/proc").iterdir() if mark in _environment(entry)}

    async def gone_within(self, seconds: float) -> None:
        """Waits until no process is left."""
        with trio.move_on_after(seconds):
            while self.left():
                await trio.sleep(0.01)
        assert not self.left(), f"{self.provider}, {self._how.read_text('utf-8')}"

    async def at_rest(self) -> None:
        """Waits until nobody is busy. Raises TooSlowError."""
        with trio.fail_after(5):
            while self.adapter.statistics().busy:
                await trio.sleep(0.005)

    async def ask(self, heard: Heard | None = None) -> Heard:
        heard = heard if heard is not None else Heard()
        await self.adapter.answer(self._call(), heard.emit, heard.report)
        return heard

    def _call(self) -> Call:
        if self.provider != "scripted":
            return call_of(self.provider)
        script = SCRIPTS[self._how.read_text("utf-8")]
        return Call(Prompt((user("Say hello."),)), script, script)

    async def ask_patiently(self) -> Heard:
        """Once more where the failure's policy says so, as the gateway would: a process can die between two answers."""
        try:
            return await self.ask()
        except ProviderFailure as failure:
            if failure.policy.tries < 2:
                raise
            return await self.ask()


def _environment(process: Path) -> bytes:
    """What a process was started with; nothing of a process that has ended, or of what is no process."""
    try:
        return (process / "environ").read_bytes() if process.name.isdigit() else b""
    except OSError:
        return b""


@asynccontextmanager
async def misbehaving(
    provider: str, mode: str, directory: Path, limits: Limits | None = None, **settings: Any
) -> AsyncIterator[Misbehaving]:
    """Serves the adapter as long as the block lasts, and ends it within bounded time."""
    directory.mkdir(exist_ok=True)
    how = directory / "hostile"
    how.write_text(mode, "utf-8")
    if provider == "ollama":
        with upstream("hostile_ollama", "--hostile", str(how)) as server:
            adapter = adapter_over(provider, server.url, directory, limits=limits, **settings)
            async with _served(Misbehaving(provider, adapter, how, server.pid)) as running:
                yield running
        return
    if provider == "scripted":
        adapter = adapter_for(place_of(provider, directory, limits=limits, **settings))
        async with _served(Misbehaving(provider, adapter, how)) as running:
            yield running
        return
    env = {"PROTOCOL": provider, "HOSTILE": str(how)}
    program = installed(PROGRAM, directory / "bin")
    adapter = adapter_over(provider, program, directory, env=env, limits=limits, **settings)
    async with _served(Misbehaving(provider, adapter, how)) as running:
        yield running


@asynccontextmanager
async def _served(running: Misbehaving) -> AsyncIterator[Misbehaving]:
    async with trio.open_nursery() as nursery:
        await nursery.start(running.adapter.serve)
        running.end = nursery.cancel_scope.cancel
        yield running
        running.end()
