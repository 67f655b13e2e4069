"""What a process of Claude Code is given, and what a probe finds out (hostile_claude.py is the process)."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from llmux.clock import SystemClock
from llmux.config import Account, Limits
from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Chunk, Prompt, assistant, user
from llmux.providers.adapter import Call, QuotaWindow
from llmux.providers.claude import ClaudeAdapter
from llmux.providers.claude import login as claude_login
from tests.providers.hearing import Heard, ask, descendants, place_of

MODEL = ("claude-sonnet-4", "sonnet")
PROGRAM = Path(__file__).with_name("hostile_claude.py")
LIMITS = Limits(line_bytes_max=200_000, answer_bytes_max=200_000, stop_ms_max=200, stderr_tail_bytes_max=1000)

Make = Callable[..., ClaudeAdapter]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """An adapter over the hostile program in the given mode."""
    program = tmp_path / "claude"
    program.write_text(f"#!{sys.executable} -IS\n{PROGRAM.read_text('utf-8')}", "utf-8")
    program.chmod(0o755)

    def made(mode: str = "ok", *, env: dict[str, str] | None = None, **more: Any) -> ClaudeAdapter:
        more = {"limits": LIMITS, "command": str(program), **more}
        return ClaudeAdapter(place_of("claude", tmp_path, env={"HOSTILE": mode, **(env or {})}, **more))

    return made


@pytest.mark.parametrize(
    ("mode", "kind", "evidence"),
    [
        ("dies at once", Kind.CRASHED, None),
        ("closes its input", Kind.CRASHED, "process.stdin_closed"),
        ("refuses settings", Kind.GARBLED, "claude.control"),
    ],
)
async def test_a_process_that_does_not_get_to_the_question_is_lost_or_recycled(
    make: Make, mode: str, kind: Kind, evidence: str | None
) -> None:
    adapter, heard = make(mode), Heard()
    with pytest.raises(ProviderFailure) as caught:
        with trio.fail_after(20):
            await ask(adapter, "Hello", *MODEL, heard)
    assert caught.value.kind is kind
    assert evidence in (None, caught.value.evidence)
    assert heard.text == ""
    statistics = adapter.statistics()
    assert (statistics.started, statistics.lost, statistics.recycled) == (
        (1, 1, 0) if kind is Kind.CRASHED else (1, 0, 1)
    )
    assert (statistics.starting, statistics.busy) == (0, 0)
    assert descendants() == {}


async def test_the_exit_status_of_a_crash_is_told(make: Make) -> None:
    with pytest.raises(ProviderFailure, match="exited with status 3"):
        await ask(make("dies"), "Hello", *MODEL)


async def test_a_good_answer_brings_its_quota(make: Make) -> None:
    heard = await ask(make(), Prompt((user("a"), assistant("b"), user("c"))), *MODEL)
    assert heard.answer.text == "Hello"
    assert heard.windows == [QuotaWindow("five_hour", "allowed", resets_at=9000)]


@pytest.mark.parametrize("mode", ["can be interrupted", "stalls"])
async def test_who_is_cancelled_hangs_up_at_the_vendor_and_is_then_killed_whether_it_has_or_not(
    make: Make, tmp_path: Path, mode: str
) -> None:
    """The kernel closes the connections of a killed process only when it has given its memory back."""
    adapter = make(mode, env={"HOSTILE_ONCE": str(tmp_path / "interrupted")})
    async with trio.open_nursery() as nursery:
        await nursery.start(adapter.serve)
        with trio.fail_after(20), trio.CancelScope() as scope:

            async def leave(chunk: Chunk) -> None:
                scope.cancel()
                await trio.lowlevel.checkpoint()

            await adapter.answer(Call(Prompt((user("Hello"),)), *MODEL), leave, lambda window: None)
        nursery.cancel_scope.cancel()
    assert scope.cancelled_caught
    assert (tmp_path / "interrupted").exists() is (mode == "can be interrupted")
    assert descendants() == {}


# --- what the process is given -------------------------------------------------------------------------------------


async def test_the_process_gets_constant_arguments_and_a_minimal_environment(make: Make, tmp_path: Path) -> None:
    notes = tmp_path / "notes.json"
    environ = {
        "ANTHROPIC_API_KEY": "gateway's own",
        "ANTHROPIC_BASE_URL": "http://gateway's own",
        "LLMUX_SECRET": "secret",
        "CLAUDE_CODE_OAUTH_TOKEN": "token",
        "NODE_OPTIONS": "--inspect",
    }
    await ask(make(environ=environ, env={"HOSTILE_NOTES": str(notes)}), "a prompt", *MODEL)
    seen = json.loads(notes.read_text("utf-8"))
    assert seen["argv"][-2:] == ["--model", "sonnet"]
    assert seen["argv"][seen["argv"].index("--tools") + 1 :][:2] == ["", "--strict-mcp-config"]
    assert "a prompt" not in seen["argv"]
    assert set(seen["environ"]) - {"LC_CTYPE"} == {
        *("HOME", "PATH", "LANG", "TERM", "HOSTILE", "HOSTILE_NOTES", "API_TIMEOUT_MS", "DISABLE_AUTOUPDATER"),
        *("CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"),
        *("CLAUDE_CODE_DISABLE_ATTACHMENTS", "CLAUDE_CODE_MAX_RETRIES", "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK"),
        *("CLAUDE_CODE_DISABLE_LEGACY_MODEL_REMAP", "CLAUDE_CODE_BLOCKING_LIMIT_OVERRIDE"),
    }
    assert os.listdir(seen["cwd"]) == []


def test_an_account_with_its_own_login_does_not_get_the_gateways_token(tmp_path: Path) -> None:
    account = Account("work", str(tmp_path / "work"))
    place = place_of("claude", tmp_path, environ={"CLAUDE_CODE_OAUTH_TOKEN": "token"}, account=account)
    env = claude_login.environment(place)
    assert env["CLAUDE_CONFIG_DIR"] == str(tmp_path / "work")
    assert "CLAUDE_CODE_OAUTH_TOKEN" not in env


def test_the_cli_is_more_patient_than_the_actor(tmp_path: Path) -> None:
    env = claude_login.environment(place_of("claude", tmp_path, first_byte_ms_max=300_000))
    assert int(env["API_TIMEOUT_MS"]) > 300_000


# --- the probe -----------------------------------------------------------------------------------------------------


async def test_a_missing_program_is_told_with_what_to_type(make: Make) -> None:
    adapter = make(command="claude-that-is-not-there")
    readiness = await adapter.probe()
    assert not readiness.installed
    assert "npm install -g @anthropic-ai/claude-code@" in readiness.sentence
    with pytest.raises(ProviderFailure) as caught:
        await ask(adapter, "Hello", *MODEL)
    assert (caught.value.kind, caught.value.evidence) == (Kind.UNAVAILABLE, "claude.not_installed")


@pytest.mark.parametrize(
    ("env", "ready", "words"),
    [
        ({}, True, ""),
        ({"HOSTILE_VERSION": "2.0.5 (Claude Code)"}, True, "older than 2.1.197"),
        ({"HOSTILE_VERSION": "2.1.330 (Claude Code)"}, True, ""),
        ({"HOSTILE_VERSION": "git version 2.40.1"}, False, "does not answer like Claude Code"),
        ({"HOSTILE_STATUS": '{"loggedIn": false}'}, False, "not logged in"),
        ({"HOSTILE_STATUS": "[]"}, False, "cannot be understood"),
    ],
)
async def test_the_probe_says_what_is_wrong(make: Make, env: dict[str, str], ready: bool, words: str) -> None:
    readiness = await make(env=env).probe()
    assert (readiness.installed, readiness.ready) == (True, ready)
    assert words in readiness.sentence
    assert bool(readiness.sentence) is bool(words)


async def test_a_program_that_cannot_be_started_is_told(make: Make, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/nowhere/at/all\n", "utf-8")
    broken.chmod(0o755)
    readiness = await make(command=str(broken)).probe()
    assert not readiness.ready
    assert "cannot be started" in readiness.sentence


async def test_an_account_is_told_to_log_in_in_its_own_place(make: Make, tmp_path: Path) -> None:
    account = Account("work", str(tmp_path / "work"))
    env = {"HOSTILE_STATUS": '{"loggedIn": false}'}
    readiness = await make(env=env, account=account, accounts=(Account(), account)).probe()
    assert readiness.sentence.endswith("Type: llmux login claude --account work")


async def test_a_new_login_changes_the_stamp(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "home" / ".claude" / ".credentials.json"
    adapter = make()
    before = await adapter.probe()
    file.parent.mkdir(parents=True)
    file.write_text("{}", "utf-8")
    after = await adapter.probe()
    file.write_text('{"a":1}', "utf-8")
    assert before.login_stamp == ""
    assert len({before.login_stamp, after.login_stamp, (await adapter.probe()).login_stamp}) == 3


async def test_a_login_that_cannot_be_renewed_is_told(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write anywhere but on a read-only mount, which a test cannot make: so the system's answer is replaced."""
    file = tmp_path / "home" / ".claude" / ".credentials.json"
    adapter = make()
    file.parent.mkdir(parents=True)
    file.write_text("{}", "utf-8")
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != file.parent and real(path, mode))
    readiness = await adapter.probe()
    assert readiness.ready
    assert "is read-only" in readiness.sentence
    assert "claude setup-token" in readiness.sentence


