"""Codex without a gateway: the same lines to the same program, from a loop that does nothing else."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.drivers import Ask, Shot
from llmux.config import Account
from llmux.prompts import Prompt, user
from llmux.providers.adapter import Call, Place
from llmux.providers.codex import home as codex_home
from llmux.providers.codex import login as codex_login
from llmux.providers.codex.connection import encode
from llmux.providers.codex.request import request_of
from llmux.providers.codex.server import HANDSHAKE
from tests.clis import codex
from tests.providers.codex_login import write_login
from tests.providers.hearing import place_of
from tests.upstreams.running import Upstream, die_with_parent

KEY = "sk-of-the-benchmark"


class Codex:
    """Implements `benchmarks.drivers.Driver`."""

    name, stand_in, model, logins, settle_s = "codex", "openai", "gpt-5.2-codex", ("login file", "API key"), 0.2
    certificates = False
    at_once = 16
    echo: ClassVar = {"echo": True}
    stall: ClassVar = {"deltas": ["one ", "two ", "three"], "end": "stall"}

    def prepare(self, home: Path, login: str, api: Upstream) -> dict[str, str]:
        directory = home / "codex-login"
        if login == "API key":
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "auth.json").write_text(json.dumps({"auth_mode": "apikey", "OPENAI_API_KEY": KEY}))
        else:
            write_login(directory)
        return {"CODEX_HOME": str(directory)}

    def toml(self, home: Path, login: str, api: Upstream) -> str:
        return f'[providers.codex]\ncommand = "{codex()}"\nbase_url = "{self._url(api)}"\n'

    def is_model_call(self, seen: dict[str, Any]) -> bool:
        return str(seen["path"]).endswith("/responses")

    @contextmanager
    def warm(self, home: Path, login: str, api: Upstream) -> Iterator[Ask]:
        place = self._place(home, api)
        with _app_server(place) as server:
            yield lambda text: server.asked(text)

    def cold(self, home: Path, login: str, api: Upstream, text: str) -> Shot:
        before = time.monotonic_ns()
        with _app_server(self._place(home / "cold", api, home)) as server:
            return Shot(before, server.asked(text).heard_ns)

    def one_shot(self, home: Path, login: str, api: Upstream, text: str) -> Shot:
        place = self._place(home / "once", api, home)
        _written(place)
        before = time.monotonic_ns()
        argv = [str(codex()), "exec", "--json", "--skip-git-repo-check", "--color", "never", "-m", self.model, "-"]
        with _running(argv, place) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(text.encode())
            process.stdin.close()
            for line in process.stdout:
                if json.loads(line).get("item", {}).get("type") == "agent_message":
                    return Shot(before, time.monotonic_ns())
        raise RuntimeError("codex exec ended without an answer")

    def _url(self, api: Upstream) -> str:
        return f"{api.url}/backend-api/codex"

    def _place(self, directory: Path, api: Upstream, home: Path | None = None) -> Place:
        account = Account(config_dir=str((home or directory) / "codex-login"))
        return place_of("codex", directory / "bare", account=account, base_url=self._url(api))


class _AppServer:
    """A process that is spoken to in JSON lines."""

    def __init__(self, process: "subprocess.Popen[bytes]", place: Place):
        self._process, self._empty, self._last_id = process, codex_home.paths(place)[1], 0
        self.call("initialize", HANDSHAKE)
        self._say({"method": "initialized"})

    def call(self, method: str, params: dict[str, Any]) -> Any:
        self._last_id += 1
        self._say({"id": self._last_id, "method": method, "params": params})
        return self._listen(lambda line: line.get("id") == self._last_id)["result"]

    def asked(self, text: str) -> Shot:
        """One prompt in a thread of its own."""
        request = request_of(Call(Prompt((user(text),)), Codex.model, Codex.model), self._empty)
        before = time.monotonic_ns()
        started = self.call("thread/start", {**request.thread, "ephemeral": True, "environments": []})
        thread = {"threadId": started["thread"]["id"]}
        self.call("thread/inject_items", {**thread, "items": request.items})
        self._last_id += 1
        self._say({"id": self._last_id, "method": "turn/start", "params": {**thread, **request.turn}})
        self._listen(lambda line: line.get("method") == "item/agentMessage/delta")
        heard = time.monotonic_ns()
        self._listen(lambda line: line.get("method") == "turn/completed")
        self.call("thread/unsubscribe", thread)
        return Shot(before, heard)

    def _say(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(encode(message) + b"\n")
        self._process.stdin.flush()

    def _listen(self, wanted: Any) -> Any:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            if wanted(line := json.loads(raw)):
                return line
        raise RuntimeError("Codex ended without an answer")


def _written(place: Place) -> None:
    """Makes its CODEX_HOME, once."""
    if not codex_home.paths(place)[0].exists():
        codex_home.clear(place)
        codex_home.write(place, codex_login.read(place))


@contextmanager
def _app_server(place: Place) -> Iterator[_AppServer]:
    _written(place)
    with _running([str(codex()), "app-server", "--strict-config"], place) as process:
        yield _AppServer(process, place)


@contextmanager
def _running(argv: list[str], place: Place) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is killed when the block is left."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        argv,
        env={**codex_home.environment(place), "PATH": os.environ["PATH"]},
        cwd=codex_home.paths(place)[1],
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
