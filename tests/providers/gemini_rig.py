"""The misbehaving Gemini program as a provider's program, and an adapter over it, shared by tests."""

import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from llmux.config import Limits
from llmux.failures import ProviderFailure
from llmux.prompts import Prompt, user
from llmux.providers.adapter import Call
from llmux.providers.gemini import GeminiAdapter
from tests.providers.hearing import Heard, place_of

MODEL = "gemini-3-flash-preview"
HERE = Path(__file__).parent
LIMITS = Limits(line_bytes_max=200_000, answer_bytes_max=200_000, stop_ms_max=200, stderr_tail_bytes_max=1000)
KEY = {"GEMINI_API_KEY": "a-key-of-the-tests"}

Make = Callable[..., GeminiAdapter]


def maker(tmp_path: Path) -> Make:
    """An adapter over the misbehaving program in the given mode, with an API key unless `env` says otherwise."""
    program = tmp_path / "gemini"
    program.write_text(f"#!{sys.executable} -IS\n{(HERE / 'misbehaving_gemini.py').read_text('utf-8')}", "utf-8")
    program.chmod(0o755)

    def made(mode: str = "ok", *, env: dict[str, str] = KEY, **more: Any) -> GeminiAdapter:
        env = {"MODE": mode, "NOTES": str(tmp_path / "notes"), **env}
        values = {"limits": LIMITS, "command": str(program), "warm": 0, "concurrency": 1, **more}
        return GeminiAdapter(place_of("gemini", tmp_path, env=env, **values))

    return made


@asynccontextmanager
async def serving(adapter: GeminiAdapter) -> AsyncGenerator[None, None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(adapter.serve)
        yield
        nursery.cancel_scope.cancel()


async def answered(adapter: GeminiAdapter, prompt: Prompt | str = "hi", heard: Heard | None = None) -> Heard:
    heard = heard if heard is not None else Heard()
    whole = Prompt((user(prompt),)) if isinstance(prompt, str) else prompt
    await adapter.answer(Call(whole, MODEL, MODEL), heard.emit, heard.report)
    return heard


async def failed(adapter: GeminiAdapter, prompt: Prompt | str = "hi", heard: Heard | None = None) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        await answered(adapter, prompt, heard)
    return caught.value


def notes(tmp_path: Path) -> list[dict[str, Any]]:
    """What the program was sent, over all its lives."""
    file = tmp_path / "notes"
    return [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def google_login(tmp_path: Path, **more: Any) -> Path:
    file = tmp_path / "home" / ".gemini" / "oauth_creds.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"access_token": "x", "refresh_token": "y", **more}))
    return file
