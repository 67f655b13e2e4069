"""/health?deep=true: each provider is really called, seldom, and not for strangers."""

import msgspec
import pytest
import trio

from llmux.actors.messages import Principal
from llmux.events import RequestAccepted
from tests.http.served import gateway, settings_of

DEEP = "/health?deep=true"
API_KEY = "sk-an-api-key-for-tests-0001"


def scripted(tmp_path, **models: str):
    """Settings in which these providers answer as their scripts say."""
    settings = settings_of(tmp_path)
    providers = {
        name: msgspec.structs.replace(each, default_model=models.get(name, each.default_model))
        for name, each in settings.providers.items()
    }
    return msgspec.structs.replace(settings, providers=providers)


async def accepted(here) -> list[RequestAccepted]:
    recorded = await here.system.journal._store.read(after=0, limit=1000)
    return [event.fact for event in recorded if isinstance(event.fact, RequestAccepted)]


async def test_each_provider_is_really_called_and_says_what_came_of_it(tmp_path, virtual_time):
    settings = scripted(tmp_path, gemini="fail=quota_exhausted,resets=3600", codex="delay=250,say=OK", ollama="hang")
    async with gateway(settings) as here:
        reply = await here.get(DEEP)
        checks = reply.json["deepCheck"]
        assert (reply.status, reply.json["status"]) == (200, "healthy")
        assert list(checks) == ["claude", "gemini", "codex", "ollama"]
        assert checks["claude"].keys() == {"status", "latencyMs"}
        assert checks["codex"]["status"] == "ok"
        assert checks["codex"]["latencyMs"] >= 250
        assert checks["gemini"].keys() == {"status", "error"}
        assert checks["ollama"]["error"] == "The request took longer than it may."
        facts = await accepted(here)
        assert {fact.endpoint for fact in facts} == {DEEP}
        assert all(fact.pinned for fact in facts)
        assert reply.json["providers"]["gemini"]["available"] is False, "what the check found out, health tells"


async def test_who_asks_at_the_same_time_or_soon_after_shares_one_check(tmp_path, virtual_time):
    async with gateway(scripted(tmp_path, claude="delay=500,say=OK")) as here:
        replies = []

        async def ask() -> None:
            replies.append((await here.get(DEEP)).json["deepCheck"])

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        await trio.sleep(59)
        await ask()
        assert replies == [replies[0]] * 6
        assert len(await accepted(here)) == 4
        await trio.sleep(2)
        await ask()
        assert len(await accepted(here)) == 8


async def test_a_check_goes_on_when_its_asker_leaves(tmp_path, virtual_time):
    async with gateway(scripted(tmp_path, claude="delay=500,say=OK")) as here:
        with trio.move_on_after(0.1):
            await here.system.deep_check.results(Principal())
        results = await here.system.deep_check.results(Principal())
        assert {each.error for each in results.values()} == {""}
        assert len(await accepted(here)) == 4


async def test_when_nobody_answers_the_gateway_is_unhealthy(tmp_path):
    failing = dict.fromkeys(("claude", "gemini", "codex", "ollama"), "fail=garbled")
    async with gateway(scripted(tmp_path, **failing)) as here:
        assert (await here.get("/health")).status == 200
        reply = await here.get(DEEP)
        assert (reply.status, reply.json["status"]) == (503, "unhealthy")
        assert {each["status"] for each in reply.json["deepCheck"].values()} == {"error"}


@pytest.mark.parametrize("key", [None, "sk-wrong"])
async def test_where_keys_are_required_no_stranger_burns_quota(tmp_path, key):
    async with gateway(settings_of(tmp_path, api_key_required=True, api_key=API_KEY)) as here:
        headers = {"x-api-key": key} if key else {}
        reply = await here.get(DEEP, headers)
        assert reply.status == 401
        assert await here.events() == []
        assert (await here.get("/health", headers)).status == 200
        assert "deepCheck" not in (await here.get("/health?deep=false", headers)).json
        assert (await here.get(DEEP, {"x-api-key": API_KEY})).json["deepCheck"]["claude"]["status"] == "ok"


async def test_no_image_on_somebodys_web_page_burns_quota(door):
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        assert (await door.get(DEEP, {"sec-fetch-site": site})).status == status
        if status == 403:
            assert await door.events() == []


async def test_a_check_under_way_does_not_hold_up_the_stop(tmp_path):
    replies = []

    async def ask(here) -> None:
        replies.append(await here.get(DEEP))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, gateway(scripted(tmp_path, claude="hang")) as here:
            nursery.start_soon(ask, here)
            await here.until("AttemptStarted", 4)
    assert (replies[0].status, replies[0].json["code"]) == (503, "shutting_down")
