"""The processes of Claude Code that wait warm, over a real process that speaks its protocol (hostile_claude.py)."""

import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from llmux.config import Limits
from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Prompt, user
from llmux.providers.adapter import Call
from llmux.providers.claude import ClaudeAdapter, pool, provider, usage
from tests.providers.hearing import Heard, descendants
from tests.providers.test_claude_process import LIMITS, Make, make

__all__ = ["make"]

SONNET, HAIKU = ("claude-sonnet-4", "sonnet"), ("claude-haiku-4", "haiku")
DEFAULT = {"default_model": "claude-sonnet-4"}


@pytest.fixture(autouse=True)
def nobody_asks_for_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    """That would be one more process, now and then."""
    monkeypatch.setattr(usage, "can_be_asked", lambda place: False)


@asynccontextmanager
async def served(adapter: ClaudeAdapter, *, probed: bool = True) -> AsyncGenerator[ClaudeAdapter, None]:
    """The adapter at work, as its actor would have it: probed first."""
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(adapter.serve)
        if probed:
            await adapter.probe()
        try:
            yield adapter
        except BaseException as error:
            raised = error
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised
    assert descendants() == {}


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():
            await trio.sleep(0.005)


async def answer(adapter: ClaudeAdapter, model: tuple[str, str] = SONNET, heard: Heard | None = None) -> Heard:
    heard = heard or Heard()
    await adapter.answer(Call(Prompt((user("Hello"),)), *model), heard.emit, heard.report)
    return heard


def idle(adapter: ClaudeAdapter) -> int:
    return adapter.statistics().idle


def limits(**changes: int) -> Limits:
    return Limits(**{name: getattr(LIMITS, name) for name in LIMITS.__struct_fields__} | changes)


async def test_before_the_first_probe_nothing_is_started(make: Make) -> None:
    """The start of the gateway waits for no process, and a provider that is not logged in gets none."""
    async with served(make(**DEFAULT), probed=False) as adapter:
        await trio.sleep(0.05)
        assert adapter.statistics().started == 0


async def test_once_the_provider_is_ready_one_process_of_the_default_model_waits(make: Make) -> None:
    async with served(make(**DEFAULT)) as adapter:
        await until(lambda: idle(adapter) == 1)
        assert adapter.statistics().started == 1
        assert list(descendants().values()) == ["claude"]
        assert "1 idle" in repr(adapter)


async def test_a_request_takes_the_process_that_waits_and_another_one_takes_its_place(make: Make) -> None:
    async with served(make(**DEFAULT)) as adapter:
        await until(lambda: idle(adapter) == 1)
        (waiting,) = descendants()
        assert (await answer(adapter)).answer.text == "Hello"
        assert waiting not in descendants()
        await until(lambda: idle(adapter) == 1)
        assert (adapter.statistics().started, adapter.statistics().recycled, adapter.statistics().lost) == (2, 1, 0)


async def test_a_process_is_used_once(make: Make, tmp_path: Path) -> None:
    async with served(make(**DEFAULT)) as adapter:
        pids: set[int] = set()
        for _ in range(4):
            await until(lambda: idle(adapter) == 1)
            pids |= set(descendants())
            await answer(adapter)
        assert len(pids) == 4


async def test_a_model_that_is_asked_for_gets_a_process_of_its_own(make: Make) -> None:
    async with served(make(**DEFAULT)) as adapter:
        await until(lambda: idle(adapter) == 1)
        assert (await answer(adapter, HAIKU)).answer.text == "Hello"
        await until(lambda: idle(adapter) == 2)
        models = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2] for pid in descendants()]
        assert sorted(models) == [b"haiku", b"sonnet"]


async def test_the_pool_grows_with_demand_up_to_its_limit_and_shrinks_when_idle(make: Make) -> None:
    adapter = make(limits=limits(worker_idle_ms_max=600), concurrency=3, **DEFAULT)
    async with served(adapter):
        await until(lambda: idle(adapter) == 1)
        for _ in range(4):
            async with trio.open_nursery() as together:
                for _ in range(3):
                    together.start_soon(answer, adapter)
        grown = 0
        with trio.move_on_after(20):
            while grown < 3:
                grown = max(grown, idle(adapter))
                await trio.sleep(0.005)
        assert grown == 3
        await until(lambda: adapter.statistics().idle == 1 and adapter.statistics().starting == 0)


async def test_there_are_never_more_processes_than_answers_and_those_that_may_wait(make: Make) -> None:
    adapter = make("silent", concurrency=2, warm=1, **DEFAULT)
    async with served(adapter), trio.open_nursery() as nursery:
        for model in (SONNET, HAIKU):
            nursery.start_soon(answer, adapter, model)
        await until(lambda: adapter.statistics().busy == 2 and idle(adapter) == 1)
        await trio.sleep(0.2)
        assert len(descendants()) == 3
        nursery.cancel_scope.cancel()


async def test_a_model_that_is_not_used_for_long_keeps_no_process(make: Make) -> None:
    adapter = make(limits=limits(worker_idle_ms_max=500), **DEFAULT)
    async with served(adapter):
        await answer(adapter, HAIKU)
        await until(lambda: idle(adapter) == 2)
        await until(lambda: len(descendants()) == 1)
        (left,) = descendants()
        assert b"sonnet" in Path(f"/proc/{left}/cmdline").read_bytes()


