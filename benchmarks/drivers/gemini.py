"""The Gemini CLI without a gateway: the same lines to the same program, from a loop that does nothing else."""

import json
import os
import secrets
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.drivers import Ask, Shot
from llmux.prompts import Prompt, user
from llmux.providers.adapter import Place
from llmux.providers.gemini.home import Home
from llmux.providers.gemini.pool import ARGUMENTS
from llmux.providers.gemini.program import Login, Program, find_login, find_program
from llmux.providers.gemini.translation import plain_model_config, translate
from tests.clis import gemini, node
from tests.providers.hearing import place_of
from tests.real.gemini_running import with_google, with_key, write_login
from tests.upstreams.running import Upstream, die_with_parent


class Gemini:
    """Implements `benchmarks.drivers.Driver`."""

    name, stand_in, model, settle_s = "gemini", "gemini", "gemini-3-flash-preview", 1.0
    logins, certificates = ("API key", "login file"), True
    at_once = 4
    echo: ClassVar = {}
    stall: ClassVar = {"text": "one two three", "pieces": 3, "pause_ms": 60_000}

    def prepare(self, home: Path, login: str, api: Upstream) -> dict[str, str]:
        if login == "login file":
            write_login(home / ".gemini", expires_in_s=30 * 24 * 3600)
        return {"PATH": _path()}

    def toml(self, home: Path, login: str, api: Upstream) -> str:
        values = ", ".join(f'{name} = "{value}"' for name, value in _env(login, api).items())
        return f'[providers.gemini]\ncommand = "{gemini()}"\nenv = {{ {values} }}\n'

    def is_model_call(self, seen: dict[str, Any]) -> bool:
        return "streamGenerateContent" in str(seen["path"])

    @contextmanager
    def warm(self, home: Path, login: str, api: Upstream) -> Iterator[Ask]:
        with self._agent(home, "warm", login, api) as agent:
            yield agent.asked

    def cold(self, home: Path, login: str, api: Upstream, text: str) -> Shot:
        before = time.monotonic_ns()
        with self._agent(home, "cold", login, api) as agent:
            return Shot(before, agent.asked(text).heard_ns)

    def one_shot(self, home: Path, login: str, api: Upstream, text: str) -> Shot:
        work = home / "once" / "work"
        work.mkdir(parents=True, exist_ok=True)
        if login == "login file":
            write_login(home / "once" / ".gemini", expires_in_s=30 * 24 * 3600)
        kind = "oauth-personal" if login == "login file" else "gemini-api-key"
        settings = {"security": {"auth": {"selectedType": kind}, "folderTrust": {"enabled": False}}}
        file = home / "once" / ".gemini" / "settings.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({**settings, "privacy": {"usageStatisticsEnabled": False}}))
        env = {"HOME": str(home / "once"), "PATH": _path(), "TERM": "dumb", **_env(login, api)}
        before = time.monotonic_ns()
        with _running([str(node()), str(gemini()), "-m", self.model, "-o", "text"], env, work) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(text.encode())
            process.stdin.close()
            if not process.stdout.read(1):
                raise RuntimeError("gemini ended without an answer")
            return Shot(before, time.monotonic_ns())

    @contextmanager
    def _agent(self, home: Path, name: str, login: str, api: Upstream) -> Iterator["_Agent"]:
        environ = {"HOME": str(home), "PATH": _path()}
        place = place_of("gemini", home / "bare", environ=environ, env=_env(login, api), command=str(gemini()))
        own = Home(place.directory / name)
        with _running(*_start(place, own, self.model)) as process:
            yield _Agent(process, own)


def _path() -> str:
    return f"{node().parent}{os.pathsep}{os.environ['PATH']}"


def _env(login: str, api: Upstream) -> dict[str, str]:
    return with_google(api) if login == "login file" else with_key(api)


def _start(place: Place, home: Home, model: str) -> tuple[list[str], dict[str, str], Path]:
    """Lays a home out; the program's arguments, environment and working directory."""
    program, login = find_program(place), find_login(place)
    assert isinstance(program, Program), program
    assert isinstance(login, Login), login
    home.prepare(login, [plain_model_config(model)])
    arguments = [part.format(policy=home.policy) for part in ARGUMENTS]
    return [*program.argv, *arguments], home.environment(place.environ, place.settings.env), home.start


class _Agent:
    """A process that is spoken to in JSON lines."""

    def __init__(self, process: "subprocess.Popen[bytes]", home: Home):
        self._process, self._home, self._last_id = process, home, 0
        self._call("initialize", {"protocolVersion": 1, "clientCapabilities": {}})

    def asked(self, text: str) -> Shot:
        """One prompt in a session of its own."""
        before = time.monotonic_ns()
        translation = translate(Prompt((user(text),)), Gemini.model)
        cwd = self._home.open(f"r{secrets.token_hex(8)}", str(uuid.uuid4()), translation)
        session = self._call("session/new", {"cwd": str(cwd), "mcpServers": []})["sessionId"]
        number = self._say("session/prompt", {"sessionId": session, "prompt": list(translation.blocks)})
        self._listen(lambda line: _kind(line) == "agent_message_chunk")
        heard = time.monotonic_ns()
        self._listen(lambda line: line.get("id") == number)
        self._home.clean()
        return Shot(before, heard)

    def _call(self, method: str, params: dict[str, Any]) -> Any:
        number = self._say(method, params)
        return self._listen(lambda line: line.get("id") == number)["result"]

    def _say(self, method: str, params: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        self._last_id += 1
        message = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()
        return self._last_id

    def _listen(self, wanted: Any) -> Any:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            if wanted(line := json.loads(raw)):
                return line
        raise RuntimeError("the Gemini CLI ended without an answer")


def _kind(line: dict[str, Any]) -> Any:
    return line.get("params", {}).get("update", {}).get("sessionUpdate")


@contextmanager
def _running(argv: list[str], env: dict[str, str], cwd: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is killed, with those that it has started, when the block is left."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        argv,
        env=env,
        cwd=cwd,
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
