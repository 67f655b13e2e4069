"""The real Codex over a stand-in of its API: how the tests make it, ask it, and look at what reached the stand-in."""

import base64
import json
import struct
import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from llmux.config import Account, Limits
from llmux.failures import ProviderFailure
from llmux.prompts import Prompt, user
from llmux.providers.adapter import Adapter, Call
from llmux.providers.codex import CodexAdapter
from tests.providers.codex_login import write_login
from tests.providers.hearing import Heard, descendants, place_of
from tests.real.clis import codex
from tests.upstreams.running import Upstream

MODEL = "gpt-5.2-codex"
Make = Callable[..., CodexAdapter]


def maker(api: Upstream, directory: Path) -> Make:
    """Makes adapters over the real CLI, with a login in `directory`/login unless told otherwise."""

    def made(*, logged_in: bool = True, limits: Limits | None = None, **settings: Any) -> CodexAdapter:
        if logged_in:
            write_login(directory / "login")
        values = {
            "command": str(codex()),
            "base_url": f"{api.url}/backend-api/codex",
            "env": {"CODEX_REFRESH_TOKEN_URL_OVERRIDE": f"{api.url}/oauth/token"},
        }
        account = Account(config_dir=str(directory / "login"))
        return CodexAdapter(place_of("codex", directory, account=account, limits=limits, **{**values, **settings}))

    return made


@asynccontextmanager
async def serving(adapter: Adapter) -> AsyncGenerator[Adapter, None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(adapter.serve)
        yield adapter
        nursery.cancel_scope.cancel()


async def say(adapter: Adapter, prompt: Prompt | str, heard: Heard | None = None) -> Heard:
    heard = heard if heard is not None else Heard()
    whole = Prompt((user(prompt),)) if isinstance(prompt, str) else prompt
    await adapter.answer(Call(whole, MODEL, MODEL), heard.emit, heard.report)
    return heard


async def failing(adapter: Adapter, prompt: Prompt | str = "hi", heard: Heard | None = None) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        await say(adapter, prompt, heard)
    return caught.value


def model_calls(api: Upstream) -> list[dict[str, Any]]:
    """The model calls that reached the stand-in."""
    return [seen for seen in api.log() if seen["path"].endswith("/responses")]


def calls(api: Upstream) -> list[dict[str, Any]]:
    """Their bodies."""
    return [json.loads(seen["body"]) for seen in model_calls(api)]


def conversation(body: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    return [(item["role"], item["content"]) for item in body["input"]]


def app_server() -> int:
    """The process id of the only app-server."""
    (pid,) = [pid for pid, name in descendants().items() if name == "codex"]
    return pid


def picture(side: int) -> str:
    """A white square, as a base64 PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\xff" * side) * side
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return base64.b64encode(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    ).decode()
