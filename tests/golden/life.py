"""A log as a gateway writes it: three lives on scripted providers, with everything that happens to a gateway; the second of
them ends with a crash. Then an example of every event, with every field set.
"""

from contextlib import suppress
from pathlib import Path

import pytest
import trio

from llmux.actors.cache import ClearCache
from llmux.actors.key_registry import IssueKey, RevokeKey
from llmux.actors.messages import Principal, Wish
from llmux.actors.opening import open_journal, open_system
from llmux.actors.provider import Recheck
from llmux.actors.quota_tracker import ResetQuota
from llmux.actors.system import System
from llmux.clock import SeededClock
from llmux.config import Settings
from llmux.failures import LLMuxError
from tests.actors.house import house_settings, scripted, wish
from tests.golden.examples import examples
from tests.virtual_time import jumping_clock

SPENT = "fail=quota_exhausted,resets=3600"
HOUR_S = 3_600
TIRED = "fail=overloaded,times=3"
SLOW = "say=a+b+c,gap=100"
MODELS = (SPENT, TIRED, "fail=invalid_request", "hang", SLOW, "used=91,say=hi")


def written(directory: Path, seed: int) -> None:
    """Makes such a log in `directory`, which is an empty one. Time and ids follow `seed`."""
    with pytest.MonkeyPatch.context() as patch:
        trio.run(_live, _settings(directory), seed, clock=jumping_clock(patch))


def _settings(directory: Path) -> Settings:
    providers = {
        "alpha": scripted(weight=50, models=MODELS),
        "beta": scripted(weight=30),
        "gamma": scripted("fail=crashed", weight=15),
        "delta": scripted("fail=logged_out", weight=0),
        "epsilon": scripted("fail=ineligible", weight=0),
    }
    return house_settings(directory, providers)


async def _live(settings: Settings, seed: int) -> None:
    clock = SeededClock(seed)
    async with open_system(settings, clock, environ={}) as system:
        await _work(system)
    await _crash(settings, clock)
    async with open_system(settings, clock, environ={}) as system:
        await _ask(system, wish("after the crash"))
    async with open_journal(settings, clock) as journal:
        await journal.append(*examples(clock.new_id))


async def _work(system: System) -> None:
    issued = await system.key_registry.ask(IssueKey("ada", "engine", "one"))
    other = await system.key_registry.ask(IssueKey("bob", "house", record_content=False))
    ada = Principal(issued.id, "ada", "engine", frozenset({"use"}))
    for number in range(8):
        await _ask(system, wish(f"prompt {number}", principal=ada if number % 2 else Principal()))
    for _ in range(2):
        await _ask(system, wish("twice", use_cache=True, principal=ada))
    for model in (SPENT, TIRED, "fail=invalid_request", "used=91,say=hi"):
        await _ask(system, wish("what becomes of it", provider="alpha", model=model, principal=ada))
    for provider in ("delta", "epsilon"):
        await _ask(system, wish("what becomes of it", provider=provider, principal=ada))
    await _share(system, wish("slow", provider="alpha", model=SLOW, use_cache=True, principal=ada))
    with system.request(wish("for ever", provider="alpha", model="hang", stream=True)) as hanging:
        with trio.move_on_after(1):
            await hanging.started()
    await hanging.over()
    await trio.sleep(HOUR_S)  # rests are over, and a refused login gets another try
    for _ in range(2):
        await _ask(system, wish("again", provider="alpha", model=TIRED))
    await system.providers["epsilon"].ask(Recheck())
    await system.tracker.ask(ResetQuota("alpha", "admin"))
    await system.key_registry.ask(RevokeKey(other.id))
    await system.cache.ask(ClearCache("local"))


async def _ask(system: System, wish: Wish) -> None:
    """A request that comes to whatever end it comes to."""
    with suppress(LLMuxError), system.request(wish) as request:
        await request.answer()


async def _share(system: System, wish: Wish) -> None:
    """Two requests share a flight, and the one that started it leaves first."""
    with system.request(wish) as first:
        await first.started()
        with system.request(wish) as second:
            await trio.sleep(0.05)
            first.leave()
            await second.answer()
    await first.over()


async def _crash(settings: Settings, clock: SeededClock) -> None:
    """A life that ends in the midst of a request."""
    with trio.CancelScope() as crash:
        async with open_system(settings, clock, environ={}) as system:
            system.request(wish("lost", provider="alpha", model="hang"))
            while system.active_requests == 0:
                await trio.sleep(0.01)
            crash.cancel()
            await trio.sleep_forever()
