"""The app-server as a process, and its protocol: what it is told, and what becomes of one that does not follow."""

import errno
import json
from pathlib import Path

import pytest
import trio

from llmux.failures import Kind
from llmux.prompts import Prompt, user
from llmux.providers.adapter import Call
from llmux.providers.codex import home
from llmux.providers.codex.connection import Connection
from llmux.providers.codex.roots import COUNT
from llmux.providers.process import Process
from tests.providers.codex_rig import Fixture, misbehaving, until
from tests.providers.hearing import Heard


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


@pytest.mark.parametrize("how", ["nameless-thread", "refuses"])
async def test_a_server_of_another_protocol_fails_the_answer_and_nothing_else(tmp_path: Path, how: str) -> None:
    async with misbehaving(tmp_path, how) as codex:
        assert (await codex.fails()).kind in (Kind.GARBLED, Kind.UNAVAILABLE)
        assert (await codex.fails()).kind in (Kind.GARBLED, Kind.UNAVAILABLE)
        assert codex.starts() == 1


@pytest.mark.parametrize(("how", "word"), [("old", "older than"), ("nameless", "version")])
async def test_a_version_that_cannot_be_used_says_so(tmp_path: Path, how: str, word: str) -> None:
    readiness = await Fixture(tmp_path, how).adapter.probe()
    assert not readiness.ready
    assert word in readiness.sentence


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
