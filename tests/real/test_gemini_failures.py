"""The real Gemini CLI with an API key: how each failure of Google is recognised."""

import base64
import time
from pathlib import Path

import pytest
import trio

from llmux.failures import Kind
from llmux.prompts import TextDelta
from tests.providers.hearing import Heard
from tests.real.gemini_running import FLASH, OLD, PRO, Running, adapter_of, run, with_key
from tests.upstreams.running import Upstream

GUARD = "\u200b"
PNG = base64.b64encode(b"\x89PNG not really").decode()


FAILURES = [
    ("bad-request", FLASH, Kind.INVALID_REQUEST, "gemini.400"),
    ("too-long", FLASH, Kind.CONTEXT_TOO_LONG, "gemini.context"),
    ("bad-key", FLASH, Kind.LOGGED_OUT, "gemini.api_key_invalid"),
    ("unauthorized", FLASH, Kind.LOGGED_OUT, "gemini.401"),
    ("forbidden", FLASH, Kind.LOGGED_OUT, "gemini.403"),
    ("verify", FLASH, Kind.INELIGIBLE, "gemini.validation_required"),
    ("no-model", FLASH, Kind.MODEL_NOT_FOUND, "gemini.model_not_found"),
    ("spent-day", FLASH, Kind.QUOTA_EXHAUSTED, "gemini.quota_day"),
    ("spent-zero", FLASH, Kind.QUOTA_EXHAUSTED, "gemini.quota_zero"),
    ("limited-hour", FLASH, Kind.QUOTA_EXHAUSTED, "gemini.retry_late"),
    ("spent", PRO, Kind.QUOTA_EXHAUSTED, "gemini.quota_reset"),
    ("limited-minute", PRO, Kind.RATE_LIMITED, "gemini.retry_soon"),
    ("limited", PRO, Kind.RATE_LIMITED, "gemini.429"),
    ("broken", PRO, Kind.UNAVAILABLE, "gemini.500"),
    ("overloaded", PRO, Kind.OVERLOADED, "gemini.503"),
    ("broken", OLD, Kind.UNAVAILABLE, "gemini.500"),
    ("capacity", FLASH, Kind.OVERLOADED, "gemini.capacity"),
    ("drop", FLASH, Kind.UNAVAILABLE, "gemini.unreachable"),
    ("blocked", FLASH, Kind.REFUSED, "gemini.blocked"),
    ("empty", FLASH, Kind.GARBLED, "gemini.empty"),
    ("malformed-call", FLASH, Kind.GARBLED, "gemini.empty"),
    ("tool-call", FLASH, Kind.GARBLED, "gemini.unknown_tool"),
]


@pytest.mark.parametrize(("mode", "model", "kind", "evidence"), FAILURES)
def test_a_failure_is_recognised_and_says_nothing(
    gemini: Running, mode: str, model: str, kind: Kind, evidence: str
) -> None:
    gemini.api.control(mode=mode)
    heard = Heard()
    failure = gemini.fail("hi", model, heard)
    assert (failure.kind, failure.evidence) == (kind, evidence)
    assert heard.chunks == []


@pytest.mark.parametrize("mode", ["cut", "no-finish", "error-inside", "half-event"])
def test_an_answer_that_breaks_off_is_no_answer(gemini: Running, mode: str) -> None:
    gemini.api.control(mode=mode, text="a half answer", pieces=3)
    heard = Heard()
    assert gemini.fail("hi", FLASH, heard).kind is Kind.GARBLED
    assert "a half answer".startswith(heard.text)
    assert all(isinstance(chunk, TextDelta) for chunk in heard.chunks)


def test_a_stop_for_safety_after_some_text_cannot_be_told_from_an_end(gemini: Running) -> None:
    gemini.api.control(mode="safety", text="I can")
    assert gemini.say("hi").answer.finish.reason == "stop"


def test_a_spent_quota_tells_when_it_comes_back(gemini: Running) -> None:
    gemini.api.control(mode="spent")
    heard = Heard()
    failure = gemini.fail("hi", PRO, heard)
    assert failure.resets_at is not None
    assert abs(failure.resets_at - (time.time() * 1000 + 20_530_000)) < 60_000
    assert [(window.model, window.status, window.resets_at) for window in heard.windows] == [
        (PRO, "rejected", failure.resets_at)
    ]


def test_the_reason_for_silence_is_found(gemini_api: Upstream, tmp_path: Path) -> None:
    """Flash models are tried again for minutes without a word; only the end of the process brings the reason to light."""
    expected = {
        "spent": (Kind.QUOTA_EXHAUSTED, "gemini.quota_reset"),
        "limited-minute": (Kind.RATE_LIMITED, "gemini.retry_soon"),
        "limited": (Kind.RATE_LIMITED, "gemini.429"),
        "overloaded": (Kind.OVERLOADED, "gemini.503"),
        "broken": (Kind.UNAVAILABLE, "gemini.500"),
        "hang": (Kind.TIMED_OUT, "gemini.silence"),
    }
    found: dict[str, tuple[Kind, str]] = {}
    resets: list[int | None] = []
    gemini_api.reset()
    count = len(expected)
    adapter = adapter_of(
        tmp_path, with_key(gemini_api), models=(FLASH,), concurrency=count, warm=count, first_byte_ms_max=5000
    )
    with run(adapter, gemini_api, tmp_path) as running:
        running.until(lambda: adapter.statistics().idle == count)

        async def one(mode: str) -> None:
            failure = await running.failure(f"[[{mode}]]")
            found[mode] = (failure.kind, failure.evidence)
            resets.append(failure.resets_at)

        async def all_at_once() -> None:
            async with trio.open_nursery() as nursery:
                for mode in expected:
                    nursery.start_soon(one, mode)

        running.run(all_at_once)
    assert found == expected
    assert len([at for at in resets if at is not None]) == 1
