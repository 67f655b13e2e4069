"""Claude Code itself as a client of /v1/messages, by nothing but ANTHROPIC_BASE_URL: what it asks for beside tools is no obstacle."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clis import claude
from tests.gateway import GatewayProcess, gateway_process

SETTINGS = """
[providers.claude]
kind = "scripted"
command = ""
default_model = "say=hello+you"
[providers.gemini]
enabled = false
[providers.codex]
enabled = false
[providers.ollama]
enabled = false
"""
THINKS = "reason=let+me+see,say=hello+you"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway"), toml=SETTINGS) as gateway:
        yield gateway


def ask(here: GatewayProcess, home: Path, *args: str) -> dict[str, Any]:
    """The result that Claude Code prints at its end."""
    done = subprocess.run(
        [claude(), "-p", "Say hello", "--output-format", "json", *args],
        cwd=home,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{here.port}",
            "ANTHROPIC_API_KEY": "any",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_without_tools_it_has_a_conversation(here: GatewayProcess, tmp_path: Path) -> None:
    first = ask(here, tmp_path, "--tools", "", "--model", THINKS)
    assert (first["is_error"], first["result"], first["stop_reason"]) == (False, "hello you", "end_turn")
    usage = first["usage"]
    assert (usage["input_tokens"] > 100, usage["output_tokens"]) == (True, 5)
    again = ask(here, tmp_path, "--tools", "", "--model", THINKS, "--resume", first["session_id"])
    assert (again["is_error"], again["result"]) == (False, "hello you")
    assert again["usage"]["input_tokens"] > usage["input_tokens"], "the history went with it"


def test_with_tools_it_is_told_at_once_that_there_are_none_yet(here: GatewayProcess, tmp_path: Path) -> None:
    refused = ask(here, tmp_path, "--model", "say=hello+you")
    assert (refused["is_error"], refused["api_error_status"]) == (True, 400)
    assert refused["result"] == "API Error: 400 tools: tools are not supported yet."
