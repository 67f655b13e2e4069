"""The program `codex`: where its native binary is, and which version it is."""

import platform
import re
import sys
from pathlib import Path

from llmux.failures import Kind, ProviderFailure
from llmux.providers.adapter import Place
from llmux.providers.codex import home
from llmux.providers.codex.failures import unwritable
from llmux.providers.programs import find, output_of

TESTED = "0.169.0"
"""The version LLMux is tested with, and the oldest that is known to speak the protocol used here; an older one is refused."""
INSTALL = f"type: npm install -g @openai/codex@{TESTED}"

_VERSION = re.compile(r"\b(\d{1,5})\.(\d{1,5})\.(\d{1,5})\b")
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_SYSTEMS = {"linux": "unknown-linux-musl", "darwin": "apple-darwin"}


def locate(place: Place) -> Path:
    """The program to start. Raises ProviderFailure(UNAVAILABLE) when there is none."""
    found = find(place.settings.command, environment_path(place))
    if found is None:
        raise ProviderFailure(
            Kind.UNAVAILABLE,
            f"The program '{place.settings.command}' is not installed; {INSTALL}",
            evidence="codex.not_installed",
        )
    return native(found)


def environment_path(place: Place) -> str:
    return home.environment(place).get("PATH", "")


def native(found: Path) -> Path:
    """The native binary behind npm's wrapper script (which only costs a Node process), or `found` itself."""
    script = found.resolve()
    if script.suffix != ".js":
        return found
    machine = _MACHINES.get(platform.machine().lower(), "")
    triple = f"{machine}-{_SYSTEMS.get(sys.platform, '')}"
    package = script.parent.parent  # .../@openai/codex
    for modules in (package / "node_modules" / "@openai", package.parent):
        for binary in sorted(modules.glob(f"codex-*/vendor/{triple}/bin/codex")):
            if binary.is_file():
                return binary
    bundled = package / "vendor" / triple / "bin" / "codex"
    return bundled if bundled.is_file() else found


async def version(program: Path, place: Place) -> str:
    """The program's version, such as "0.169.0". Raises ProviderFailure when it does not say one."""
    try:
        home.make(place)  # a probe may come before `serve`
    except OSError as error:
        raise unwritable(error) from None
    _, empty = home.paths(place)
    argv = [str(program), "--version"]
    _, output = await output_of(argv, env=home.environment(place), cwd=empty, limits=place.limits)
    said = _VERSION.search(output.decode("utf-8", "replace"))
    if said is None:
        raise ProviderFailure(
            Kind.UNAVAILABLE, f"{program.name} --version does not name a version.", evidence="codex.no_version"
        )
    return said[0]


def too_old(text: str) -> str:
    """A sentence when this version is older than LLMux can use, else ""."""
    if _numbers(text) >= _numbers(TESTED):
        return ""
    return f"Codex {text} is older than {TESTED}, the oldest version LLMux can use; {INSTALL}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
