"""The pool over the real Claude Code: warm processes answer like new ones, and their login and quota are the CLI's own business."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from llmux.config import Limits
from llmux.prompts import Prompt, Sampling, user
from llmux.providers.adapter import QuotaWindow
from llmux.providers.claude import login
from tests.providers.hearing import descendants
from tests.real.claude_running import HAIKU, SONNET, adapter_of, ask, calls, idle, served
from tests.upstreams.running import Upstream, upstream


@pytest.fixture(scope="module")
def running_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with upstream("anthropic", "--certificates", str(tmp_path_factory.mktemp("certificates"))) as standing_in:
        yield standing_in


@pytest.fixture
def api(running_api: Upstream) -> Upstream:
    running_api.reset()
    return running_api


def at_the_vendor(api: Upstream) -> dict[str, str]:
    """The environment that brings every host of Anthropic to the stand-in, instead of only the API's address."""
    return {"HTTPS_PROXY": f"http://127.0.0.1:{api.announced['PROXY']}", "NODE_EXTRA_CA_CERTS": api.announced["CA"]}


def write_login(tmp_path: Path, *, expires_in_s: int = 36_000) -> Path:
    """A made-up login of a subscription as the CLI stores it."""
    file = tmp_path / "home" / ".claude" / ".credentials.json"
    file.parent.mkdir(parents=True)
    stored = {
        "accessToken": "sk-ant-oat01-stored",
        "refreshToken": "sk-ant-ort01-stored",
        "expiresAt": int((time.time() + expires_in_s) * 1000),
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }
    file.write_text(json.dumps({"claudeAiOauth": stored}))
    file.chmod(0o600)
    return file


def comparable(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "metadata"}  # an id of the process's own


async def test_a_warm_process_asks_exactly_what_a_new_one_asks(api: Upstream, tmp_path: Path) -> None:
    prompt = Prompt(
        (user("Hello"),), system="Be brief.", sampling=Sampling(temperature=0.2, stop=("END",), max_tokens=50)
    )
    async with served(adapter_of(api, tmp_path / "warm")) as adapter:
        (waiting,) = [pid for pid, name in descendants().items() if "claude" in name]
        assert (await ask(adapter, prompt)).answer.text == "Hello from the stand-in."
        assert waiting not in descendants()
    async with served(adapter_of(api, tmp_path / "cold"), warm=False) as adapter:
        await ask(adapter, prompt)
    warm, cold = calls(api)
    assert comparable(warm) == comparable(cold)


async def test_nothing_reaches_the_vendor_while_processes_wait(api: Upstream, tmp_path: Path) -> None:
    async with served(adapter_of(api, tmp_path, warm=2)) as adapter:
        await idle(adapter, 2)
        assert [seen["method"] for seen in api.log() if seen["method"] != "HEAD"] == []


async def test_each_model_in_use_has_its_warm_process(api: Upstream, tmp_path: Path) -> None:
    async with served(adapter_of(api, tmp_path)) as adapter:
        await ask(adapter, "Hello", HAIKU)
        await idle(adapter, 2)
        for model, real in ((SONNET, "claude-sonnet-5"), (HAIKU, "claude-haiku-4-5-20251001")):
            assert (await ask(adapter, "Hello", model)).answer.finish.model == real
    assert [name for name in descendants().values() if "claude" in name] == []


# --- login and quota -----------------------------------------------------------------------------------------------


