"""The processes of the real Gemini CLI: side by side, cancelled, killed, worn, and gone at the end."""

import base64
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from llmux.failures import Kind
from llmux.prompts import Prompt, Sampling, assistant, user
from llmux.providers.gemini import pool
from tests.providers.hearing import Heard, descendants
from tests.real.gemini_running import FLASH, Running, adapter_of, run, with_key
from tests.upstreams.running import Upstream

GUARD = "\u200b"
PNG = base64.b64encode(b"\x89PNG not really").decode()


def test_two_prompts_at_once_do_not_mix(gemini: Running) -> None:
    answers: dict[str, str] = {}
    gemini.api.control(pause_ms=20, pieces=4)

    async def one(name: str) -> None:
        answers[name] = (await gemini.answer(Prompt((user(f"I am {name}"),), system=f"You serve {name}."))).text

    async def all_at_once() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(one, f"n{number}")

    gemini.run(all_at_once)
    assert answers == {f"n{number}": f"I am n{number}" for number in range(12)}
    for body in gemini.sent():
        name = body["contents"][-1]["parts"][-1]["text"].removeprefix("I am ")
        assert body["systemInstruction"]["parts"] == [{"text": f"You serve {name}."}]
    assert gemini.adapter.statistics().idle <= 2


def _cancelled(gemini: Running, when: Any) -> float:
    """Cancels a call as soon as `when` says so; how long it took, in seconds."""

    async def cancel() -> float:
        async with trio.open_nursery() as nursery:
            heard = Heard()
            nursery.start_soon(gemini.answer, "hi", FLASH, heard)
            while not await trio.to_thread.run_sync(when, heard):
                await trio.sleep(0.01)
            before = trio.current_time()
            nursery.cancel_scope.cancel()
        return trio.current_time() - before

    return gemini.run(cancel)


def test_a_cancelled_prompt_stops_upstream_and_its_worker_serves_on(gemini: Running) -> None:
    gemini.say("first")
    before = gemini.adapter.statistics()
    gemini.api.control(mode="hang")
    took = _cancelled(gemini, lambda _: len(gemini.sent()) == 2)
    gemini.until(lambda: gemini.api.log()[-1]["closed_early"])
    gemini.api.control(mode="ok", text="a b c d e f", pieces=6, pause_ms=400)
    took = max(took, _cancelled(gemini, lambda heard: heard.text != ""))
    gemini.until(lambda: gemini.api.log()[-1]["closed_early"])
    gemini.api.control(pause_ms=0)
    assert gemini.say("next").text == "a b c d e f"
    assert took < 1
    assert gemini.adapter.statistics() == before


def test_a_worker_that_dies_while_it_answers_is_a_crash_and_is_replaced(gemini: Running) -> None:
    lost = gemini.adapter.statistics().lost
    gemini.api.control(mode="hang")

    async def murder() -> Kind:
        kinds: list[Kind] = []

        async def victim() -> None:
            kinds.append((await gemini.failure("hi")).kind)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(victim)
            while not await trio.to_thread.run_sync(gemini.sent):
                await trio.sleep(0.01)
            for worker in gemini.adapter._pool._workers:
                if worker.busy:
                    os.kill(worker.process.pid, signal.SIGKILL)
        return kinds[0]

    assert gemini.run(murder) is Kind.CRASHED
    assert gemini.adapter.statistics().lost == lost + 1
    gemini.api.control(mode="ok")
    assert gemini.say("hi").text == "hi"


def test_an_idle_worker_that_dies_is_noticed(gemini: Running) -> None:
    gemini.say("hi")
    lost = gemini.adapter.statistics().lost
    for worker in gemini.adapter._pool._workers:
        os.kill(worker.process.pid, signal.SIGKILL)
    gemini.until(lambda: gemini.adapter.statistics().lost > lost)
    assert gemini.say("hi").text == "hi"


def test_a_worn_worker_is_replaced(gemini: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    recycled = gemini.adapter.statistics().recycled
    monkeypatch.setattr(pool, "REQUESTS_MAX", 1)
    gemini.say("hi")
    gemini.until(lambda: gemini.adapter.statistics().recycled == recycled + 1)
    monkeypatch.undo()
    assert gemini.say("hi").text == "hi"


def test_no_word_of_a_prompt_stays_on_disk(gemini: Running) -> None:
    canary = "canary-7f3a"
    prompt = Prompt(
        (user(canary), assistant(canary), user(canary)),
        system=canary,
        sampling=Sampling(stop=(canary,)),
        json_schema={"type": "object", "title": canary},
    )
    for mode in ("ok", "bad-request", "cut", "blocked"):
        gemini.api.control(mode=mode, text=canary)
        for one in (prompt, Prompt(prompt.messages[-1:], system=canary, json_schema=prompt.json_schema)):
            if mode == "ok":
                gemini.say(one)
            else:
                gemini.fail(one)
    gemini.api.control(mode="hang")
    seen = len(gemini.sent())
    _cancelled(gemini, lambda _: len(gemini.sent()) > seen)
    time.sleep(0.3)  # for what the CLI might still write
    files = [path for path in (gemini.directory / "private").rglob("*") if path.is_file() and not path.is_symlink()]
    assert files
    assert [path for path in files if canary in path.read_text("utf-8", "replace")] == []


def test_the_end_leaves_no_process_and_no_file(gemini_api: Upstream, tmp_path: Path) -> None:
    gemini_api.reset()
    before = set(descendants())
    adapter = adapter_of(tmp_path, with_key(gemini_api), concurrency=2, warm=2)
    with run(adapter, gemini_api, tmp_path) as running:
        running.until(lambda: adapter.statistics().idle == 2)
        assert len(set(descendants()) - before) == 2  # one process each: no parent that relaunches
        assert running.say("hi").text == "hi"
    assert set(descendants()) - before == set()
    assert list((tmp_path / "private").iterdir()) == []


async def test_a_probe_tells_the_version_without_starting_anything(gemini_api: Upstream, tmp_path: Path) -> None:
    before = set(descendants())
    readiness = await adapter_of(tmp_path, with_key(gemini_api)).probe()
    assert (readiness.ready, readiness.version, readiness.sentence) == (True, "0.61.0", "")
    assert set(descendants()) == before