@pytest.mark.parametrize(
    ("ends_in_s", "refresh_token", "environ", "ready"),
    [
        (-60, "", {}, False),
        (-60, "renews", {}, True),
        (60, "", {}, True),
        (-60, "", {"CLAUDE_CODE_OAUTH_TOKEN": "used instead"}, True),
    ],
)
async def test_a_login_that_has_ended_for_good_is_told_before_anything_is_spent(
    make: Make, tmp_path: Path, ends_in_s: int, refresh_token: str, environ: dict[str, str], ready: bool
) -> None:
    """The CLI takes it for a login until the vendor answers 401."""
    file = tmp_path / "home" / ".claude" / ".credentials.json"
    file.parent.mkdir(parents=True)
    login = {
        "expiresAt": SystemClock().now() + ends_in_s * 1000,
        "refreshToken": refresh_token,
        "accessToken": "canary",
    }
    file.write_text(json.dumps({"claudeAiOauth": login}), "utf-8")
    readiness = await make(environ=environ).probe()
    assert readiness.ready is ready
    assert ("has ended, and Claude Code cannot renew it there. Type: " in readiness.sentence) is not ready
    assert "canary" not in readiness.sentence


def slow_claude(folder: Path) -> Path:
    """A program that notes what it is asked, and is slow while there is a file "slow" beside it."""
    program = folder / "slow-claude"
    program.write_text(
        f"""#!/bin/sh
echo "$1" >> {folder}/asked
if [ -e {folder}/slow ]; then sleep 60; fi
case "$1" in --version) echo '2.1.197 (Claude Code)';; *) echo '{{"loggedIn": true}}';; esac
""",
        "utf-8",
    )
    program.chmod(0o755)
    return program


