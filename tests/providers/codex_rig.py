"""The misbehaving app-server (codex_misbehaving.py) as the program of Codex, and an adapter over it, shared by tests."""

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from llmux.config import Account, Limits
from llmux.failures import ProviderFailure
from llmux.prompts import Prompt, user
from llmux.providers.adapter import Call
from llmux.providers.codex import CodexAdapter
from tests.providers.codex_login import write_login
from tests.providers.hearing import Heard, descendants, place_of

PROGRAM = Path(__file__).parent / "codex_misbehaving.py"
QUICK = Limits(call_ms_max=400, stop_ms_max=200, line_bytes_max=64 * 1024)


class Fixture:
    """An adapter over the misbehaving program, and what that program heard."""

    def __init__(self, directory: Path, how: str, **settings: Any):
        command = directory / "codex"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{PROGRAM}" "$@"\n')
        command.chmod(0o755)
        self.heard, self.login = directory / "heard", directory / "login"
        write_login(self.login)
        quick = QUICK if how in ("mute", "babbles", "stands-still") else Limits(stop_ms_max=200)
        limits = settings.pop("limits", quick)
        env = {"HOW": how, "HEARD": str(self.heard)}
        account = Account(config_dir=str(self.login))
        values = {"command": str(command), "env": env, "warm": 0, **settings}
        self.adapter = CodexAdapter(place_of("codex", directory, account=account, limits=limits, **values))

    async def say(self, heard: Heard | None = None) -> Heard:
        heard = heard or Heard()
        await self.adapter.answer(
            Call(Prompt((user("hi"),)), "gpt-5.2-codex", "gpt-5.2-codex"), heard.emit, heard.report
        )
        return heard

    async def fails(self, heard: Heard | None = None) -> ProviderFailure:
        with pytest.raises(ProviderFailure) as caught:
            await self.say(heard)
        return caught.value

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.heard.read_text().splitlines()]

    def methods(self) -> list[str]:
        return [message["method"] for message in self.told() if "method" in message]

    def starts(self) -> int:
        path = Path(f"{self.heard}.starts")
        return len(path.read_text().splitlines()) if path.exists() else 0

    async def until_told(self, method: str, times: int = 1) -> None:
        with trio.fail_after(10):
            while not self.heard.exists() or self.methods().count(method) < times:
                await trio.sleep(0.01)


@asynccontextmanager
async def misbehaving(directory: Path, how: str, **settings: Any) -> AsyncGenerator[Fixture, None]:
    before = set(descendants())
    fixture = Fixture(directory, how, **settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(fixture.adapter.serve)
        yield fixture
        nursery.cancel_scope.cancel()
    assert set(descendants()) - before == set()


async def until(codex: Fixture, **expected: int) -> None:
    """Waits until the statistics say so."""
    with trio.fail_after(10):
        while any(getattr(codex.adapter.statistics(), name) != count for name, count in expected.items()):
            await trio.sleep(0.01)
