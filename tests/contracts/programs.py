"""Adapters over programs of our own in the place of the vendor's: they play recordings, or misbehave."""

import sys
from pathlib import Path
from typing import Any

import msgspec

from llmux.clock import Clock
from llmux.config import Account, Limits
from llmux.prompts import Prompt, user
from llmux.providers.adapter import Adapter, Call
from llmux.providers.registry import adapter_for
from tests.providers.codex_login import write_login
from tests.providers.gemini_rig import KEY, google_login
from tests.providers.hearing import place_of

ROOT = Path(__file__).parents[2]
MODELS = {
    "claude": ("claude-sonnet-4", "sonnet"),
    "codex": ("gpt-5.2-codex", "gpt-5.2-codex"),
    "gemini": ("gemini-3-flash-preview", "gemini-3-flash-preview"),
    "ollama": ("tiny", "tiny"),
}
"""The model that is asked for, as clients name it and as the provider does."""
SETTINGS: dict[str, dict[str, Any]] = {
    "claude": {},
    "codex": {"warm": 0},
    "gemini": {"warm": 0, "concurrency": 1},
    "ollama": {},
}


def call_of(provider: str, prompt: Prompt | str = "Say hello.") -> Call:
    return Call(Prompt((user(prompt),)) if isinstance(prompt, str) else prompt, *MODELS[provider])


def installed(module: str, directory: Path) -> Path:
    """A command that runs `main` of a module of ours: without packages and the environment's wishes, so it starts in some 20 ms."""
    directory.mkdir(exist_ok=True)
    program = directory / "program"
    start = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom {module} import main\nmain()\n"
    program.write_text(f"#!{sys.executable} -IS\n{start}", "utf-8")
    program.chmod(0o755)
    return program


def adapter_over(
    provider: str,
    place: Path | str,
    directory: Path,
    *,
    env: dict[str, str] | None = None,
    limits: Limits | None = None,
    clock: Clock | None = None,
    google: bool = False,
    **settings: Any,
) -> Adapter:
    """The provider's adapter over a program (or, of Ollama, a server's URL), logged in as far as it can see.

    Gemini has a key, or is logged in with `google`.
    """
    where = {"url": place} if provider == "ollama" else {"command": str(place)}
    account = None
    if provider == "codex":
        write_login(directory / "login")
        account = Account(config_dir=str(directory / "login"))
    if google:
        google_login(directory)
    elif provider == "gemini":
        env = {**KEY, **(env or {})}
    values = {**SETTINGS[provider], **where, "env": env or {}, **settings}
    made = place_of(provider, directory, account=account, limits=limits, **values)
    return adapter_for(msgspec.structs.replace(made, clock=clock) if clock else made)
