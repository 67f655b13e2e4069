"""The end of every attempt with the real Claude Code, and of a gateway that is killed while its processes wait and answer."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from llmux.failures import ProviderFailure
from tests.gateway import gateway_process
from tests.providers.hearing import descendants
from tests.providers.test_claude_life import SEED, attempts, resident_kb
from tests.real.claude_running import SONNET, TOKEN, adapter_of, ask, served
from tests.real.clis import claude
from tests.upstreams.running import Upstream, upstream

ATTEMPTS = int(os.environ.get("LLMUX_TEST_ATTEMPTS", "50"))
GROWTH_KB_MAX = 16_000
"""of our own process; it holds an adapter, not the answers that went by"""


@pytest.fixture(scope="module")
def api() -> Iterator[Upstream]:
    with upstream("anthropic") as standing_in:
        yield standing_in


def running() -> list[int]:
    return [pid for pid, name in descendants().items() if "claude" in name]


async def test_random_disconnects_leave_no_process_no_descriptor_and_no_request(api: Upstream, tmp_path: Path) -> None:
    print(f"seed {SEED}, {ATTEMPTS} attempts")
    api.reset()
    api.control(text="one two three four five six", pause_s=0.05)
    adapter = adapter_of(api, tmp_path, concurrency=2)
    draw = random.Random(SEED)
    async with served(adapter):
        await attempts(adapter, draw, 4, seconds=1)  # what is loaded and allocated once
        files, memory = len(os.listdir("/proc/self/fd")), resident_kb()
        await attempts(adapter, draw, ATTEMPTS, seconds=1)
        with trio.fail_after(30):
            while adapter.statistics().busy or adapter.statistics().starting:
                await trio.sleep(0.02)
        assert len(running()) == adapter.statistics().idle
        assert len(os.listdir("/proc/self/fd")) <= files + 4 * 3, "four for each process that waits"
        assert resident_kb() - memory < GROWTH_KB_MAX
    assert running() == []
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) <= 12, (
        "killed processes leave no heap of files"
    )
    api.reset()


async def test_a_login_that_was_refused_ends_the_attempt_and_leaves_nothing(api: Upstream, tmp_path: Path) -> None:
    api.reset()
    api.control(mode="401")
    async with served(adapter_of(api, tmp_path)) as adapter:
        with pytest.raises(ProviderFailure):
            await ask(adapter, "Hello")
    assert running() == []


def test_kill_nine_of_the_gateway_leaves_no_process_that_waits_or_answers(api: Upstream, tmp_path: Path) -> None:
    api.reset()
    api.control(mode="stall")
    toml = f'[providers.claude]\ncommand = "{claude()}"\nwarm = 2\nenv = {{ ANTHROPIC_BASE_URL = "{api.url}" }}\n'
    environ = {"CLAUDE_CODE_OAUTH_TOKEN": TOKEN}
    with gateway_process(tmp_path / "house", toml=toml, **environ) as gateway:
        connection = gateway.connect()
        body = f'{{"model": "{SONNET[0]}", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'
        connection.request(
            "POST", "/v1/chat/completions", body, {"content-type": "application/json", "x-llmux-provider": "claude"}
        )
        connection.getresponse().readline()
        _until(lambda: len(_clis(gateway.process.pid)) >= 3)
        mine = _clis(gateway.process.pid)
        os.kill(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait()
        connection.close()
        _until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and _alive(pid) for pid in mine))


def _clis(pid: int) -> list[int]:
    return [child for child, name in descendants(pid).items() if "claude" in name]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
