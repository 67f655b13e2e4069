"""The real Claude Code over a stand-in of its API, as the tests of this folder drive it."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from llmux.prompts import Prompt, user
from llmux.providers.adapter import Call
from llmux.providers.claude import ClaudeAdapter
from tests.providers.hearing import Heard, place_of
from tests.real.clis import claude
from tests.upstreams.running import Upstream

TOKEN = "sk-ant-oat01-made-up"
SONNET, HAIKU = ("claude-sonnet-4", "sonnet"), ("claude-haiku-4", "haiku")


def adapter_of(
    api: Upstream, directory: Path, *, env: dict[str, str] | None = None, redirected: bool = True, **more: Any
) -> ClaudeAdapter:
    """An adapter over the real CLI with a token; `env` goes to the CLI, and the stand-in's address if it is `redirected`."""
    given = {"environ": {"CLAUDE_CODE_OAUTH_TOKEN": TOKEN}, "default_model": SONNET[0], **more}
    whole = {**({"ANTHROPIC_BASE_URL": api.url} if redirected else {}), **(env or {})}
    place = place_of("claude", directory, command=str(claude()), env=whole, **given)
    return ClaudeAdapter(place)


@asynccontextmanager
async def served(adapter: ClaudeAdapter, *, warm: bool = True) -> AsyncGenerator[ClaudeAdapter, None]:
    """The adapter at work; `warm`: probed, and with a process that waits."""
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(adapter.serve)
        try:
            if warm:
                assert (await adapter.probe()).ready
                await idle(adapter)
            yield adapter
        except BaseException as error:  # outside the nursery it is not wrapped in a group
            raised = error
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised


async def idle(adapter: ClaudeAdapter, number: int = 1) -> None:
    """Waits until so many processes wait."""
    with trio.fail_after(60):
        while adapter.statistics().idle < number:
            await trio.sleep(0.01)


async def ask(adapter: ClaudeAdapter, prompt: Prompt | str, model: tuple[str, str] = SONNET) -> Heard:
    heard = Heard()
    whole = Prompt((user(prompt),)) if isinstance(prompt, str) else prompt
    await adapter.answer(Call(whole, *model), heard.emit, heard.report)
    return heard


def calls(api: Upstream) -> list[dict[str, Any]]:
    """The bodies of the model calls that reached the stand-in."""
    return [json.loads(seen["body"]) for seen in api.log() if seen["path"].startswith("/v1/messages")]


def blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The content of a message that went up, without cache marks and the CLI's own reminder of the date."""
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    bare = [{name: value for name, value in part.items() if name != "cache_control"} for part in parts]
    return [part for part in bare if not part.get("text", "").startswith("<system-reminder>\nAs you answer")]


def texts(message: dict[str, Any]) -> list[str]:
    return [part["text"] for part in blocks(message)]
