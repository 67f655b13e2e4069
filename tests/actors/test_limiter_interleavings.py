"""Limits under everything at once: many clients, failures, cancellations, a log in trouble, and restarts in the midst.

Time is virtual and chance is seeded: a failing seed is in the name of the test, and fails again.
"""

import random
from collections import Counter

import msgspec
import pytest
import trio

from llmux.actors.facts import EMPTY, evolve
from llmux.actors.facts.windows import Window, rolled
from llmux.actors.limiter import LimiterStatistics
from llmux.actors.measures import Held, measures_of
from llmux.actors.opening import open_system
from llmux.actors.reservations import reservation_of
from llmux.clock import SeededClock
from llmux.events import AttemptSucceeded, KeyLimits, RequestAccepted
from llmux.failures import LimitReached, LLMuxError, OutcomeUnknown, StoreFailure
from llmux.prompts import Prompt, Sampling, user
from tests.actors.house import house_settings, log_of, scripted, wish
from tests.actors.limited import key_with

NOTHING = LimiterStatistics(keys=0, open=0, requests=0, tokens=0)
ANSWER_TOKENS = 6_000
"""of the longest answer: more than what is held for one"""
SCRIPTS = (
    "delay=700,chunks=40,gap=150,say=word",
    "say=a+short+answer",
    f"delay=2500,say=hello,tokens={ANSWER_TOKENS}",
    "fail=overloaded,times=3,delay=300",
    "fail=crashed,after=2,gap=200,say=some+words+more",
    "empty",
)
CLIENTS, ASKS, RESTARTS = 8, 14, 2


def limits_of(chance: random.Random) -> KeyLimits:
    """Some limits, tight enough to be reached."""
    spans = {
        "requests_per_minute": (3, 25),
        "requests_per_day": (30, 120),
        "tokens_per_minute": (1_500, 9_000),
        "tokens_per_day": (4_000, 40_000),
        "concurrent_requests": (1, 5),
    }
    return KeyLimits(**{name: chance.randint(*span) for name, span in spans.items() if chance.random() < 0.75})


class Troubled:
    """A journal's way to the store that refuses some appends, and of some does not tell that they were made."""

    def __init__(self, system, chance: random.Random):
        self._append, self._chance = system.journal._append, chance
        system.journal._append = self

    async def __call__(self, records):
        point = self._chance.random()
        if point < 0.04:
            return [StoreFailure("No.")] * len(records)
        outcomes = await self._append(records)
        return [OutcomeUnknown("Perhaps.")] * len(records) if point < 0.07 and records else outcomes


class Watch:
    """Looks at every commit: what is counted, and how many are open. `broken` are the limits that did not hold."""

    def __init__(self, system, capped: bool):
        self._system, self._capped = system, capped
        self.broken: list[str] = []
        system.journal.watch(self)

    def __call__(self, recorded) -> None:
        facts, now = self._system.facts, self._system.clock.now()
        opened = Counter(request.principal for request in facts.requests.open.values())
        for key in facts.keys.values():
            most = key.limits.concurrent_requests or CLIENTS
            if opened[key.id] > most:
                self.broken.append(f"{opened[key.id]} open, of at most {most}")
            for each in measures_of(key.limits, rolled(facts.windows.get(key.id) or Window(), now), Held()):
                room = each.limit + (0 if each.unit == "requests" or self._capped else ANSWER_TOKENS * most)
                if each.used(now) > room:
                    self.broken.append(f"{each} at {now}, after {[event.type for event in recorded]}")


def some_wish(chance: random.Random, who, capped: bool):
    bound = chance.choice([1, 20, 400]) if capped else chance.choice([None, None, 30])
    text = chance.choice(["one", "some more words", "word " * 200])
    return wish(
        principal=who,
        model=chance.choice(SCRIPTS[:2] + SCRIPTS[3:]) if capped else chance.choice(SCRIPTS),
        use_cache=chance.random() < 0.4,
        prompt=Prompt((user(text),), sampling=Sampling(max_tokens=bound)),
    )


async def client(system, chance: random.Random, keys, capped: bool, refusals: Counter) -> None:
    """Asks again and again, does not always wait for the answer, and sometimes comes back when it was told to."""
    for _ in range(ASKS):
        await trio.sleep(chance.choice([0, 0.01, 1, 15, 40]))
        try:
            with system.request(some_wish(chance, chance.choice(keys), capped)) as request:
                with trio.move_on_after(chance.choice([0, 0.5, 2, 100])):
                    await request.answer()
        except LimitReached as failure:
            refusals[failure.code] += 1
            await trio.sleep(min(failure.retry_after_ms or 0, 70_000) / 1000)
        except LLMuxError:
            pass


@pytest.mark.parametrize("seed", range(8))
async def test_limits_hold_and_no_claim_is_left(tmp_path, virtual_time, seed):
    chance, clock, capped = random.Random(seed), SeededClock(seed), seed % 2 == 0
    settings = house_settings(tmp_path, {"alpha": scripted(concurrency=100)})
    refusals: Counter[str] = Counter()
    watches: list[Watch] = []
    for restart in range(RESTARTS + 1):
        async with open_system(settings, clock, environ={}) as system:
            assert system.limiter.statistics() == NOTHING
            if restart == 0:
                limits = [limits_of(chance) for _ in range(2)]
                keys = [
                    await key_with(system, f"k{n}", **msgspec.structs.asdict(each)) for n, each in enumerate(limits)
                ]
            else:
                now = clock.now()
                replayed = evolve(EMPTY, await log_of(system)).windows
                for key, each in zip(keys, limits, strict=True):
                    expected = measures_of(each, rolled(replayed.get(key.id) or Window(), now), Held())
                    assert system.limiter.measures(key) == expected
            watches.append(Watch(system, capped))
            Troubled(system, chance)
            async with trio.open_nursery() as nursery:
                for _ in range(CLIENTS):
                    nursery.start_soon(client, system, chance, keys, capped, refusals)
                if restart < RESTARTS:  # then it stops with requests under way
                    await trio.sleep(chance.choice([20, 60, 130]))
                    nursery.cancel_scope.cancel()
            if restart == RESTARTS:
                with trio.fail_after(60):
                    while system.facts.requests.open or system.limiter.statistics() != NOTHING:
                        await trio.sleep(1)
                assert not system.limiter._claims
                assert not system.limiter._held
    print("seed", seed, limits, dict(refusals))
    assert not [broken for watch in watches for broken in watch.broken]
    assert refusals, "limits that are never reached prove nothing"


async def test_what_is_held_is_what_the_log_says_was_held(tmp_path, virtual_time):
    """The reservation in the log bounds what the answer took, where the answer was bounded."""
    async with open_system(house_settings(tmp_path), SeededClock(1), environ={}) as system:
        who = await key_with(system, tokens_per_day=10_000)
        wanted = wish(principal=who, prompt=Prompt((user("word " * 300),), sampling=Sampling(max_tokens=40)))
        with system.request(wanted) as request:
            await request.answer()
        log = await log_of(system)
        (reserved,) = [event.fact.reserved_tokens for event in log if isinstance(event.fact, RequestAccepted)]
        (took,) = [event.fact.usage.total_tokens for event in log if isinstance(event.fact, AttemptSucceeded)]
        assert took == 340 <= reserved == reservation_of(wanted.prompt).least
