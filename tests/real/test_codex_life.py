"""What is left of the real Codex after many attempts that end in every way."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import trio

from llmux.config import Limits
from llmux.failures import ProviderFailure
from llmux.providers.codex import CodexAdapter, keeper
from llmux.providers.codex.server import AppServer
from tests.providers.hearing import Heard, descendants
from tests.real.codex_running import Make, app_server, model_calls, say, serving
from tests.upstreams.running import Upstream

ATTEMPTS = int(os.environ.get("LLMUX_TEST_ATTEMPTS", "50"))
SEED = int(os.environ.get("LLMUX_TEST_SEED", "20261122"))
AT_ONCE = 4
GROWTH_BYTES_MAX = 16_000_000
"""of our own process; it holds an adapter, not the answers that went by"""


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def attempt(adapter: CodexAdapter, patience: float) -> None:
    """One that is left after a while, wherever it is then."""
    with trio.move_on_after(patience):
        try:
            await say(adapter, "some words")
        except ProviderFailure as failure:
            raise AssertionError(f"{failure.kind} {failure.evidence}") from failure


async def settled(adapter: CodexAdapter, api: Upstream) -> None:
    """Waits until the server has given all threads back and the upstream is left alone."""
    with trio.fail_after(30):
        while adapter.statistics().busy:
            await trio.sleep(0.02)


async def many(adapter: CodexAdapter, api: Upstream, number: int, draw: random.Random) -> None:
    for _ in range(number // AT_ONCE):
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(attempt, adapter, draw.choice((draw.uniform(0, 0.05), draw.uniform(0, 0.4), 30)))
        if len(model_calls(api)) > 40:
            api.reset()
            api.control(deltas=["word "] * 10, pause_ms=10)
    await settled(adapter, api)


async def test_nothing_grows_over_attempts_that_are_left_at_random(codex_api: Upstream, make_codex: Make) -> None:
    print(f"seed {SEED}, {ATTEMPTS} attempts")
    draw = random.Random(SEED)
    before = set(descendants())
    codex_api.control(deltas=["word "] * 10, pause_ms=10)
    async with serving(make_codex()) as adapter:
        await many(adapter, codex_api, 24, draw)
        pid = app_server()
        at_first = (descriptors(pid), descriptors(os.getpid()), memory_bytes(pid))
        ours = memory_bytes(os.getpid())
        await many(adapter, codex_api, ATTEMPTS, draw)
        assert app_server() == pid, "the same server outlived them all"
        at_last = (descriptors(pid), descriptors(os.getpid()), memory_bytes(pid))
        assert at_last[0] <= at_first[0] + 8, "the database of Codex opens a few more when there is much to do"
        assert at_last[1] <= at_first[1] + 2
        assert at_last[2] - at_first[2] < 60_000_000
        assert memory_bytes(os.getpid()) - ours < GROWTH_BYTES_MAX
        connection = adapter._keeper._current.connection
        assert (connection._pending, connection._inboxes) == ({}, {})
        statistics = adapter.statistics()
        assert (statistics.started, statistics.lost, statistics.recycled) == (1, 0, 0)
    assert set(descendants()) - before == set()


async def test_a_server_that_has_frozen_is_replaced_before_a_prompt_finds_it(
    codex_api: Upstream, make_codex: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs: list[str] = []
    failed = AppServer.failed

    def noted(server: AppServer, failure: ProviderFailure) -> None:
        signs.append(failure.evidence)
        failed(server, failure)

    monkeypatch.setattr(AppServer, "failed", noted)
    monkeypatch.setattr(keeper, "PULSE_S", 0.1)
    limits = Limits(call_ms_max=3_000, stop_ms_max=100)
    async with serving(make_codex(limits=limits)) as adapter:
        await say(adapter, "hi")
        with trio.fail_after(30):
            while len(signs) < 2:
                await trio.sleep(0.02)
        assert set(signs) == {"codex.rpc.error"}, "one that lives refuses what it does not know"
        pid = app_server()
        os.kill(pid, signal.SIGSTOP)
        with trio.fail_after(30):
            while adapter.statistics().idle == 0 or pid in descendants():
                await trio.sleep(0.02)
        assert "codex.rpc.no_reply" in signs
        assert (await say(adapter, "hi")).text == "Hello from the stand-in."
    assert len(model_calls(codex_api)) == 2


async def test_cancelling_closes_the_upstream_soon(codex_api: Upstream, make_codex: Make) -> None:
    """The figure is the benchmark's to judge; here the bound is one that a busy machine keeps, too."""
    codex_api.control(deltas=["word "] * 3, end="stall")
    waits = []
    async with serving(make_codex()) as adapter:
        for number in range(5):
            heard = Heard()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(say, adapter, "hi", heard)
                while heard.text != "word word ":
                    await trio.sleep(0.005)
                nursery.cancel_scope.cancel()
            left = time.monotonic()
            while not model_calls(codex_api)[number]["closed_early"]:
                await trio.sleep(0.005)
            waits.append(time.monotonic() - left)
        assert adapter.statistics().started == 1
    assert sorted(waits)[2] < 2


async def test_sixteen_turns_at_a_time_in_several_conversations_do_not_mix(
    codex_api: Upstream, make_codex: Make
) -> None:
    codex_api.control(echo=True, pause_ms=2)
    heard = {f"{turn}-{number}": Heard() for turn in range(3) for number in range(16)}
    async with serving(make_codex()) as adapter:
        for turn in range(3):
            async with trio.open_nursery() as nursery:
                for number in range(16):
                    name = f"{turn}-{number}"
                    nursery.start_soon(say, adapter, " ".join(f"{name}:{word}" for word in range(12)), heard[name])
        assert adapter.statistics().started == 1
    for name, one in heard.items():
        assert one.answer.text == " ".join(f"{name}:{word}" for word in range(12))
