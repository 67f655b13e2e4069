"""Installs the real client programs for tests into `.cache/clients`, each file checked against a hash.

    python -m tests.clients.install         unless they are there already
    python -m tests.clients.install lock    writes node/package-lock.json anew (`make lock-clients`)

Python's live in an environment of their own, so that what they need does not decide what the gateway is tested with.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.npm import npm

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[1] / ".cache" / "clients"
PYTHON = FOLDER / "python" / "bin" / "python"
NODE = FOLDER / "node"
_LOCK = HERE / "requirements.lock"
_PINS = [HERE / "node" / name for name in ("package.json", "package-lock.json", ".npmrc")]


def install() -> None:
    """Makes FOLDER hold what the locks name; does nothing when it does already. Two at once take turns."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    recipe = hashlib.sha256(b"".join(pin.read_bytes() for pin in (_LOCK, *_PINS))).hexdigest()
    stamp = FOLDER / "made-from"
    with open(FOLDER.with_suffix(".lock"), "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == recipe:
            return
        print(
            "Installing the client programs for tests into .cache/clients (once, about 80 MB to fetch) ...", flush=True
        )
        stamp.unlink(missing_ok=True)
        venv.create(FOLDER / "python", clear=True, with_pip=True)
        pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        done = subprocess.run([*pip, "install", "--require-hashes", "-r", _LOCK], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"The clients written in Python could not be installed:\n{done.stdout}{done.stderr}")
        NODE.mkdir(exist_ok=True)
        for pin in _PINS:
            shutil.copy(pin, NODE)
        npm(NODE, "ci")
        stamp.write_text(recipe)


if __name__ == "__main__":
    if sys.argv[1:] == ["lock"]:
        npm(HERE / "node", "install", "--package-lock-only")
    else:
        install()
