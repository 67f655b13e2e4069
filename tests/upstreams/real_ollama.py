"""A real Ollama server on 127.0.0.1 with one model, "tiny", that babbles (assert on shapes and counts, not on words).

    python -m tests.upstreams.real_ollama --port 0       prints `LISTENING <port>` and serves
    python -m tests.upstreams.real_ollama --prepare      only installs it (`make test` does this)

It ends on SIGTERM, or when the process that started it ends, and takes the server's model runners with it. Each run works on
its own copy of the models. Variables named OLLAMA_... reach the server (OLLAMA_MAX_QUEUE=1 provokes a 503).
"""

import argparse
import ctypes
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

from tests.upstreams.real_ollama_install import SERVER, install

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "ollama"
START_SECONDS_MAX = 30
END_SECONDS_MAX = 5

_LISTENING = re.compile(r"Listening on 127\.0\.0\.1:(\d+)")
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Server:
    """A running Ollama: its process (the leader of its own group), the last lines it wrote, and its port."""

    def __init__(self, folder: Path, models: Path, home: Path, port: int, log: IO[str] | None = None):
        self.last_lines: deque[str] = deque(maxlen=50)
        self._log = log
        self._ports: queue.Queue[int | None] = queue.Queue()
        self.process = subprocess.Popen(
            [folder / SERVER, "serve"],
            env=_environment(folder, models, home, port),
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_end_with_the_starter,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.last_lines.append(line)
            if self._log:
                self._log.write(line)
                self._log.flush()
            if found := _LISTENING.search(line):
                self._ports.put(int(found[1]))
        self._ports.put(None)

    def port(self) -> int:
        """Waits until the server takes connections."""
        with suppress(queue.Empty):
            if (port := self._ports.get(timeout=START_SECONDS_MAX)) is not None:
                return port
        raise SystemExit("Ollama did not start:\n" + "".join(self.last_lines))

    def end(self) -> None:
        """TERM to the whole group, so that the runners go too; KILL to what is left."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS_MAX)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _environment(folder: Path, models: Path, home: Path, port: int) -> dict[str, str]:
    chosen = {name: value for name, value in os.environ.items() if name.startswith("OLLAMA_")}
    return {
        "OLLAMA_NUM_PARALLEL": "2",
        **chosen,
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(models),
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "TMPDIR": str(home),
        "LD_LIBRARY_PATH": str(folder),
    }


def _end_with_the_starter() -> None:
    # TERM and not KILL: asked to end, the server ends its runners; killed, it leaves them behind.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


@contextmanager
def _serving(folder: Path) -> Iterator[int]:
    """The server on the models of `folder` itself, to put one there."""
    with tempfile.TemporaryDirectory(prefix="llmux-ollama-") as home:
        server = Server(folder, folder / "models", Path(home), 0)
        try:
            yield server.port()
        finally:
            server.end()


def prepare(folder: Path = FOLDER) -> None:
    """Installs the server and its model into `folder`, once."""
    install(folder, _serving)


def serve(folder: Path, port: int, log: IO[str] | None) -> int:
    """Serves until a signal or the end of the parent process; returns 1 when the server ended by itself."""
    parent = os.getppid()
    prepare(folder)
    with tempfile.TemporaryDirectory(prefix="llmux-ollama-") as home:
        models = shutil.copytree(folder / "models", Path(home) / "models")
        server = Server(folder, models, Path(home), port, log)
        try:
            print("LISTENING", server.port(), flush=True)
            # Asked again and again instead of a parent-death signal: that one fires when the starter's *thread* ends,
            # and a starter on trio starts processes in threads that come and go.
            while server.process.poll() is None and os.getppid() == parent:
                time.sleep(0.1)
            if server.process.poll() is None:
                return 0
            sys.stderr.write("Ollama ended by itself:\n" + "".join(server.last_lines))
            return 1
        finally:
            server.end()


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the tidying
    raise SystemExit(0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the server is installed")
    parser.add_argument("--log", type=argparse.FileType("w"), help="a file for all that the server writes")
    parser.add_argument("--prepare", action="store_true", help="install and leave")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _leave)
    if arguments.prepare:
        prepare(arguments.folder)
        return 0
    return serve(arguments.folder, arguments.port, arguments.log)


if __name__ == "__main__":
    sys.exit(main())
