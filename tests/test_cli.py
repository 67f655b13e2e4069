"""The command line, run as people run it."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
import trio
import trio.testing
from click.testing import CliRunner

from llmux.actors.history import Wanted
from llmux.cli import main
from llmux.cli.reading import FOLLOW_INTERVAL_S, print_events
from llmux.config import Limits
from llmux.events import RecordedEvent
from llmux.eventstore import Reader, open_reader
from llmux.failures import ConfigurationWrong, DirectoryInUse
from llmux.providers.claude import login as claude
from llmux.providers.codex import program as codex
from llmux.providers.gemini import program as gemini
from tests.cli.running import SCRIPTED
from tests.eventstore.logs import one, opened
from tests.gateway import GatewayProcess, gateway_process


@pytest.fixture
def gateway(tmp_path: Path):
    with gateway_process(tmp_path / "home", toml=SCRIPTED) as running:
        yield running


def ask(gateway: GatewayProcess, prompt: str = "hi") -> str:
    reply = gateway.call("POST", "/api/smart", {"prompt": prompt})
    assert reply.status == 200, reply
    return reply.headers["x-request-id"]


def test_events_prints_what_was_decided(gateway: GatewayProcess):
    id = ask(gateway)
    printed = gateway.llmux("events").stdout.splitlines()
    assert [line.split()[3] for line in printed] == [
        "GatewayStarted", "RequestAccepted", "AttemptStarted", "AttemptSucceeded", "RequestCompleted",
    ]  # fmt: skip
    assert gateway.llmux("events", "--type", "AttemptStarted").stdout.count("\n") == 1
    of_stream = gateway.llmux("events", "--json", "--stream", f"request-{id}").stdout.splitlines()
    assert [json.loads(line)["type"] for line in of_stream] == ["RequestAccepted", "RequestCompleted"]
    assert json.loads(of_stream[0])["correlation_id"] == id


def test_events_follows_a_running_gateway(gateway: GatewayProcess, tmp_path: Path):
    follower = subprocess.Popen(
        [sys.executable, "-m", "llmux", "events", "--follow", "--json", "--type", "RequestCompleted"],
        env=gateway.environ, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        ask(gateway)
        assert json.loads(follower.stdout.readline())["type"] == "RequestCompleted"
        ask(gateway, "another")
        assert json.loads(follower.stdout.readline())["type"] == "RequestCompleted"
        follower.send_signal(signal.SIGINT)
        assert follower.wait(10) == 130
    finally:
        follower.kill()
        follower.wait()
        follower.stdout.close()


async def test_following_reads_no_event_twice_although_none_matches(
    tmp_path: Path,
    virtual_time: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """What did not match once is not read again four times a second; what comes later is still seen."""
    after: list[int] = []
    read = Reader.read

    async def noted(self: Reader, **wish: Any) -> list[RecordedEvent]:
        after.append(wish["after"])
        return await read(self, **wish)

    monkeypatch.setattr(Reader, "read", noted)
    async with opened(tmp_path) as store, open_reader(tmp_path, Limits()) as reader:
        await store.append([one("gateway"), one("cache"), one("gateway"), one("gateway")])
        only_the_cache, show = (
            Wanted(streams=frozenset({"cache"})),
            lambda page: print(*(f"at {e.position}" for e in page)),
        )
        follow = partial(print_events, reader, only_the_cache, show, follow=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.sleep(10 * FOLLOW_INTERVAL_S)
            assert after[0] == 0
            assert set(after[1:]) == {4}
            await store.append([one("gateway"), one("cache")])
            await trio.sleep(10 * FOLLOW_INTERVAL_S)
            nursery.cancel_scope.cancel()
    assert after[-1] == 6
    assert capsys.readouterr().out == "at 2\nat 6\n"


@pytest.mark.parametrize("command", ["events", "replay", "verify"])
def test_a_log_that_is_not_there_is_named(tmp_path: Path, command: str):
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LLMUX_DATA_DIR": str(tmp_path / "none")}
    argv = [sys.executable, "-m", "llmux", command]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"llmux: There is no event log at {tmp_path}/none/events.db. ")
    assert "llmux serve" in done.stderr
    assert "LLMUX_DATA_DIR" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_replay_is_the_same_before_and_after_a_restart(gateway: GatewayProcess):
    for number in range(3):
        ask(gateway, f"prompt {number}")
    assert gateway.stop() == 0
    before = gateway.llmux("replay")
    assert before.returncode == 0, before.stderr
    position = json.loads(before.stdout)["position"]
    gateway.start()
    assert gateway.llmux("replay", "--at", str(position)).stdout == before.stdout
    now = json.loads(gateway.llmux("replay").stdout)
    then = json.loads(before.stdout)
    for changing in ("position", "gateway"):
        now.pop(changing), then.pop(changing)
    assert now == then
    assert then["requests"]["completed"] == 3


def test_replay_goes_back_to_a_position_or_a_time(gateway: GatewayProcess):
    ask(gateway, "one")
    first = gateway.events()[-1]
    time.sleep(0.01)  # so that the second request is recorded in a later millisecond
    ask(gateway, "two")
    for moment in (str(first["position"]), first["recorded_at"]):
        facts = json.loads(gateway.llmux("replay", "--at", moment).stdout)
        assert facts["requests"]["completed"] == 1, moment
    for wrong in ("yesterday", "99999", "²", "٣", "-1", "9" * 30, "9" * 5000, "", "0001-01-01T00:00+23:59"):
        refused = gateway.llmux("replay", "--at", wrong)
        assert refused.returncode == 2
        assert "--at" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_verify_says_that_the_chain_holds_or_where_it_breaks(gateway: GatewayProcess):
    ask(gateway)
    assert "The chain holds: 5 events" in gateway.llmux("verify").stdout
    assert gateway.stop() == 0
    connection = sqlite3.connect(gateway.data_dir / "events.db")
    for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.execute("UPDATE events SET principal = 'somebody' WHERE position = 3")
    connection.commit()
    connection.close()
    broken = gateway.llmux("verify")
    assert broken.returncode == 1
    assert "osition 3" in broken.stderr
    assert gateway.llmux("verify", "--from", "4").returncode == 0


def test_a_second_gateway_on_the_same_data_says_why_it_stops(gateway: GatewayProcess):
    second = gateway.llmux("serve")
    assert second.returncode == 1
    assert str(gateway.process.pid) in second.stderr
    assert "LLMUX_DATA_DIR" in second.stderr
    assert "Traceback" not in second.stderr


def test_doctor_says_what_is_there_and_what_to_type(gateway: GatewayProcess):
    report = json.loads(gateway.llmux("doctor", "--json").stdout)
    assert report["running"] is True
    assert report["ready"] is True
    assert [entry["provider"] for entry in report["providers"]] == ["claude"]
    assert "A gateway is running" in gateway.llmux("doctor").stdout


def test_doctor_without_any_provider_says_how_to_get_one(tmp_path: Path):
    with gateway_process(
        tmp_path / "home", toml='[providers.ollama]\nurl = "http://127.0.0.1:9"\n', PATH="/nowhere"
    ) as gateway:
        health = gateway.call("GET", "/health")
        assert health.status == 503
        assert health.json["availableProviders"] == []
        assert all(each["sentence"] for each in health.json["providers"].values())
        refused = gateway.call("POST", "/api/smart", {"prompt": "hi"})
        assert refused.status == 503
        for name in ("claude", "gemini", "codex", "ollama"):
            assert name in refused.json["error"]
        doctor = gateway.llmux("doctor")
        assert doctor.returncode == 1
        for advice in (claude.INSTALL, gemini.INSTALL, codex.INSTALL):
            assert advice in doctor.stdout
        assert "ollama serve" in doctor.stdout
        assert "llmux demo" in doctor.stdout


def test_every_place_names_the_same_tested_versions():
    """The adapters' advice, README's table, and what the tests and the image install."""
    root = Path(__file__).parents[1]
    tested = {
        "@anthropic-ai/claude-code": (claude.TESTED, claude.INSTALL),
        "@google/gemini-cli": (gemini.TESTED, gemini.INSTALL),
        "@openai/codex": (codex.TESTED, codex.INSTALL),
    }
    installed = json.loads((root / "deploy/clis/package.json").read_text())["dependencies"]
    assert installed == {package: version for package, (version, _) in tested.items()}
    readme = re.findall(r"npm install -g (@[a-z-]+/[a-z-]+)(?:@(\S+?))?[`\s]", (root / "README.md").read_text())
    assert dict(readme) == installed
    for package, (version, advice) in tested.items():
        assert advice.endswith(f"ype: npm install -g {package}@{version}")
    told = [line for file in (root / "llmux").rglob("*.py") for line in file.read_text().splitlines()]
    assert len([line for line in told if "npm install -g" in line]) == len(tested), "advice outside of the constants"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"PORT": "eight"}, "PORT"),
        ({"HOST": "0.0.0.0"}, "ALLOW_UNAUTHENTICATED"),
        ({"API_KEY_REQUIRED": "true"}, "API_KEY"),
        ({"API_KEY": "sk-default-key"}, "API_KEY"),
        ({"DEFAULT_PROVIDER": "bard"}, "DEFAULT_PROVIDER"),
        ({"LLMUX_CONFIG": "/nowhere/llmux.toml"}, "/nowhere/llmux.toml"),
        ({"LLMUX_DATABASE_URL": "postgresql://x"}, "LLMUX_DATABASE_URL"),
        ({"OLLAMA_HOST": "ftp://x"}, "Ollama"),
        ({"LLMUX_DATA_DIR": "/proc/nowhere"}, "LLMUX_DATA_DIR"),
    ],
)
def test_a_setting_that_cannot_be_used_is_a_sentence(tmp_path: Path, environ: dict[str, str], said: str):
    base = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "llmux", "serve"], env={**base, **environ}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("llmux: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def serve_refused(home: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs `llmux serve` where it cannot start: without any provider to look for, and for at most a minute."""
    (home / "llmux.toml").write_text(SCRIPTED)
    base = {"PATH": os.environ["PATH"], "HOME": str(home), "LLMUX_CONFIG": str(home / "llmux.toml")}
    serve = [sys.executable, "-m", "llmux", "serve"]
    return subprocess.run(serve, env={**base, **environ}, capture_output=True, text=True, timeout=60)


