"""The app-server as a process that misbehaves: a real program, told by a variable how."""

import errno
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from llmux.config import Account, Limits
from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Prompt, user
from llmux.providers.adapter import Call
from llmux.providers.codex import CodexAdapter, home
from llmux.providers.codex.connection import Connection
from llmux.providers.codex.roots import COUNT
from llmux.providers.process import Process
from tests.providers.codex_login import write_login
from tests.providers.hearing import Heard, descendants, place_of

PROGRAM = Path(__file__).parent / "codex_misbehaving.py"
QUICK = Limits(call_ms_max=400, stop_ms_max=200, line_bytes_max=64 * 1024)


class Fixture:
    """An adapter over the misbehaving program, and what that program heard."""

    def __init__(self, directory: Path, how: str, **settings: Any):
        command = directory / "codex"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{PROGRAM}" "$@"\n')
        command.chmod(0o755)
        self.heard, self.login = directory / "heard", directory / "login"
        write_login(self.login)
        quick = QUICK if how in ("mute", "babbles", "stands-still") else Limits(stop_ms_max=200)
        limits = settings.pop("limits", quick)
        env = {"HOW": how, "HEARD": str(self.heard)}
        account = Account(config_dir=str(self.login))
        values = {"command": str(command), "env": env, "warm": 0, **settings}
        self.adapter = CodexAdapter(place_of("codex", directory, account=account, limits=limits, **values))

    async def say(self, heard: Heard | None = None) -> Heard:
        heard = heard or Heard()
        await self.adapter.answer(
            Call(Prompt((user("hi"),)), "gpt-5.2-codex", "gpt-5.2-codex"), heard.emit, heard.report
        )
        return heard

    async def fails(self, heard: Heard | None = None) -> ProviderFailure:
        with pytest.raises(ProviderFailure) as caught:
            await self.say(heard)
        return caught.value

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.heard.read_text().splitlines()]

    def methods(self) -> list[str]:
        return [message["method"] for message in self.told() if "method" in message]

    def starts(self) -> int:
        path = Path(f"{self.heard}.starts")
        return len(path.read_text().splitlines()) if path.exists() else 0

    async def until_told(self, method: str, times: int = 1) -> None:
        with trio.fail_after(10):
            while not self.heard.exists() or self.methods().count(method) < times:
                await trio.sleep(0.01)


