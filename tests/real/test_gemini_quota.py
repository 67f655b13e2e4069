"""What the real Gemini CLI learns of the quota of a Google account: with every answer, and between answers without a token."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmux.config import Limits
from llmux.providers.adapter import QuotaWindow
from llmux.providers.gemini import adapter as adapters
from tests.real.gemini_running import FLASH, PRO, Running, adapter_of, run, with_google, write_login
from tests.upstreams.running import Upstream, upstream

RESET = {"resetTime": "2026-11-23T07:00:00Z"}
RESETS_AT = 1_795_417_200_000
LEFT = {FLASH: {"remainingFraction": 0.04, **RESET}, PRO: {"remainingFraction": 0}}
EXPECTED = {
    QuotaWindow("model", "warning", FLASH, 96, RESETS_AT),
    QuotaWindow("model", "rejected", "pro", 100, None),
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with upstream("gemini", "--certificates", str(tmp_path_factory.mktemp("ca"))) as standing_in:
        yield standing_in


@pytest.fixture
def google(api: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(adapters, "LOOK_S", 0.05)
    api.reset()
    api.control(left=LEFT)
    write_login(tmp_path / "home" / ".gemini")
    names = {"models": (FLASH, "pro"), "upstream": {"pro": PRO}}
    adapter = adapter_of(
        tmp_path, with_google(api), concurrency=1, warm=1, limits=Limits(usage_interval_ms=400), **names
    )
    with run(adapter, api, tmp_path) as running:
        yield running


def told(running: Running) -> set[QuotaWindow]:
    return set(running.run(running.adapter.probe).windows)


def test_every_answer_tells_the_quota_of_the_models(google: Running) -> None:
    assert set(google.say("hi").windows) == EXPECTED


def test_a_probe_tells_what_was_used_elsewhere_and_spends_nothing(google: Running) -> None:
    found: set[QuotaWindow] = set()

    def learned() -> bool:
        found.update(told(google))
        return bool(found)

    google.until(learned)
    assert found == EXPECTED
    google.api.control(left={FLASH: {"remainingFraction": 1}})
    google.until(lambda: QuotaWindow("model", "allowed", FLASH, 0, None) in told(google))
    assert google.sent() == []
    assert google.adapter.statistics().recycled == 0
    assert google.say("hi").text == "hi"


def test_a_note_of_any_other_shape_tells_nothing() -> None:
    from llmux.providers.gemini.quota import windows

    for note in (b"", b"no json", b"{}", b"[1]", b'[{"modelId": "m"}]', b'[{"modelId": "m", "remainingFraction": 7}]'):
        assert windows(note, {"m": "m"}) == ()
    [window] = windows(b'[{"modelId": "m", "remainingFraction": 0.5, "resetTime": "soon"}]', {"m": "m"})
    assert (window.used_percent, window.resets_at, window.status) == (50, None, "allowed")
    two = b'[{"modelId": "m", "remainingFraction": 0.5}, {"modelId": "m", "remainingFraction": 0.9}]'
    assert [window.used_percent for window in windows(two, {"m": "m"})] == [50]  # the tighter one counts