async def test_a_process_that_is_too_old_is_replaced(make: Make) -> None:
    adapter = make(limits=limits(worker_age_ms_max=300), **DEFAULT)
    async with served(adapter):
        await until(lambda: idle(adapter) == 1)
        old = set(descendants())
        await until(lambda: idle(adapter) == 1 and not old & set(descendants()))
        await until(lambda: adapter.statistics().recycled >= 1)
        assert adapter.statistics().lost == 0


async def test_another_login_gets_other_processes(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "home" / ".claude" / ".credentials.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}", "utf-8")
    adapter = make(**DEFAULT)
    async with served(adapter):
        await until(lambda: idle(adapter) == 1)
        (old,) = descendants()
        file.write_text('{"another":"login"}', "utf-8")
        await answer(adapter)
        assert adapter.statistics().started >= 2, "the one with the old login was not lent"
        await until(lambda: old not in descendants())
        await adapter.probe()
        await until(lambda: idle(adapter) == 1)


async def test_without_a_login_nothing_waits(make: Make) -> None:
    adapter = make(env={"HOSTILE_STATUS": '{"loggedIn": false}'}, **DEFAULT)
    async with served(adapter):
        await answer(adapter)
        await trio.sleep(0.2)
        assert idle(adapter) == 0
        assert descendants() == {}


async def test_a_provider_that_is_no_longer_ready_loses_its_processes(make: Make, tmp_path: Path) -> None:
    async with served(make(**DEFAULT)) as adapter:
        await until(lambda: idle(adapter) == 1)
        program = tmp_path / "claude"
        program.rename(tmp_path / "elsewhere")
        assert not (await adapter.probe()).ready
        await until(lambda: descendants() == {})
        (tmp_path / "elsewhere").rename(program)
        assert (await adapter.probe()).ready
        await until(lambda: idle(adapter) == 1)


async def test_no_pool_at_all_still_answers(make: Make) -> None:
    adapter = make(warm=0, **DEFAULT)
    async with served(adapter):
        for _ in range(2):
            assert (await answer(adapter)).answer.text == "Hello"
        await trio.sleep(0.2)
        assert descendants() == {}
        assert adapter.statistics().started == 2


# --- processes that go wrong ---------------------------------------------------------------------------------------


async def test_a_process_that_died_while_it_waited_is_noticed_and_replaced(make: Make) -> None:
    async with served(make(**DEFAULT)) as adapter:
        await until(lambda: idle(adapter) == 1)
        (pid,) = descendants()
        os.kill(pid, signal.SIGKILL)
        assert (await answer(adapter)).answer.text == "Hello"
        await until(lambda: adapter.statistics().lost == 1)
        await until(lambda: idle(adapter) >= 1)


async def test_a_process_that_no_longer_reacts_is_replaced_before_anything_is_asked(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "SETTINGS_S_MAX", 0.2)
    once = tmp_path / "once"
    adapter = make("deaf after a while", env={"HOSTILE_ONCE": str(once)}, **DEFAULT)
    async with served(adapter):
        await until(lambda: idle(adapter) == 1)
        heard = await answer(adapter)
        assert heard.answer.text == "Hello"
        assert adapter.statistics().lost == 1


async def test_a_process_that_is_stopped_is_replaced_too(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "SETTINGS_S_MAX", 0.2)
    async with served(make(**DEFAULT)) as adapter:
        await until(lambda: idle(adapter) == 1)
        (pid,) = descendants()
        os.kill(pid, signal.SIGSTOP)
        assert (await answer(adapter)).answer.text == "Hello"
        assert pid not in descendants()


async def test_what_fails_after_the_question_is_not_asked_again(make: Make) -> None:
    """Else an answer could be billed twice."""
    async with served(make("dies", **DEFAULT)) as adapter:
        await until(lambda: idle(adapter) == 1)
        heard = Heard()
        with pytest.raises(ProviderFailure) as caught:
            await answer(adapter, heard=heard)
        assert caught.value.kind is Kind.CRASHED
        assert heard.text == "half an ans"


@pytest.mark.parametrize("mode", ["dies at once", "dies waiting", "mute"])
async def test_a_program_that_cannot_wait_is_not_started_again_and_again(
    make: Make, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "BACKOFF_S_MIN", 0.4)
    adapter = make(mode, limits=limits(call_ms_max=300), **DEFAULT)
    async with served(adapter):
        for starts, pause_s in ((1, 0.4), (2, 0.8)):
            await until(lambda starts=starts: adapter.statistics().lost == starts)  # type: ignore[misc]
            at = trio.current_time()
            await until(lambda starts=starts: adapter.statistics().started > starts)  # type: ignore[misc]
            assert trio.current_time() - at > pause_s - 0.1


async def test_a_program_that_is_gone_is_not_looked_for_again_and_again(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[str] = []
    adapter = make(**DEFAULT)
    real = pool.Pool._start

    def counted(self: pool.Pool, model: str, *, greet: bool) -> Any:
        starts.append(model)
        return real(self, model, greet=greet)

    monkeypatch.setattr(pool.Pool, "_start", counted)
    async with served(adapter):
        await until(lambda: idle(adapter) == 1)
        (tmp_path / "claude").unlink()
        (pid,) = descendants()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: adapter.statistics().lost == 1)
        await trio.sleep(0.1)
        assert len(starts) == 1
        with pytest.raises(ProviderFailure) as caught:
            await answer(adapter)
        assert caught.value.evidence == "claude.not_installed"


async def test_the_end_of_the_service_ends_those_that_wait_and_those_that_start(make: Make) -> None:
    for moment in (0, 0.02, 0.2):
        async with served(make(warm=3, **DEFAULT)):
            await trio.sleep(moment)
    assert descendants() == {}