@asynccontextmanager
async def misbehaving(directory: Path, how: str, **settings: Any) -> AsyncGenerator[Fixture, None]:
    before = set(descendants())
    fixture = Fixture(directory, how, **settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(fixture.adapter.serve)
        yield fixture
        nursery.cancel_scope.cancel()
    assert set(descendants()) - before == set()


async def test_a_turn_is_started_once_and_its_thread_given_back(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "") as codex:
        assert (await codex.say()).answer.text == "good answer"
        await codex.until_told("thread/unsubscribe", 2)
        assert codex.methods() == [
            "initialize",
            "initialized",
            *("thread/start", "thread/inject_items", "thread/unsubscribe"),  # the root of this conversation, once
            *("thread/fork", "thread/inject_items", "turn/start", "thread/unsubscribe"),
        ]
        await codex.say()
        await codex.until_told("thread/unsubscribe", 3)
        assert codex.methods()[9:] == ["thread/fork", "thread/inject_items", "turn/start", "thread/unsubscribe"]


async def test_a_server_starts_when_it_is_wanted_or_at_once_when_it_is_to_be_warm(tmp_path: Path) -> None:
    (tmp_path / "lazy").mkdir()
    (tmp_path / "warm").mkdir()
    async with misbehaving(tmp_path / "lazy", "") as codex:
        await trio.sleep(0.05)
        assert codex.adapter.statistics().started == 0
    async with misbehaving(tmp_path / "warm", "", warm=1) as codex:
        await codex.until_told("initialized")
        assert codex.adapter.statistics().idle == 1


async def test_a_warm_server_has_threads_in_advance_and_each_that_is_used_is_followed_by_another(
    tmp_path: Path,
) -> None:
    async with misbehaving(tmp_path, "", warm=1) as codex:
        await codex.until_told("thread/fork", COUNT)
        before = len(codex.methods())
        assert (await codex.say()).answer.text == "good answer"
        await codex.until_told("thread/fork", COUNT + 1)
        await codex.until_told("thread/unsubscribe", COUNT + 1)
        assert codex.methods()[before : before + 2] == ["thread/inject_items", "turn/start"]
        assert sorted(codex.methods()[before + 2 :]) == ["thread/fork", "thread/unsubscribe"]
        used = [line["params"]["threadId"] for line in codex.told() if line.get("method") == "turn/start"]
        await codex.say()
        again = [line["params"]["threadId"] for line in codex.told() if line.get("method") == "turn/start"]
        assert len(set(used + again)) == 2, "a fresh thread for each request"


async def test_a_thread_in_advance_is_of_the_model_that_is_asked_for(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "", warm=1) as codex:
        await codex.until_told("thread/fork", COUNT)
        heard = Heard()
        await codex.adapter.answer(Call(Prompt((user("hi"),)), "another", "another"), heard.emit, heard.report)
        assert heard.answer.text == "good answer"
        forks = [line["params"] for line in codex.told() if line.get("method") == "thread/fork"]
        assert forks[COUNT]["model"] == "another"


async def test_many_who_come_at_once_wait_for_one_start(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "") as codex:
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(codex.say)
        assert codex.starts() == 1


async def test_noise_and_unknown_messages_are_ignored(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "garbage") as codex:
        assert (await codex.say()).answer.text == "good answer"


async def test_whatever_codex_asks_for_is_answered_with_an_error_or_the_login(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "asks") as codex:
        await codex.say()
        await codex.until_told("thread/unsubscribe", 2)
        answers = {message["id"]: message for message in codex.told() if "method" not in message}
        assert answers["q1"]["error"]["code"] == -32601
        assert answers["q2"]["result"]["chatgptAccountId"] == "account-1"


async def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "mute") as codex:
        failure = await codex.fails()
        assert (failure.kind, failure.evidence) == (Kind.TIMED_OUT, "codex.rpc.no_reply")


async def test_a_server_that_exits_at_once_has_crashed_and_is_not_started_in_a_loop(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "exits") as codex:
        failures = [await codex.fails() for _ in range(20)]
        assert {failure.kind for failure in failures} == {Kind.CRASHED}
        assert codex.starts() == 2  # the second one in a row is followed by a rest


async def test_a_server_that_dies_in_the_middle_of_a_line_is_replaced(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "dies-once") as codex:
        heard = Heard()
        assert (await codex.fails(heard)).kind is Kind.CRASHED
        assert heard.text == "half "
        assert (await codex.say()).answer.text == "good answer"
        statistics = codex.adapter.statistics()
        assert (statistics.started, statistics.lost) == (2, 1)


async def until(codex: Fixture, **expected: int) -> None:
    """Waits until the statistics say so."""
    with trio.fail_after(10):
        while any(getattr(codex.adapter.statistics(), name) != count for name, count in expected.items()):
            await trio.sleep(0.01)


async def test_a_server_that_has_done_its_share_is_replaced_and_finishes_its_own_turns(tmp_path: Path) -> None:
    limits = Limits(stop_ms_max=200, worker_turns_max=2)
    async with misbehaving(tmp_path, "holds", limits=limits) as codex:
        held = Heard()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(codex.say, held)
            while not held.text:
                await trio.sleep(0.01)
            server = codex.adapter._keeper._current
            assert server is not None
            server.turns = 2
            server._released(server)  # as if a turn beside it had ended
            await until(codex, started=2, busy=1, idle=1, recycled=0)
            for _ in range(2):  # the second one wears the successor out, too
                assert (await codex.say()).answer.text == "good answer"
            assert held.text == "at last a "
            Path(f"{codex.heard}.go").touch()
        assert held.answer.text == "at last a good answer"
        await until(codex, started=3, busy=0, idle=1, recycled=2, lost=0)


async def test_a_server_that_has_grown_is_replaced(tmp_path: Path) -> None:
    limits = Limits(stop_ms_max=200, worker_memory_bytes_max=100_000_000)
    async with misbehaving(tmp_path, "grows", limits=limits) as codex:
        await codex.say()
        assert codex.starts() == 1
        await codex.say()
        await until(codex, started=2, idle=1, recycled=1, lost=0)


