"""A requester that is cancelled, at whatever moment: one terminal event, no lock, no slot, and the next request as ever."""

import itertools
import json
import os
import sqlite3
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from llmux.actors.facts import plain
from llmux.actors.opening import open_system
from llmux.actors.replaying import replay
from llmux.actors.system import System
from llmux.clock import SystemClock
from tests.actors.house import house_settings, scripted, wish
from tests.crash.stepping import AtStep, striking
from tests.http.served import connected, gateway, settings_of

ROUNDS = int(os.environ.get("LLMUX_TEST_ROUNDS", "2"))
"""how often every step is tried: the tasks, and the log's thread, do not take turns in the same order each time"""
ENDS = ("RequestCompleted", "RequestFailed", "RequestCancelled", "RequestAbandoned")
HANG_S = 20

Requester = Callable[[], Awaitable[None]]


class House:
    """A running system that is looked at after every cancellation."""

    def __init__(self, system: System, quiet: Callable[[], bool] = lambda: True):
        self.system = system
        self._quiet = quiet
        self._position = 0
        self._accepted: Counter[str] = Counter()
        self.ends: Counter[tuple[str, str]] = Counter()

    async def settled(self) -> None:
        """Waits until nothing is under way, and looks whether everything is as if nobody had been cancelled."""
        system = self.system
        with trio.fail_after(HANG_S):
            while not await self._all_ended() or self._busy():
                await trio.sleep(0.001)
        assert not system.facts.requests.attempts
        assert system.journal.counts().owed == 0
        foreign = sqlite3.connect(system.settings.data_dir / "events.db", isolation_level=None, timeout=1)
        foreign.execute("BEGIN IMMEDIATE")
        foreign.execute("ROLLBACK")
        foreign.close()

    def _busy(self) -> bool:
        """Whether there is still work to do: a connection, a flight, an open request, a slot that is taken or waited for."""
        desks = [desk for provider in self.system.providers.values() for desk in provider.slots().values()]
        slots = any(desk.running or desk.queued for desk in desks)
        return not self._quiet() or bool(self.system.dispatch.flights or self.system.facts.requests.open) or slots

    async def _all_ended(self) -> bool:
        """Whether every request that was accepted has its terminal event. None has two, and none has one without the other."""
        for event in await self.system.journal._store.read(after=self._position, limit=1000):
            self._position = event.position
            if event.type == "RequestAccepted":
                self._accepted[event.correlation_id] += 1
            if event.type in ENDS:
                self.ends[event.correlation_id, event.type] += 1
        ended = Counter(id for id, _ in self.ends.elements())
        assert not [id for id, count in (ended | self._accepted).items() if count > 1]
        return ended == self._accepted

    async def whole(self) -> None:
        """Live facts are what the log says."""
        log = await replay(self.system.journal._store, snapshots=False)
        assert plain(self.system.facts) == plain(log)

    async def strike(self, nth: int, requester: Requester, *, own_steps: bool) -> bool:
        """Cancels the requester after that many steps. False when it had ended before."""
        scope, tasks = trio.CancelScope(), []

        async def run() -> None:
            tasks.append(trio.lowlevel.current_task())
            with scope:
                await requester()
            tasks.append(None)

        def counts(task: trio.lowlevel.Task) -> bool:
            return len(tasks) < 2 and (not own_steps or task in tasks)

        with striking(AtStep(nth, scope.cancel, counts)) as instrument:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
        await self.settled()
        return instrument.struck

    async def strike_everywhere(self, requester: Callable[[int], Requester]) -> int:
        """Cancels requesters at the first step, the second, ..., until one is through: their own steps, and those of all tasks.

        Returns how many were cancelled.
        """
        cancelled = tried = 0
        for own_steps in (True, False) * ROUNDS:
            for nth in itertools.count(1):
                tried += 1
                if not await self.strike(nth, requester(tried), own_steps=own_steps):
                    break
                cancelled += 1
        await self.whole()
        print(f"{cancelled} cancelled, ended as {Counter(kind for _, kind in self.ends.elements())}")
        return cancelled


@asynccontextmanager
async def opened(directory: Path) -> AsyncGenerator[House, None]:
    providers = {
        "bad": scripted("fail=garbled", weight=1),
        "good": scripted("echo,gap=1,chunks=3", weight=0, concurrency=1),
    }
    async with open_system(house_settings(directory, providers), SystemClock(), environ={}) as system:
        yield House(system)


async def asked(system: System, **changes: object) -> None:
    with system.request(wish(**changes)) as request:
        assert (await request.answer()).text.startswith("hi")


@pytest.mark.parametrize("provider", ["good", ""], ids=["direct", "after a fallback"])
async def test_a_request_may_be_cancelled_at_any_step(tmp_path: Path, provider: str) -> None:
    async with opened(tmp_path) as house:

        def requester(nth: int) -> Requester:
            return lambda: asked(house.system, text="hi", provider=provider)

        assert await house.strike_everywhere(requester) > 10
        assert {kind for _, kind in house.ends} == {"RequestCompleted", "RequestCancelled"}
        await asked(house.system, text="hi")


async def test_one_of_two_who_share_an_answer_may_be_cancelled_at_any_step(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        whole = 0

        def requester(nth: int) -> Requester:
            async def both() -> None:
                nonlocal whole
                text = f"hi {nth}"
                async with trio.open_nursery() as nursery:
                    other = house.system.request(wish(text, use_cache=True))

                    async def stay() -> None:
                        nonlocal whole
                        with trio.CancelScope(shield=True), other:
                            assert (await other.answer()).text.startswith("hi")
                        whole += 1

                    nursery.start_soon(stay)
                    await asked(house.system, text=text, use_cache=True)

            return both

        cancelled = await house.strike_everywhere(requester)
        assert cancelled > 10
        assert whole > cancelled // 2, "who stays gets the whole answer"


async def test_who_waits_for_a_slot_may_be_cancelled_at_any_step(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:

        def requester(nth: int) -> Requester:
            async def queued() -> None:
                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(lambda: asked(house.system, text="hi", provider="good"))

            return queued

        assert await house.strike_everywhere(requester) > 10


async def test_an_answer_from_the_cache_may_be_cancelled_at_any_step(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        await asked(house.system, text="hi", use_cache=True)

        def requester(nth: int) -> Requester:
            return lambda: asked(house.system, text="hi", use_cache=True)

        assert await house.strike_everywhere(requester) > 10
        assert Counter(kind for _, kind in house.ends)["RequestCompleted"] > 5


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_client_may_go_away_at_any_step(tmp_path: Path, stream: bool) -> None:
    """The whole client side is cancelled, so that its connection closes."""
    async with gateway(settings_of(tmp_path, shutdown_grace_ms=1000), serving=True) as here:
        await trio.testing.wait_all_tasks_blocked()
        idle = len(here.tasks())
        house = House(here.system, lambda: len(here.tasks()) == idle)

        def requester(nth: int) -> Requester:
            async def client() -> None:
                messages = [{"role": "user", "content": f"hi {nth}"}]
                body = {"model": "claude/echo,gap=1,chunks=4", "messages": messages, "stream": stream}
                async with connected(here) as client:
                    await client.ask("POST", "/v1/chat/completions", json.dumps(body).encode())
                    reply = await client.reply()
                    assert reply.status == 200

            return client

        assert await house.strike_everywhere(requester) > 20
        assert {kind for _, kind in house.ends} == {"RequestCompleted", "RequestCancelled"}
