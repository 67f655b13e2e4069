"""GET /health and GET /metrics."""

import re

import msgspec
import pytest
import trio

from llmux.actors.health import CacheHealth
from llmux.actors.messages import Principal, Wish
from llmux.config import Account
from llmux.http.exchange import iso
from llmux.http.health import hit_rate
from llmux.prompts import Prompt, user
from tests.http.served import gateway, settings_of

TOP = {
    "status",
    "version",
    "timestamp",
    "uptime",
    "providers",
    "cache",
    "activeRequests",
    "availableProviders",
    "defaultProvider",
}
EACH = {"available", "model", "weight", "requestCount", "cooldownUntil", "avgLatencyMs"}
MORE = {"installed", "loggedIn", "version", "sentence", "running", "queued"}


async def test_health_has_every_field_of_v3_and_says_more_about_each_provider(door):
    for prompt in ("a", "a", "b"):
        await door.post("/api/smart", {"prompt": prompt})
    reply = await door.get("/health")
    body = reply.json
    assert reply.status == 200
    assert set(body) >= TOP
    assert (body["status"], body["version"], body["defaultProvider"]) == ("healthy", "3.0.0", "claude")
    assert body["availableProviders"] == ["claude", "gemini", "codex", "ollama"]
    assert set(body["providers"]["claude"]) == EACH | MORE
    claude = body["providers"]["claude"]
    assert (claude["available"], claude["weight"], claude["requestCount"]) == (True, 50, 2)
    assert isinstance(claude["avgLatencyMs"], int)
    assert body["providers"]["ollama"]["avgLatencyMs"] is None
    assert body["cache"] == {"size": 2, "maxSize": 1000, "hitRate": "33.33%", "store": "memory"}
    assert body["activeRequests"] == 0
    assert body["uptime"] >= 0


async def test_health_shows_how_many_run_and_how_many_wait_at_each_provider(tmp_path):
    """Summed over the accounts: one attempt runs on each of two, three more wait."""
    accounts = (Account("one"), Account("two"))
    provider = msgspec.structs.replace(settings_of(tmp_path).providers["claude"], concurrency=1, accounts=accounts)
    async with gateway(settings_of(tmp_path, providers={"claude": provider})) as here:
        requests = [
            here.system.request(Wish(Prompt((user(text),)), Principal(), "/claude", "claude", "hang"))
            for text in "abcde"
        ]
        load = (0, 0)
        with trio.fail_after(10):
            while load != (2, 3):
                claude = (await here.get("/health")).json["providers"]["claude"]
                load = (claude["running"], claude["queued"])
                assert load[0] <= 2
                await trio.sleep(0.01)
        for request in requests:
            request.leave()
        await here.until("RequestCancelled", 5)
        claude = (await here.get("/health")).json["providers"]["claude"]
        assert (claude["running"], claude["queued"]) == (0, 0)


async def test_a_provider_that_rests_shows_until_when(tmp_path):
    providers = dict(settings_of(tmp_path).providers)
    for name, script in (("gemini", "fail=quota_exhausted,resets=600"), ("codex", "fail=logged_out")):
        providers[name] = msgspec.structs.replace(providers[name], default_model=script)
    async with gateway(settings_of(tmp_path, providers=providers)) as here:
        assert (await here.post("/gemini", {"prompt": "x"})).status == 429
        assert (await here.post("/codex", {"prompt": "x"})).status == 503
        body = (await here.get("/health")).json
        assert body["availableProviders"] == ["claude", "ollama"]
        assert body["providers"]["gemini"]["cooldownUntil"] > here.system.clock.now()
        assert body["providers"]["codex"]["cooldownUntil"] is None
        assert body["providers"]["codex"]["sentence"]


async def test_without_any_provider_health_is_503_and_says_what_to_do(tmp_path):
    settings = settings_of(tmp_path)
    missing = msgspec.structs.replace(settings.providers["claude"], kind="claude", command="no-such-program-here")
    async with gateway(settings_of(tmp_path, providers={"claude": missing})) as here:
        reply = await here.get("/health")
        assert (reply.status, reply.json["status"], reply.json["availableProviders"]) == (503, "unhealthy", [])
        claude = reply.json["providers"]["claude"]
        assert (claude["available"], claude["installed"]) == (False, False)
        assert claude["sentence"]
        refused = await here.post("/api/smart", {"prompt": "hi"})
        assert (refused.status, refused.json["code"]) == (503, "no_provider_available")
        assert refused.headers["x-should-retry"] == "false"
        assert claude["sentence"] in refused.json["error"]
        assert await here.events() == []


async def test_metrics_are_prometheus_text_with_a_type(door):
    await door.post("/api/smart", {"prompt": "hi"})
    await door.post("/api/smart", {})
    reply = await door.get("/metrics")
    text = reply.body.decode()
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert text.endswith("\n")
    assert re.search(r'llmux_requests_total\{.*provider="claude".*status="success".*\} 1\.0', text)
    assert 'llmux_rejected_total{code="missing_prompt",endpoint="/api/smart"} 1.0' in text


@pytest.mark.parametrize(
    ("hits", "misses", "text"), [(0, 0, "N/A"), (1, 6, "14.29%"), (5, 0, "100.00%"), (0, 3, "0.00%")]
)
def test_the_hit_rate_is_written_as_ever(hits, misses, text):
    assert hit_rate(CacheHealth(0, 0, hits, misses)) == text


def test_times_are_written_as_javascript_writes_them():
    assert iso(1_790_000_000_123) == "2026-09-21T14:13:20.123Z"
