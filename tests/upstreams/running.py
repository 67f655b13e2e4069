"""Starts stand-ins (and other line-announcing programs) for tests, and ends them by id."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Upstream:
    """A running stand-in: where it listens, what it saw, and its control door."""

    def __init__(self, port: int, pid: int, announced: dict[str, str]):
        self.port, self.pid, self.announced = port, pid, announced
        self.url = f"http://127.0.0.1:{port}"

    def _call(self, path: str, payload: Any = None) -> Any:
        data = None if payload is None else json.dumps(payload).encode()
        request = urllib.request.Request(self.url + path, data=data, headers={"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def control(self, **modes: Any) -> None:
        """Sets modes for the requests that follow."""
        self._call("/_ctl", modes)

    def log(self) -> list[dict[str, Any]]:
        """The requests seen since the last reset."""
        return self._call("/_log")

    def reset(self) -> None:
        """Forgets modes and log."""
        self._call("/_reset", {})


def die_with_parent() -> None:
    """For a child between fork and exec: it is killed when its parent ends."""
    if _libc is not None:
        _libc.prctl(1, signal.SIGKILL, 0, 0, 0)


@contextmanager
def upstream(name: str, *args: str) -> Iterator[Upstream]:
    """Runs `python -m tests.upstreams.NAME --port 0 ARGS`; lines `WORD rest` before LISTENING stand in `.announced`."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.upstreams.{name}", "--port", "0", *args],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
        preexec_fn=die_with_parent,
        text=True,
    )
    try:
        announced: dict[str, str] = {}
        assert process.stdout is not None
        for line in process.stdout:
            word, _, rest = line.strip().partition(" ")
            announced[word] = rest
            if word == "LISTENING":
                break
        else:
            raise RuntimeError(f"the stand-in {name} ended before it listened")
        yield Upstream(int(announced["LISTENING"]), process.pid, announced)
    finally:
        try:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
