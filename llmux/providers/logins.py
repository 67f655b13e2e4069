"""How a person logs in with a vendor's own program, and when a stored login ends. Nothing here changes a login or tells a token."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from llmux.failures import ConfigurationWrong, Kind, LLMuxError, ProviderFailure
from llmux.providers import process
from llmux.providers.adapter import Place
from llmux.providers.claude import login as claude
from llmux.providers.codex import login as codex
from llmux.providers.codex import program as codex_program
from llmux.providers.gemini import program as gemini

NEVER_PASSED = frozenset(
    {
        *("API_KEY", "ADMIN_KEY", "LLMUX_SECRET", "LLMUX_CHAIN_KEY", "REDIS_URL"),
        *("CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
        *("CODEX_API_KEY", "CODEX_ACCESS_TOKEN", "OPENAI_API_KEY"),
        *("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_GCA"),
    }
)
"""of our own environment: the gateway's secrets, and keys that a program would take instead of asking for a login"""


class SignIn(msgspec.Struct, frozen=True):
    """A vendor's own login: what is started, with which environment and where, and what a person is told before."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    advice: str


class Stored(msgspec.Struct, frozen=True):
    """A stored login. `expires_at` is wall time in ms (None = not told); `renews` says that its program renews it by itself."""

    expires_at: int | None
    renews: bool


def sign_in(place: Place) -> SignIn:
    """Prepares the login of an account in `place.directory`, which is for this only.

    Raises ProviderFailure(UNAVAILABLE) that says what to install, and ConfigurationWrong where there is nothing to log in to.
    """
    if place.settings.kind not in _SIGN_IN or place.settings.oss:
        raise ConfigurationWrong(f"The provider {place.name} needs no login.")
    place.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = {name: value for name, value in place.environ.items() if name not in NEVER_PASSED}
    given = {name: value for name, value in place.settings.env.items() if name not in NEVER_PASSED}
    return _SIGN_IN[place.settings.kind](place, {**kept, **given})


def stored(place: Place) -> Stored | None:
    """What the stored login of an account tells about its end; None where there is none, or nothing that can be read."""
    look = None if place.settings.oss else _STORED.get(place.settings.kind)
    try:
        return look(place) if look is not None else None
    except (LLMuxError, OSError, ValueError, TypeError, AttributeError):
        return None


def newer_than_tested(kind: str, version: str) -> str:
    """A sentence when a program is newer than the one that LLMux is tested with, else "". (An older one is the probe's matter.)"""
    tested, install = TESTED.get(kind, ("", ""))
    if not tested or not version or numbers(version) <= numbers(tested):
        return ""
    return (
        f"Version {version} is newer than {tested}, with which LLMux is tested. If something looks odd: "
        f"{install[0].lower()}{install[1:]}"
    )


TESTED = {
    "claude": (claude.TESTED, claude.INSTALL),
    "codex": (codex_program.TESTED, codex_program.INSTALL),
    "gemini": (gemini.TESTED, gemini.INSTALL),
}
"""kind of provider -> the version of its program that LLMux is tested with, and what installs it"""


def numbers(version: str) -> tuple[int, ...]:
    """`1.20.3-rc1` as (1, 20, 3): what versions are compared by."""
    return tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdecimal())


# --- how to log in --------------------------------------------------------------------------------------------------


def _claude(place: Place, env: dict[str, str]) -> SignIn:
    program = claude.program(place)
    if program is None:
        raise _missing(f"The program '{place.settings.command}' is not installed or not on PATH. {claude.INSTALL}")
    if place.account.config_dir:
        env[claude.CONFIG_DIR] = str(Path(place.account.config_dir).expanduser().absolute())
    if folder := env.get(claude.CONFIG_DIR):
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    advice = "Claude Code asks you to log in."
    if place.environ.get(claude.LOGIN_VARIABLE) and not place.account.config_dir:
        advice += f" As long as {claude.LOGIN_VARIABLE} is set, it is used instead of this login."
    return SignIn((str(program), "auth", "login"), env, place.directory, advice)


def _codex(place: Place, env: dict[str, str]) -> SignIn:
    program = codex_program.native(codex_program.locate(place))
    folder = codex.directory(place)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    env["CODEX_HOME"] = str(folder)
    advice = "Codex asks you to log in. Without a browser on this machine, type: llmux login codex -- --device-auth"
    return SignIn((str(program), "login"), env, place.directory, advice)


def _gemini(place: Place, env: dict[str, str]) -> SignIn:
    """The CLI logs in when it starts; in a home of its own it asks nothing else, and the link brings the login where it belongs."""
    program = gemini.find_program(place)
    if isinstance(program, str):
        raise _missing(program)
    if place.settings.env.get("GEMINI_API_KEY"):
        raise ConfigurationWrong(
            f"The provider {place.name} uses the GEMINI_API_KEY of [providers.{place.name}] env: there is nothing to log in to."
        )
    folder = gemini.login_folder(place)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    home = place.directory / "home" / ".gemini"
    shutil.rmtree(home.parent, ignore_errors=True)
    home.mkdir(mode=0o700, parents=True)
    (home / gemini.CREDENTIALS).symlink_to((folder / gemini.CREDENTIALS).absolute())
    (home / "settings.json").write_text(json.dumps(_GEMINI_SETTINGS), "utf-8")
    env["GEMINI_CLI_HOME"] = str(home.parent)
    advice = "The Gemini CLI asks you to log in with Google. When it is ready for a prompt, you are logged in; then type: /quit"
    return SignIn(program.argv, env, place.directory, advice)


_GEMINI_SETTINGS = {
    "security": {"folderTrust": {"enabled": False}, "auth": {"selectedType": "oauth-personal"}},
    "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
    "privacy": {"usageStatisticsEnabled": False},
}

_SIGN_IN: Mapping[str, Callable[[Place, dict[str, str]], SignIn]] = {
    "claude": _claude,
    "codex": _codex,
    "gemini": _gemini,
}


def _missing(sentence: str) -> ProviderFailure:
    return ProviderFailure(Kind.UNAVAILABLE, sentence, evidence="login.not_installed")


# --- when a login ends ----------------------------------------------------------------------------------------------


def _stored_claude(place: Place) -> Stored | None:
    env = claude.environment(place)
    if env.get(claude.LOGIN_VARIABLE):
        return None  # the token does not say
    file = claude.credentials(env)
    login = _json(file).get("claudeAiOauth", {})
    return Stored(_time(login.get("expiresAt")), bool(login.get("refreshToken")) and process.writable(file))


def _stored_codex(place: Place) -> Stored | None:
    login = codex.read(place)
    return None if login.api_key else Stored(login.expires_at, not login.lent)


def _stored_gemini(place: Place) -> Stored | None:
    login = gemini.find_login(place)
    if isinstance(login, str) or login.file is None:
        return None
    return Stored(_time(_json(login.file).get("expiry_date")), True)  # read-only, every worker renews a copy of its own


_STORED: Mapping[str, Callable[[Place], Stored | None]] = {
    "claude": _stored_claude,
    "codex": _stored_codex,
    "gemini": _stored_gemini,
}


def _json(file: Path) -> Any:
    return json.loads(file.read_text("utf-8"))


def _time(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 < value < 1e15 else None
