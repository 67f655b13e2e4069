"""Whoever goes away at whatever moment: the real Gemini CLI stops, and leaves no process, no descriptor and no file."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from llmux.failures import ProviderFailure
from llmux.prompts import Prompt, assistant, user
from tests.providers.hearing import Heard, descendants
from tests.real.gemini_running import FLASH, Running, adapter_of, run, with_key
from tests.upstreams.running import Upstream

ATTEMPTS = int(os.environ.get("LLMUX_TEST_ATTEMPTS", "50"))
SEED = int(os.environ.get("LLMUX_TEST_SEED", "20261122"))
AT_ONCE = 4
FIRST = 12
"""attempts before anything is measured"""
DESCRIPTORS_PER_WORKER = 4
"""three pipes, and one to learn of its end"""
GROWTH_BYTES_MAX = 16_000_000
"""of our own process; it holds an adapter, not the prompts that went by"""


@pytest.fixture(scope="module")
def warm_four(gemini_api: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An adapter with four warm workers."""
    directory = tmp_path_factory.mktemp("gemini")
    adapter = adapter_of(directory, with_key(gemini_api), models=(FLASH,), concurrency=AT_ONCE, warm=AT_ONCE)
    with run(adapter, gemini_api, directory) as running:
        yield running


@pytest.fixture
def four(warm_four: Running) -> Running:
    warm_four.until(lambda: warm_four.adapter.statistics().idle == AT_ONCE)
    warm_four.api.reset()
    return warm_four


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def prompt_of(number: int, draw: random.Random) -> Prompt:
    text = f"prompt number {number} " + "x" * draw.choice((0, 10, 100_000)) + draw.choice(("", " [[hang]]"))
    return Prompt(
        (user("a"), assistant("b"), user(text)) if draw.random() < 0.5 else (user(text),), system=f"S{number}"
    )


def test_attempts_with_random_disconnects_leave_nothing(four: Running) -> None:
    print(f"seed {SEED}, {ATTEMPTS} attempts")
    draw = random.Random(SEED)
    descriptors = open_now = memory = ended = 0

    async def one(number: int, gate: trio.CapacityLimiter) -> None:
        nonlocal ended
        prompt, heard = prompt_of(number, draw), Heard()
        patience_s = draw.choice((0, 0.003, 0.03, 0.06, 0.1, 0.2, 0.4, 0.8))
        if "[[hang]]" not in prompt.messages[-1].text and draw.random() < 0.3:
            patience_s = 60.0
        async with gate:
            with trio.move_on_after(patience_s):
                try:
                    await four.answer(prompt, heard=heard)
                except ProviderFailure as failure:
                    raise AssertionError(f"attempt {number}: {failure.evidence}") from None
                assert heard.text == prompt.messages[-1].text, f"attempt {number}"
                ended += 1

    async def many(first: int, last: int) -> None:
        gate = trio.CapacityLimiter(AT_ONCE)
        async with trio.open_nursery() as nursery:
            for number in range(first, last):
                nursery.start_soon(one, number, gate)

    four.api.control(pieces=4, pause_ms=15)
    starts = range(FIRST, FIRST + ATTEMPTS, 50)
    for first, last in [(0, FIRST), *((start, min(start + 50, FIRST + ATTEMPTS)) for start in starts)]:
        four.run(many, first, last)
        four.until(lambda: four.adapter.statistics().busy == four.adapter.statistics().starting == 0)
        workers = four.adapter.statistics().idle
        open_now = len(os.listdir("/proc/self/fd")) - DESCRIPTORS_PER_WORKER * workers
        if not first:  # everything that is loaded or made once is there now
            descriptors, memory = open_now, resident_bytes()
    hung = [seen for seen in four.api.log() if "[[hang]]" in seen["body"]]
    four.until(lambda: all(seen["closed_early"] for seen in four.api.log() if "[[hang]]" in seen["body"]))
    statistics = four.adapter.statistics()
    print(f"{ended} ended well, {len(hung)} were closed upstream; {statistics}")
    assert ended
    assert hung
    assert statistics.lost == 0
    workers = [pid for pid, name in descendants().items() if name != "python"]
    assert len(workers) == statistics.idle
    assert open_now <= descriptors
    assert resident_bytes() - memory < GROWTH_BYTES_MAX
    files = [path for path in (four.directory / "private").rglob("*") if path.is_file() and not path.is_symlink()]
    assert not any("prompt number" in path.read_text("utf-8", "replace") for path in files)


def test_four_prompts_at_once_do_not_mix(four: Running) -> None:
    answers: dict[str, str] = {}
    four.api.control(pause_ms=15, pieces=4)

    async def one(name: str) -> None:
        prompt = Prompt(
            (user(f"before {name}"), assistant(f"so {name}"), user(f"I am {name}")), system=f"You serve {name}."
        )
        answers[name] = (await four.answer(prompt)).text

    async def all_at_once() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, f"n{number}!")

    four.run(all_at_once)
    assert answers == {f"n{number}!": f"I am n{number}!" for number in range(20)}
    assert four.adapter.statistics().idle == AT_ONCE
    for body in four.sent():
        name = body["contents"][-1]["parts"][-1]["text"].removeprefix("I am ")
        assert body["systemInstruction"]["parts"] == [{"text": f"You serve {name}."}]
        said = [content["parts"][-1]["text"] for content in body["contents"]]
        assert said == [f"before {name}", f"so {name}", f"I am {name}"]
