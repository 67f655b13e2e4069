"""What authorization and limits add to a request: their steps alone, and whole cached answers with and without a key.

Both beside the same without a key, by turns; once with a few keys and an empty cache, once with 10,000 keys and 100,000 answers.
"""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from benchmarks.figures import SHORT_ROUNDS, Figure, at_most, compared
from llmux.actors.cache import CachedAnswer
from llmux.actors.key_registry import IssueKey
from llmux.actors.messages import Principal, Wish
from llmux.actors.opening import open_system
from llmux.actors.system import System
from llmux.clock import SystemClock
from llmux.config import ProviderSettings, Settings
from llmux.events import KeyIssued, KeyLimited, KeyLimits, NewEvent, RecordedEvent
from llmux.http.ratelimits import headers_of
from llmux.prompts import Finish, Prompt, Sampling, TextDelta, Usage, user

WANTED_US = 30.0
KEYS = 64
"""whose requests are made"""
FULL_KEYS, FULL_ANSWERS = 10_000, 100_000
STEPS = 2_000
ANSWERS, AT_ONCE = 512, 64
LIMITS = KeyLimits(
    requests_per_minute=10**9,
    requests_per_day=10**9,
    tokens_per_minute=10**12,
    tokens_per_month=10**12,
    concurrent_requests=10**6,
    models=["claude-*", "alpha/echo", "gpt-4o"],
    providers=["alpha"],
)
"""of every kind that costs something to look at, and never reached"""

Caller = tuple[Principal, str]
"""a key's owner, and its credential"""


def measured(directory: Path) -> list[Figure]:
    """One gateway, first nearly empty and then full."""
    return trio.run(_measured, directory)


async def _measured(directory: Path) -> list[Figure]:
    figures = []
    async with _house(directory) as system:
        callers = [await _caller(system) for _ in range(KEYS)]
        others = [(Principal(f"other{n}", "ann", "bench"), "") for n in range(KEYS)]
        for state in (f"{KEYS} keys", f"{FULL_KEYS:,} keys, {FULL_ANSWERS:,} answers"):
            if state != f"{KEYS} keys":
                await _fill(system)
            steps = [(_steps(system, callers), _steps(system, others)) for _ in range(SHORT_ROUNDS)]
            bare = sorted(theirs for _, theirs in steps)[SHORT_ROUNDS // 2]
            name = f"steps of a request, {state}"
            figures.append(
                at_most("limits", name, "µs", [ours for ours, _ in steps], WANTED_US, beside=("without a key", bare))
            )
            whole = [(await _answers(system, callers), await _answers(system, others)) for _ in range(SHORT_ROUNDS)]
            figures.append(compared("limits", f"cached answer, {state}", "µs", whole, against="without a key"))
    return figures


@asynccontextmanager
async def _house(directory: Path) -> AsyncGenerator[System, None]:
    settings = Settings(
        data_dir=directory,
        default_provider="alpha",
        providers={"alpha": ProviderSettings(kind="scripted", default_model="echo")},
        aliases={"gpt-4o": "echo"},
        cache_entries_max=2 * FULL_ANSWERS,
        cache_bytes_max=1 << 30,
        api_key_required=True,
    )
    async with open_system(settings, SystemClock(), environ={}) as system:
        yield system


async def _caller(system: System) -> Caller:
    issued = await system.key_registry.ask(IssueKey("ann", "bench"))
    limited = KeyLimited(key_id=issued.id, limits=LIMITS)
    await system.journal.append(NewEvent(f"key-{issued.id}", limited, system.clock.new_id(), "admin"))
    return Principal(issued.id, "ann", "bench", frozenset({"use"})), issued.secret_key


async def _fill(system: System) -> None:
    for begin in range(0, FULL_KEYS, 500):
        facts = [
            KeyIssued(key_id=f"k{n:07d}", secret_sha256=f"{n:064x}", user="u", project="p", limits=LIMITS)
            for n in range(begin, begin + 500)
        ]
        events = [NewEvent(f"key-{fact.key_id}", fact, system.clock.new_id(), "admin") for fact in facts]
        await system.journal.append(*events)
    answer = CachedAnswer("alpha", "default", "echo", (TextDelta("hello"), Finish("stop", Usage())))
    for number in range(FULL_ANSWERS):
        system.cache.keep(f"{number:032x}", answer)


def _steps(system: System, callers: Sequence[Caller]) -> float:
    """CPU in µs of all that authorization and limits do for a request of its own, from its credential to its headers."""
    prompt = Prompt((user("What is the capital of France? " * 20),), sampling=Sampling(max_tokens=500))
    wishes = [Wish(prompt, who, "/v1/chat/completions", model="echo") for who, _ in callers]
    limiter, ids = system.limiter, [system.clock.new_id() for _ in range(STEPS)]
    commits = [_commits(id) for id in ids]

    def all_steps() -> None:
        for number, id in enumerate(ids):
            principal, credential = callers[number % len(callers)]
            if credential:
                assert system.keys.principal_of(credential) == principal
            limiter.allowance(principal).covers("alpha", "echo")
            limiter.claim(id, wishes[number % len(callers)], generates=True)
            limiter.held_for(id)
            for commit in commits[number]:
                limiter.observe(commit)
            limiter.over(id)
            headers_of(limiter.measures(principal), "/v1/chat/completions", system.clock.now())

    spent = _cpu_us(all_steps) / STEPS
    if limiter.statistics().keys:
        raise AssertionError("a claim was left")
    return spent


def _commits(id: str) -> list[tuple[RecordedEvent, ...]]:
    """The two commits of a direct request, as the limiter sees them."""

    def event(type: str) -> RecordedEvent:
        return RecordedEvent(1, f"request-{id}", 0, type, 1, "", 0, "k", id, "", b"", b"", b"")

    return [
        (event("RequestAccepted"), event("AttemptStarted")),
        (event("AttemptSucceeded"), event("RequestCompleted")),
    ]


def _cpu_us(work: Callable[[], None]) -> float:
    before = time.process_time_ns()
    work()
    return (time.process_time_ns() - before) / 1000


async def _answers(system: System, callers: Sequence[Caller]) -> float:
    """CPU in µs of a whole answer from the cache, on all threads: routing, both events on disk, their fold."""
    prompt = Prompt((user("What is the capital of France?"),))
    wishes = [Wish(prompt, who, "/v1/chat/completions", model="echo") for who, _ in callers]
    for project in {wish.principal.project: wish for wish in wishes}.values():
        await _answer(system, project, "")  # from now on it is cached
    before = time.process_time_ns()
    for _ in range(ANSWERS // AT_ONCE):
        async with trio.open_nursery() as nursery:
            for number in range(AT_ONCE):
                index = number % len(callers)
                nursery.start_soon(_answer, system, wishes[index], callers[index][1])
    return (time.process_time_ns() - before) / 1000 / ANSWERS


async def _answer(system: System, wish: Wish, credential: str) -> None:
    if credential:
        wish = msgspec.structs.replace(wish, principal=system.keys.principal_of(credential))
    with system.request(wish) as request:
        await request.answer()
    headers_of(system.limiter.measures(wish.principal), wish.endpoint, system.clock.now())
