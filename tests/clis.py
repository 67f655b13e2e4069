"""The real command-line tools for tests, at the versions of deploy/clis, in `.cache/clis`.

    python -m tests.clis         installs them with the npm of the test environment, unless they are there already
    python -m tests.clis lock    writes package-lock.json anew from package.json (`make lock-clis`)

`BIN` holds `node`, `claude`, `gemini` and `codex`: put it first on PATH, or use the functions. Nothing here needs a login.
"""

import fcntl
import hashlib
import shutil
import sys
from pathlib import Path

from tests.npm import node_program, npm

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "deploy" / "clis"
FOLDER = ROOT / ".cache" / "clis"
BIN = FOLDER / "bin"
_MODULES = FOLDER / "node_modules"


def node() -> Path:
    """Node, which only Gemini CLI needs: the other two are native programs."""
    return BIN / "node"


def claude() -> Path:
    """Claude Code's native program for this machine."""
    return _only("@anthropic-ai/claude-code-*/claude")


def codex() -> Path:
    """Codex's native program for this machine (its launcher would cost a Node process)."""
    return _only("@openai/codex-*/vendor/*/bin/codex")


def gemini() -> Path:
    """Gemini CLI's script: start it with `node()`, or with BIN on PATH."""
    return _only("@google/gemini-cli/bundle/gemini.js")


def _only(pattern: str) -> Path:
    found = list(_MODULES.glob(pattern))
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} files match {_MODULES / pattern}: run `make test`, which installs them")
    return found[0]


def install() -> None:
    """Makes FOLDER hold what deploy/clis names; does nothing when it does already. Two at once take turns."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    pins = [PINS / name for name in ("package.json", "package-lock.json", ".npmrc")]
    recipe = hashlib.sha256(b"".join(pin.read_bytes() for pin in pins)).hexdigest()
    stamp = FOLDER / "made-from"
    with open(FOLDER.with_suffix(".lock"), "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != recipe:
            print("Installing the command-line tools into .cache/clis (once, about 250 MB to fetch) ...", flush=True)
            for pin in pins:
                shutil.copy(pin, FOLDER)
            npm(FOLDER, "ci")
            stamp.write_text(recipe)
        _fill_bin()


def _fill_bin() -> None:
    BIN.mkdir(exist_ok=True)
    programs = {"node": node_program(), "claude": claude(), "codex": codex(), "gemini": gemini()}
    for name, program in programs.items():
        link = BIN / name
        if not (link.is_symlink() and link.readlink() == program):
            link.unlink(missing_ok=True)
            link.symlink_to(program)


if __name__ == "__main__":
    if sys.argv[1:] == ["lock"]:
        npm(PINS, "install", "--package-lock-only")
    else:
        install()
