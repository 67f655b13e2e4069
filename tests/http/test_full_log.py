"""A log that has taken all its room: no new requests, in everybody's dialect, and everything else goes on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.http.served import Gateway, gateway, settings_of

MESSAGES = [{"role": "user", "content": "hi"}]
ADMIN = {"x-admin-key": "an admin key of the tests"}
KEY = {"authorization": "Bearer a key for all the tests"}
ASKED = {
    "/v1/chat/completions": {"model": "claude", "messages": MESSAGES},
    "/api/generate": {"prompt": "hi"},
    "/api/smart": {"prompt": "hi"},
}


@pytest.fixture
async def full(tmp_path: Path) -> AsyncIterator[Gateway]:
    settings = settings_of(
        tmp_path,
        log_bytes_max=1,
        admin_key=ADMIN["x-admin-key"],
        api_key_required=True,
        api_key=KEY["authorization"][7:],
    )
    async with gateway(settings) as here:
        yield here


@pytest.mark.parametrize("path", ASKED)
async def test_a_full_log_is_a_507_in_the_dialect_of_the_asker(full: Gateway, path: str) -> None:
    reply = await full.post(path, ASKED[path], KEY)
    assert reply.status == 507, reply
    error = reply.json["error"]
    sentence = error["message"] if isinstance(error, dict) else error
    assert "no new requests are taken on" in sentence
    assert "retry-after" in reply.headers
    if path == "/v1/chat/completions":
        assert error["code"] == "store_full"
    assert await full.events() == []


async def test_beside_a_full_log_the_admin_works_and_health_says_why(full: Gateway) -> None:
    issued = await full.post("/admin/api-keys", {"userId": "ann", "projectId": "p"}, ADMIN)
    assert issued.status == 200
    assert await full.events() == ["KeyIssued"]
    head = await full.get("/admin/log/head", ADMIN)
    assert (head.status, head.json["position"]) == (200, 2)
    health = await full.get("/health")
    assert health.status == 503
    assert (health.json["status"], health.json["degradedBecause"]) == ("unhealthy", ["log"])
    assert health.json["log"]["state"] == "full"
    assert health.json["log"]["bytes"] > health.json["log"]["bytesMax"] == 1
    metrics = (await full.get("/metrics")).body.decode()
    assert "llmux_log_bytes_max 1.0" in metrics
