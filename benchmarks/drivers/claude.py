"""Claude Code without a gateway: the same lines to the same program, from a loop that does nothing else."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.drivers import Ask, Shot
from llmux.providers.claude import login as claude_login
from llmux.providers.claude.provider import FLAGS
from llmux.providers.claude.worker import PING
from tests.clis import claude
from tests.providers.hearing import place_of
from tests.upstreams.running import Upstream, die_with_parent

TOKEN = "sk-ant-oat01-of-the-benchmark"  # noqa: S105 - opens nothing


class Claude:
    """Implements `benchmarks.drivers.Driver`."""

    name, stand_in, model, logins, settle_s = "claude", "anthropic", "claude-sonnet-4", ("token", "login file"), 1.5
    certificates = False
    at_once = 0
    echo: ClassVar = {"mode": "echo"}
    stall: ClassVar = {"mode": "stall"}

    def prepare(self, home: Path, login: str, api: Upstream) -> dict[str, str]:
        if login == "token":
            return {"CLAUDE_CODE_OAUTH_TOKEN": TOKEN}
        stored = {"accessToken": TOKEN, "refreshToken": "sk-ant-ort01-x", "expiresAt": 9_999_999_999_999}
        file = home / ".claude" / ".credentials.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            json.dumps({"claudeAiOauth": {**stored, "scopes": ["user:inference"], "subscriptionType": "max"}})
        )
        file.chmod(0o600)
        return {}

    def toml(self, home: Path, login: str, api: Upstream) -> str:
        return f'[providers.claude]\ncommand = "{claude()}"\nenv = {{ ANTHROPIC_BASE_URL = "{api.url}" }}\n'

    def is_model_call(self, seen: dict[str, Any]) -> bool:
        return str(seen["path"]).startswith("/v1/messages")

    @contextmanager
    def warm(self, home: Path, login: str, api: Upstream) -> Iterator[Ask]:
        def ask(text: str) -> Shot:
            with self._started(home, login, api) as program:
                program.say(PING)
                program.listen(lambda line: line["type"] == "control_response")
                time.sleep(0.1)
                return program.asked(text)

        yield ask

    def cold(self, home: Path, login: str, api: Upstream, text: str) -> Shot:
        before = time.monotonic_ns()
        with self._started(home, login, api) as program:
            return Shot(before, program.asked(text).heard_ns)

    def one_shot(self, home: Path, login: str, api: Upstream, text: str) -> Shot:
        before = time.monotonic_ns()
        argv = [str(claude()), "-p", "--output-format", "text", "--model", "sonnet"]
        with _running(argv, self._environment(home, login, api), home) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            program.stdin.write(text.encode())
            program.stdin.close()
            program.stdout.read(1)
            return Shot(before, time.monotonic_ns())

    @contextmanager
    def _started(self, home: Path, login: str, api: Upstream) -> Iterator["_Program"]:
        environ = {"CLAUDE_CODE_OAUTH_TOKEN": TOKEN} if login == "token" else {}
        environ["HOME"] = str(home)
        place = place_of("claude", home / "bare", environ=environ, env={"ANTHROPIC_BASE_URL": api.url})
        claude_login.prepare(place)
        argv, env = [str(claude()), *FLAGS, "sonnet"], claude_login.environment(place)
        with _running(argv, env, claude_login.empty_dir(place)) as process:
            yield _Program(process)

    def _environment(self, home: Path, login: str, api: Upstream) -> dict[str, str]:
        token = {"CLAUDE_CODE_OAUTH_TOKEN": TOKEN} if login == "token" else {}
        quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}  # nobody may be asked but the stand-in
        return {"HOME": str(home), "PATH": os.environ["PATH"], "ANTHROPIC_BASE_URL": api.url, **quiet, **token}


class _Program:
    """A process that is spoken to in JSON lines."""

    def __init__(self, process: "subprocess.Popen[bytes]"):
        self._process = process

    def say(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    def listen(self, wanted: Any) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            if wanted(json.loads(raw)):
                return
        raise RuntimeError("Claude Code ended without an answer")

    def asked(self, text: str) -> Shot:
        """One prompt, in the lines that the adapter sends for it."""
        before = time.monotonic_ns()
        self.say(
            {"type": "control_request", "request_id": "c1", "request": {"subtype": "initialize", "systemPrompt": []}}
        )
        self.listen(lambda line: line["type"] == "control_response")
        self.say({"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": text}]}})
        self.listen(lambda line: line.get("event", {}).get("type") == "content_block_delta")
        return Shot(before, time.monotonic_ns())


@contextmanager
def _running(argv: list[str], env: dict[str, str], cwd: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is killed when the block is left."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        argv,
        env=env,
        cwd=cwd,
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        preexec_fn=die_with_parent,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
