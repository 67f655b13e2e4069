"""What the real Codex tells of the quota of its account: with every answer, and to a probe that costs no token."""

import json
from pathlib import Path

import trio

from llmux.clock import SystemClock
from llmux.config import Limits
from llmux.providers.adapter import QuotaWindow
from tests.real.codex_running import Make, model_calls, say, serving
from tests.upstreams.running import Upstream


def looks(api: Upstream) -> int:
    return sum(seen["path"].endswith("/wham/usage") for seen in api.log())


async def until_ready(adapter) -> None:
    with trio.fail_after(20):
        while adapter.statistics().idle == 0:
            await trio.sleep(0.02)


def told(windows: tuple[QuotaWindow, ...]) -> list[tuple[str, str, str, int | None]]:
    return [(one.window, one.model, one.status, one.used_percent) for one in windows]


async def test_a_probe_of_a_warm_server_tells_the_windows_and_spends_nothing(
    codex_api: Upstream, make_codex: Make
) -> None:
    codex_api.control(used=[93, 100])
    async with serving(make_codex(warm=1)) as adapter:
        await until_ready(adapter)
        windows = (await adapter.probe()).windows
        assert told(windows) == [("primary", "*", "warning", 93), ("secondary", "*", "rejected", 100)]
        now = SystemClock().now()
        assert all(one.resets_at is not None and now < one.resets_at < now + 8 * 24 * 3_600_000 for one in windows)
        assert (await adapter.probe()).windows == (), "asked once in a while only"
    assert looks(codex_api) == 1
    assert model_calls(codex_api) == []


async def test_what_an_answer_told_is_not_asked_for(codex_api: Upstream, make_codex: Make) -> None:
    async with serving(make_codex()) as adapter:
        heard = await say(adapter, "hi")
        assert told(tuple(heard.windows)) == [("primary", "*", "allowed", 12), ("secondary", "*", "allowed", 34)]
        assert (await adapter.probe()).windows == ()
    assert looks(codex_api) == 0


async def test_a_probe_is_ready_also_when_the_quota_is_not_told(codex_api: Upstream, make_codex: Make) -> None:
    codex_api.control(usage_status=500)
    async with serving(make_codex(warm=1)) as adapter:
        await until_ready(adapter)
        readiness = await adapter.probe()
    assert readiness.ready
    assert readiness.windows == ()
    assert looks(codex_api) >= 1


async def test_an_api_key_has_no_plan_to_ask_about(codex_api: Upstream, make_codex: Make, tmp_path: Path) -> None:
    (tmp_path / "login").mkdir()
    (tmp_path / "login/auth.json").write_text(json.dumps({"OPENAI_API_KEY": "sk-made-up"}))
    limits = Limits(usage_interval_ms=0)
    async with serving(make_codex(logged_in=False, warm=1, limits=limits)) as adapter:
        await until_ready(adapter)
        assert (await adapter.probe()).ready
        assert (await say(adapter, "hi")).text
    assert {seen["path"] for seen in codex_api.log()} == {"/backend-api/codex/responses"}