async def test_a_slow_probe_is_not_a_logout_unless_it_is_the_second_in_a_row(make: Make, tmp_path: Path) -> None:
    environ = {"CLAUDE_CODE_OAUTH_TOKEN": "token"}
    adapter = make(command=str(slow_claude(tmp_path)), environ=environ, limits=Limits(probe_ms_max=1000))
    first = await adapter.probe()
    assert first.ready
    (tmp_path / "slow").touch()
    assert await adapter.probe() == first
    second = await adapter.probe()
    assert (second.installed, second.logged_in, second.login_stamp) == (True, False, first.login_stamp)
    assert "did not answer within" in second.sentence
    (tmp_path / "slow").unlink()
    assert await adapter.probe() == first


async def test_a_program_is_asked_for_its_version_once_until_its_file_changes(make: Make, tmp_path: Path) -> None:
    program = slow_claude(tmp_path)
    adapter = make(command=str(program))
    for _ in range(3):
        assert (await adapter.probe()).version == "2.1.197"
    assert (tmp_path / "asked").read_text().split() == ["--version", "auth", "auth", "auth"]
    program.write_text(program.read_text().replace("2.1.197", "2.1.1970"))
    assert (await adapter.probe()).version == "2.1.1970"


async def test_a_version_that_was_not_said_is_asked_for_again(make: Make, tmp_path: Path) -> None:
    program = tmp_path / "failing"
    program.write_text(f"#!/bin/sh\n[ -e {tmp_path}/well ] || exit 1\nexec {slow_claude(tmp_path)} $1\n", "utf-8")
    program.chmod(0o755)
    adapter = make(command=str(program))
    assert not (await adapter.probe()).ready
    (tmp_path / "well").touch()
    assert (await adapter.probe()).ready


async def test_directories_that_cannot_be_made_are_told_and_stop_nothing(make: Make, tmp_path: Path) -> None:
    adapter = make()
    (tmp_path / "private").rmdir()
    (tmp_path / "private").write_text("in the way", "utf-8")
    async with trio.open_nursery() as nursery:
        await nursery.start(adapter.serve)
        readiness = await adapter.probe()
        assert (readiness.installed, readiness.logged_in) == (True, False)
        assert "cannot be made" in readiness.sentence
        (tmp_path / "private").unlink()
        assert (await adapter.probe()).ready
        nursery.cancel_scope.cancel()
