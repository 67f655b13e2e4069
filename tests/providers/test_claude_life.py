"""Attempts that end at any moment leave nothing behind: no process, no descriptor, no memory."""

import gc
import os
import random
from pathlib import Path

import trio

from llmux.failures import ProviderFailure
from llmux.prompts import Prompt, user
from llmux.providers.adapter import Call
from llmux.providers.claude import ClaudeAdapter
from tests.providers.hearing import Heard, descendants
from tests.providers.test_claude_pool import DEFAULT, SONNET, nobody_asks_for_usage, served
from tests.providers.test_claude_process import Make, make

__all__ = ["make", "nobody_asks_for_usage"]

ATTEMPTS = int(os.environ.get("LLMUX_TEST_ATTEMPTS", "50"))
SEED = int(os.environ.get("LLMUX_TEST_SEED", "20261122"))


def resident_kb() -> int:
    gc.collect()
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1])


async def attempts(adapter: ClaudeAdapter, draw: random.Random, number: int, *, seconds: float) -> None:
    """So many answers, four at a time; the client of each leaves at a random moment, some never."""
    gate = trio.Semaphore(4)

    async def one(patience_s: float) -> None:
        heard = Heard()
        try:
            with trio.move_on_after(patience_s):
                await adapter.answer(Call(Prompt((user("Hello"),)), *SONNET), heard.emit, heard.report)
        except ProviderFailure:
            pass
        finally:
            gate.release()

    async with trio.open_nursery() as nursery:
        for _ in range(number):
            await gate.acquire()
            nursery.start_soon(one, draw.choice((0.0, draw.uniform(0, seconds), 60.0)))


async def test_after_many_attempts_with_random_disconnects_nothing_is_left(make: Make) -> None:
    print(f"seed {SEED}, {ATTEMPTS} attempts")
    draw = random.Random(SEED)
    async with served(make(**DEFAULT)) as adapter:
        await attempts(adapter, draw, 10, seconds=0.1)  # what is loaded and allocated once
        files, memory = len(os.listdir("/proc/self/fd")), resident_kb()
        await attempts(adapter, draw, ATTEMPTS, seconds=0.1)
        with trio.fail_after(20):
            while adapter.statistics().busy or adapter.statistics().starting:
                await trio.sleep(0.01)
        now = adapter.statistics()
        assert len(descendants()) == now.idle <= 5
        assert now.started == now.idle + now.recycled + now.lost
        assert len(os.listdir("/proc/self/fd")) <= files + 4 * 5, "four for each process that waits"
        assert resident_kb() < memory * 1.05 + 4_000
    assert descendants() == {}
    assert len(os.listdir("/proc/self/fd")) <= files


async def test_a_prompt_that_is_cancelled_before_its_process_runs_leaves_nothing(make: Make) -> None:
    async with served(make(warm=0, **DEFAULT), probed=False) as adapter:
        for _ in range(5):
            with trio.CancelScope() as scope:
                scope.cancel()
                await adapter.answer(Call(Prompt((user("Hello"),)), *SONNET), Heard().emit, lambda window: None)
        assert descendants() == {}
        assert adapter.statistics().starting == 0