async def test_no_turn_is_lost_while_servers_are_replaced_all_the_time(tmp_path: Path) -> None:
    limits = Limits(stop_ms_max=200, worker_turns_max=3)
    async with misbehaving(tmp_path, "", limits=limits) as codex:
        heard = [Heard() for _ in range(80)]
        taken = iter(heard)

        async def one_after_the_other() -> None:
            for one in taken:
                await codex.say(one)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one_after_the_other)
        assert {one.answer.text for one in heard} == {"good answer"}
        assert codex.adapter.statistics().started >= 2
        assert codex.adapter.statistics().lost == 0


async def test_when_no_successor_can_be_started_the_worn_server_goes_on(tmp_path: Path) -> None:
    limits = Limits(stop_ms_max=200, worker_turns_max=1)
    async with misbehaving(tmp_path, "", limits=limits) as codex:
        await codex.say()
        await until(codex, started=2, recycled=1)
        (codex.login / "auth.json").unlink()
        for _ in range(3):
            assert (await codex.say()).answer.text == "good answer"
        assert codex.starts() == 2


async def test_a_line_without_an_end_is_garbled(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "babbles") as codex:
        failure = await codex.fails()
        assert (failure.kind, failure.evidence) == (Kind.GARBLED, "codex.line_too_long")


@pytest.mark.parametrize(("how", "kind"), [("compacts", Kind.CONTEXT_TOO_LONG), ("retries", Kind.GARBLED)])
async def test_a_turn_that_goes_wrong_is_interrupted_and_its_thread_given_back(
    tmp_path: Path, how: str, kind: Kind
) -> None:
    async with misbehaving(tmp_path, how) as codex:
        heard = Heard()
        assert (await codex.fails(heard)).kind is kind
        assert heard.text in ("", "once ")
        await codex.until_told("thread/unsubscribe", 2)
        assert codex.methods()[-2:] == ["turn/interrupt", "thread/unsubscribe"]


async def test_a_cancelled_answer_is_left_soon_even_when_codex_is_deaf_and_that_server_is_replaced(
    tmp_path: Path,
) -> None:
    async with misbehaving(tmp_path, "stands-still") as codex:
        heard = Heard()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(codex.say, heard)
            while not heard.text:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert codex.methods().count("turn/interrupt") == 1
        with trio.fail_after(10):
            while codex.adapter.statistics().recycled == 0:
                await trio.sleep(0.01)


async def test_an_answer_that_is_cancelled_while_its_thread_is_made_gives_it_back_all_the_same(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "slow-thread") as codex:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(codex.say)
            await codex.until_told("thread/fork")
            nursery.cancel_scope.cancel()
        Path(f"{codex.heard}.go").touch()
        await codex.until_told("thread/unsubscribe", 2)
        assert codex.methods().count("turn/start") == 0


async def test_a_refused_login_is_tried_again_only_when_the_login_has_changed(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "logged-out") as codex:
        assert (await codex.fails()).kind is Kind.LOGGED_OUT
        await codex.say()
        assert codex.starts() == 1  # the same login: the same server
        Path(f"{codex.heard}.login").unlink()
        assert (await codex.fails()).kind is Kind.LOGGED_OUT
        write_login(codex.login, mark="a longer one, of another size")
        await codex.say()
        assert codex.starts() == 2
        with trio.fail_after(10):
            while codex.adapter.statistics().recycled == 0:
                await trio.sleep(0.01)


@pytest.mark.parametrize("how", ["nameless-thread", "refuses"])
async def test_a_server_of_another_protocol_fails_the_answer_and_nothing_else(tmp_path: Path, how: str) -> None:
    async with misbehaving(tmp_path, how) as codex:
        assert (await codex.fails()).kind in (Kind.GARBLED, Kind.UNAVAILABLE)
        assert (await codex.fails()).kind in (Kind.GARBLED, Kind.UNAVAILABLE)
        assert codex.starts() == 1


async def test_a_missing_program_says_what_to_type(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "", command="codex-that-is-not-there", warm=1) as codex:
        failure = await codex.fails()
        assert (failure.kind, failure.evidence) == (Kind.UNAVAILABLE, "codex.not_installed")
        readiness = await codex.adapter.probe()
        assert not readiness.installed
        assert "npm install" in readiness.sentence