async def test_a_login_that_expires_while_a_process_waits_is_renewed_by_the_cli_alone(
    api: Upstream, tmp_path: Path
) -> None:
    """Section 13 of what is known of the CLI left this open. The renewed login makes the pool start other processes."""
    file = write_login(tmp_path, expires_in_s=600)
    place = {"env": at_the_vendor(api) | {"ANTHROPIC_BASE_URL": api.url, "NO_PROXY": "127.0.0.1"}, "environ": {}}
    async with served(adapter_of(api, tmp_path, **place)) as adapter:
        stored = json.loads(file.read_text())
        stored["claudeAiOauth"]["expiresAt"] = int(time.time() * 1000) - 1000
        before = file.stat()
        file.write_text(json.dumps(stored).ljust(before.st_size))
        await ask(adapter, "Hello")
        renewed = [seen for seen in api.log() if seen["path"] == "/v1/oauth/token"]
        assert len(renewed) == 1
        assert "sk-ant-ort01-stored" in renewed[0]["body"]
        (call,) = (seen for seen in api.log() if seen["path"].startswith("/v1/messages"))
        assert call["headers"]["authorization"] == "Bearer sk-ant-oat01-renewed"
        assert json.loads(file.read_text())["claudeAiOauth"]["refreshToken"] == "sk-ant-ort01-renewed"
        await ask(adapter, "Hello again")
        assert len([seen for seen in api.log() if seen["path"] == "/v1/oauth/token"]) == 1


async def test_a_login_that_the_vendor_refuses_before_its_end_is_renewed_by_the_cli_alone(
    api: Upstream, tmp_path: Path
) -> None:
    """After a 401 the CLI renews the login and asks again, but only as long as it may try at all."""
    file = write_login(tmp_path)
    place = {"env": at_the_vendor(api) | {"ANTHROPIC_BASE_URL": api.url, "NO_PROXY": "127.0.0.1"}, "environ": {}}
    async with served(adapter_of(api, tmp_path, **place)) as adapter:
        api.control(mode="401", times=1)
        assert (await ask(adapter, "Hello")).answer.text == "Hello from the stand-in."
        asked = [seen["headers"]["authorization"] for seen in api.log() if seen["path"].startswith("/v1/messages")]
        assert asked == ["Bearer sk-ant-oat01-stored", "Bearer sk-ant-oat01-renewed"]
        assert json.loads(file.read_text())["claudeAiOauth"]["refreshToken"] == "sk-ant-ort01-renewed"


async def test_the_quota_is_asked_without_tokens_and_told_by_the_next_probe(api: Upstream, tmp_path: Path) -> None:
    api.control(used={"five_hour": 12, "seven_day": 97.4, "seven_day_opus": 3})
    write_login(tmp_path)
    adapter = adapter_of(api, tmp_path, warm=0, environ={}, env=at_the_vendor(api), redirected=False)
    async with served(adapter, warm=False):
        readiness = await adapter.probe()
        with trio.fail_after(60):
            while not readiness.windows:
                readiness = await adapter.probe()
        assert (await adapter.probe()).windows == (), "told once"
    moment = 1_893_456_000_000  # 2030-01-01, without the fraction of a second
    assert readiness.windows == (
        QuotaWindow("five_hour", "allowed", used_percent=12, resets_at=moment),
        QuotaWindow("seven_day", "warning", used_percent=97, resets_at=moment),
    )
    asked = [seen["path"] for seen in api.log()]
    assert asked.count("/api/oauth/usage") == 1
    assert not any(path.startswith("/v1/") for path in asked), "no tokens, and no renewal of a login that is still good"


async def test_a_redirected_cli_or_one_with_a_token_is_not_asked_for_its_quota(api: Upstream, tmp_path: Path) -> None:
    adapter = adapter_of(api, tmp_path, limits=Limits(usage_interval_ms=1))
    async with served(adapter):
        assert (await adapter.probe()).windows == ()
    assert [seen["path"] for seen in api.log() if seen["path"] != "/"] == []


async def test_processes_that_share_an_expired_login_renew_it_once(api: Upstream, tmp_path: Path) -> None:
    write_login(tmp_path, expires_in_s=-60)
    place = {"env": at_the_vendor(api) | {"ANTHROPIC_BASE_URL": api.url, "NO_PROXY": "127.0.0.1"}, "environ": {}}
    async with served(adapter_of(api, tmp_path, **place), warm=False) as adapter, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask, adapter, "Hello")
    assert len([seen for seen in api.log() if seen["path"] == "/v1/oauth/token"]) == 1
    assert login.credentials({"HOME": str(tmp_path / "home")}).stat().st_mode & 0o777 == 0o600