def the_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What is on stderr beside the log lines: one line."""
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    return line


def test_an_occupied_port_is_a_sentence(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        done = serve_refused(tmp_path, PORT=str(port))
    assert the_sentence(done).startswith(f"llmux: Another program listens on 127.0.0.1:{port}. ")
    assert done.returncode == 2


def test_a_host_that_nobody_knows_is_a_sentence(tmp_path: Path):
    done = serve_refused(tmp_path, HOST="nobody.invalid", PORT="0", ALLOW_UNAUTHENTICATED="true")
    assert the_sentence(done).startswith("llmux: nobody.invalid:0 cannot be listened on: ")
    assert done.returncode == 2


def test_several_failures_at_once_stay_a_traceback():
    """Only a group around one single LLMuxError is that error: of two, neither would be the whole story."""
    wrong = ConfigurationWrong("PORT is 70000.")
    for raised, status in [
        (ExceptionGroup("", [ExceptionGroup("", [wrong])]), 2),
        (ExceptionGroup("", [DirectoryInUse("in use")]), 1),
    ]:
        done = CliRunner().invoke(command_that_raises(raised))
        assert (done.exit_code, done.stderr) == (status, f"llmux: {raised.exceptions[0] if status == 1 else wrong}\n")
    for raised in (ExceptionGroup("", [wrong, wrong]), ExceptionGroup("", [KeyError("x")])):
        assert CliRunner().invoke(command_that_raises(raised)).exception is raised


def command_that_raises(error: Exception) -> click.Command:
    @main.command("raise")
    def command() -> None:
        raise error

    del main.commands["raise"]
    return command


def test_the_demo_answers_every_endpoint_and_says_that_it_is_one(tmp_path: Path):
    with gateway_process(tmp_path / "home", "demo") as gateway:
        for path in ("/api/smart", "/api/generate", "/claude", "/gemini", "/codex", "/ollama"):
            reply = gateway.call("POST", path, {"prompt": f"hello {path}"})
            assert reply.status == 200, reply
            assert reply.json["provider"].endswith("-demo"), reply
            assert "demo" in reply.json["response"]
        chat = {"model": "claude-opus-4-5", "messages": [{"role": "user", "content": "hello"}]}
        assert gateway.call("POST", "/v1/chat/completions", chat).headers["x-llmux-provider"] == "claude-demo"


def test_the_demo_leaves_the_real_log_alone_and_says_where_its_own_is(tmp_path: Path):
    with gateway_process(tmp_path / "home", "demo", LLMUX_DATA_DIR="") as gateway:
        ask(gateway)
        (line,) = [entry["event"] for entry in gateway.lines if entry["event"].startswith("LLMUX_DATA_DIR=")]
        assert line.endswith(" llmux events")
        line = line.replace(" llmux ", f" {sys.executable} -m llmux ")  # nothing is installed on PATH here
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        typed = subprocess.run(["sh", "-c", line], env=environ, capture_output=True, text=True, timeout=60)
        assert "RequestCompleted" in typed.stdout, typed.stderr
        assert gateway.stop() == 0
    assert not (tmp_path / "home" / ".local").exists(), "a demo must not touch the real log"
    assert not Path(line.split()[0].removeprefix("LLMUX_DATA_DIR=")).exists()


def test_the_demo_keeps_its_log_where_it_is_told_to(tmp_path: Path):
    with gateway_process(tmp_path / "home", "demo") as gateway:
        id = ask(gateway)
        assert gateway.stop() == 0
        assert id in {event["correlation_id"] for event in gateway.events()}
        assert gateway.data_dir.is_dir()


def test_sigterm_lets_an_open_answer_finish(tmp_path: Path):
    toml = SCRIPTED.replace("say=hello+you", "say=a+b+c+d,gap=300")
    with gateway_process(tmp_path / "home", toml=toml) as gateway:
        replies = []
        body = {"prompt": "hi", "stream": True}
        asking = threading.Thread(target=lambda: replies.append(gateway.call("POST", "/api/smart", body)))
        asking.start()
        while gateway.call("GET", "/health").json["activeRequests"] == 0:
            time.sleep(0.01)
        assert gateway.stop() == 0
        asking.join(10)
        assert replies[0].frames[-1] == "[DONE]"
        assert "".join(frame.get("content", "") for frame in replies[0].frames[:-1]).split() == ["a", "b", "c", "d"]
        assert [event["type"] for event in gateway.events()][-3:] == [
            "RequestCompleted",
            "SnapshotTaken",
            "GatewayStopped",
        ]


def test_a_second_signal_does_not_cut_the_stop_short(tmp_path: Path):
    toml = SCRIPTED.replace("say=hello+you", "say=a+b+c+d,gap=200")
    with gateway_process(tmp_path / "home", toml=toml) as gateway:
        replies = []
        asking = threading.Thread(target=lambda: replies.append(gateway.call("POST", "/api/smart", {"prompt": "hi"})))
        asking.start()
        while gateway.call("GET", "/health").json["activeRequests"] == 0:
            time.sleep(0.01)
        gateway.process.send_signal(signal.SIGTERM)
        gateway.process.send_signal(signal.SIGINT)
        assert gateway.stop() == 0
        asking.join(10)
        assert replies[0].status == 200
        assert [event["type"] for event in gateway.events()][-1] == "GatewayStopped"