@pytest.mark.parametrize(("how", "word"), [("old", "older than"), ("nameless", "version")])
async def test_a_version_that_cannot_be_used_says_so(tmp_path: Path, how: str, word: str) -> None:
    readiness = await Fixture(tmp_path, how).adapter.probe()
    assert not readiness.ready
    assert word in readiness.sentence


async def test_a_login_of_somebody_else_gets_a_server_of_its_own_and_the_old_one_finishes_its_turns(
    tmp_path: Path,
) -> None:
    async with misbehaving(tmp_path, "holds") as codex:
        held = Heard()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(codex.say, held)
            while not held.text:
                await trio.sleep(0.01)
            write_login(codex.login, account="account-2", mark="other")
            assert (await codex.say()).answer.text == "good answer"
            await until(codex, started=2, busy=1, recycled=0)
            Path(f"{codex.heard}.go").touch()
        assert held.answer.text == "at last a good answer"
        await until(codex, started=2, recycled=1, lost=0)


async def test_a_probe_notices_the_login_of_somebody_else_and_a_warm_server_follows(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "", warm=1) as codex:
        await until(codex, started=1, idle=1)
        write_login(codex.login, account="account-2", mark="other")
        await codex.adapter.probe()
        await until(codex, started=2, idle=1, recycled=1)


async def test_a_token_that_was_renewed_leaves_the_server_as_it_is(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "") as codex:
        await codex.say()
        write_login(codex.login, mark="renewed", expires_in=999_999)
        await codex.say()
        assert codex.starts() == 1


async def test_a_full_disk_is_a_failure_of_the_answer_and_the_next_one_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(home, "clear", full)
        async with misbehaving(tmp_path, "", warm=1) as codex:
            assert (await codex.fails()).evidence == "codex.home"
            disk.undo()
            disk.setattr(home, "write", full)
            failure = await codex.fails()
            assert (failure.kind, failure.evidence) == (Kind.UNAVAILABLE, "codex.home")
            assert "No space left on device" in str(failure)
            disk.undo()
            codex.adapter._keeper._rest_until = trio.current_time()
            assert (await codex.say()).answer.text == "good answer"


async def test_a_probe_on_a_full_disk_says_so_and_does_not_raise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codex = Fixture(tmp_path, "")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    readiness = await codex.adapter.probe()
    assert not readiness.ready
    assert "No space left on device" in readiness.sentence


async def test_a_turn_that_called_a_tool_nobody_offered_is_interrupted_before_the_model_is_asked_again(
    tmp_path: Path,
) -> None:
    """The end of a model call without a message is the first sign of it."""
    async with misbehaving(tmp_path, "calls-a-tool") as codex:
        failure = await codex.fails()
        assert (failure.kind, failure.evidence) == (Kind.GARBLED, "codex.second_call")
        assert codex.methods().count("turn/interrupt") == 1
        await until(codex, idle=1, busy=0)
        assert codex.adapter._keeper._current.connection._pending == {}


async def test_the_interrupt_is_written_while_the_sign_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No task runs in between: Codex's own next call is only a moment away."""
    taken, written = Connection._take, Process.send_now
    reading: list[str] = []
    during: list[bool] = []

    def take(self: Connection, line: bytes) -> None:
        reading.append(json.loads(line).get("method", ""))
        taken(self, line)
        reading.pop()

    def send_now(self: Process, line: bytes) -> bool:
        done = written(self, line)
        if json.loads(line).get("method") == "turn/interrupt":
            during.append(done and reading == ["thread/tokenUsage/updated"])
        return done

    monkeypatch.setattr(Connection, "_take", take)
    monkeypatch.setattr(Process, "send_now", send_now)
    async with misbehaving(tmp_path, "calls-a-tool") as codex:
        await codex.fails()
    assert during == [True]


async def test_a_wordless_end_that_was_no_tool_call_keeps_its_own_reason(tmp_path: Path) -> None:
    async with misbehaving(tmp_path, "ends-wordless") as codex:
        failure = await codex.fails()
        assert (failure.kind, failure.evidence) == (Kind.REFUSED, "codex.filtered")
