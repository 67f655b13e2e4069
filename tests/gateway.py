"""A gateway as people run it: a process of its own, configured by environment and llmux.toml, spoken to over loopback."""

import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.upstreams.running import ROOT, die_with_parent

START_S_MAX = 40
JSON = {"content-type": "application/json"}


class GatewayProcess:
    """A running `llmux serve`: its port, its data, its log lines, and a small HTTP client."""

    def __init__(self, home: Path, environ: dict[str, str], toml: str, *args: str):
        self.home, self.data_dir = home, home / "data"
        (home / "llmux.toml").write_text(toml)
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PORT": "0",
            "LLMUX_CONFIG": str(home / "llmux.toml"),
            "LLMUX_DATA_DIR": str(self.data_dir),
            **environ,
        }
        self.lines: list[dict[str, Any]] = []
        self._args = args or ("serve",)
        self.start()

    def start(self) -> None:
        """Starts it (again), and returns when it listens."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llmux", *self._args],
            env=self.environ,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=die_with_parent,
            text=True,
        )
        listening: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr, listening))
        self._reader.start()
        url = listening.get(timeout=START_S_MAX)
        if url is None:
            self.stop(signal.SIGKILL)  # reaped, or tests that look for what is left behind would find it
        assert url is not None, f"the gateway ended before it listened: {self.lines}"
        self.port = int(url.rsplit(":", 1)[1])

    def _read(self, stderr: Any, listening: "queue.Queue[str | None]") -> None:
        with stderr:
            for line in stderr:
                try:
                    entry = json.loads(line)
                except ValueError:
                    entry = {"event": line.rstrip()}
                self.lines.append(entry)
                if entry.get("event") == "listening":
                    listening.put(entry["url"])
        listening.put(None)

    def stop(self, number: signal.Signals = signal.SIGTERM, wait_s_max: float = 30) -> int:
        """Sends a signal to this very process, waits for its end, and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(wait_s_max)
        self._reader.join(10)
        return status

    def connect(self, timeout_s: float = 60) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> "Reply":
        """One request and its whole answer."""
        connection = self.connect()
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, {**(JSON if data is not None else {}), **(headers or {})})
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def llmux(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Runs another llmux command with the same environment."""
        command = [sys.executable, "-m", "llmux", *args]
        return subprocess.run(command, env=self.environ, cwd=ROOT, capture_output=True, text=True, timeout=60)

    def events(self) -> list[dict[str, Any]]:
        """The whole log, as `llmux events --json` prints it."""
        printed = self.llmux("events", "--json")
        assert printed.returncode == 0, printed.stderr
        return [json.loads(line) for line in printed.stdout.splitlines()]


class Reply:
    """A whole response."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self) -> str:
        return f"<Reply {self.status} {self.body[:500]!r}>"

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def frames(self) -> list[Any]:
        """The data of a stream's frames; "[DONE]" stays text."""
        datas = [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]
        return [data if data == "[DONE]" else json.loads(data) for data in datas]


@contextmanager
def gateway_process(home: Path, *args: str, toml: str = "", **environ: str) -> Iterator[GatewayProcess]:
    """Runs a gateway with `home` as its home; it is killed at the end if it still runs."""
    home.mkdir(parents=True, exist_ok=True)
    running = GatewayProcess(home, environ, toml, *args)
    try:
        yield running
    finally:
        running.stop(signal.SIGKILL)
