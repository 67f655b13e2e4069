"""Quotas, cache and models, as people and v3's clients read and manage them."""

import msgspec
import pytest

from tests.http.served import gateway, settings_of

ADMIN_KEY = "an-admin-key-for-tests-0001"
STATE = {"available", "lastError", "cooldownUntil", "requestCount", "lastReset"}
QUOTA = STATE | {"cooldownTime", "priority", "weight"}


@pytest.fixture
async def spent(tmp_path):
    """Gemini's quota is spent for ten minutes, codex is logged out, ollama told how much it has used."""
    providers = dict(settings_of(tmp_path).providers)
    for name, script, weight in (
        ("gemini", "fail=quota_exhausted,resets=600", 30),
        ("codex", "fail=logged_out", 15),
        ("ollama", "used=91,resets=60,say=hi", 5),
    ):
        providers[name] = msgspec.structs.replace(providers[name], default_model=script, weight=weight)
    async with gateway(settings_of(tmp_path, providers=providers)) as here:
        assert (await here.post("/gemini", {"prompt": "x"})).status == 429
        assert (await here.post("/codex", {"prompt": "x"})).status == 503
        assert (await here.post("/ollama", {"prompt": "x"})).status == 200
        await here.until("QuotaReported")
        yield here


async def bare(here, path: str):
    """A POST without a body and without a content type, as `curl -X POST` sends it."""
    return await here.get(path, {}, "POST")


async def test_the_quota_has_every_field_of_v3_for_each_provider(spent):
    reply = await spent.get("/api/quota")
    body = reply.json
    assert reply.status == 200
    assert body["timestamp"].endswith("Z")
    assert set(body["providers"]) == {"claude", "gemini", "codex", "ollama"}
    assert all(set(each) >= QUOTA for each in body["providers"].values())
    claude, gemini, codex, ollama = (body["providers"][name] for name in ("claude", "gemini", "codex", "ollama"))
    started = spent.system.facts.gateway.started_at
    assert {name: claude[name] for name in QUOTA} == {
        "available": True,
        "lastError": None,
        "cooldownUntil": None,
        "requestCount": 0,
        "lastReset": started,
        "cooldownTime": 600_000,
        "priority": 1,
        "weight": 50,
    }
    assert (gemini["available"], gemini["lastError"], gemini["requestCount"]) == (False, "quota_exhausted", 1)
    assert gemini["cooldownUntil"] > spent.system.clock.now()
    assert (codex["available"], codex["lastError"], codex["cooldownUntil"]) == (False, "logged_out", None)
    assert [each["priority"] for each in (claude, gemini, codex, ollama)] == [1, 2, 3, 4]


async def test_a_cooldown_says_since_when_until_when_and_on_what_evidence(spent):
    gemini = (await spent.get("/api/quota")).json["providers"]["gemini"]
    (cooldown,) = gemini["cooldowns"]
    assert (cooldown["account"], cooldown["kind"]) == ("default", "quota_exhausted")
    assert cooldown["evidence"] == "scripted.fail"
    assert cooldown["until"] == gemini["cooldownUntil"] == cooldown["resetsAt"]
    assert 590_000 < cooldown["until"] - cooldown["since"] <= 600_000


async def test_a_cooldown_says_when_it_is_tried_again_and_whether_that_is_under_way(spent, monkeypatch):
    async def told() -> dict:
        (cooldown,) = (await spent.get("/api/quota")).json["providers"]["gemini"]["cooldowns"]
        return cooldown

    resting = await told()
    assert resting["nextProbe"] == {"at": resting["until"], "state": "resting"}
    assert resting["explanation"].startswith("Its quota is spent since ")
    now = spent.system.clock.now
    monkeypatch.setattr(spent.system.clock, "now", lambda: now() + 601_000)
    due = await told()
    assert due["nextProbe"] == {"at": resting["until"], "state": "due"}
    assert spent.system.tracker.claim_probe(f"gemini/default/{due['model']}")
    assert (await told())["nextProbe"]["state"] == "under_way"
    assert (await spent.post("/gemini", {"prompt": "x"})).status == 503, "another request waits for the probe"
    spent.system.tracker.release_probe(f"gemini/default/{due['model']}")
    assert (await spent.post("/gemini", {"prompt": "x"})).status == 429
    again = await told()
    assert (again["nextProbe"]["state"], again["since"] > resting["until"]) == ("resting", True)


async def test_cooldowns_and_windows_survive_a_restart_with_what_they_rest_on(tmp_path):
    providers = dict(settings_of(tmp_path).providers)
    for name, script in (("gemini", "fail=quota_exhausted,resets=600"), ("ollama", "used=91,resets=60,say=hi")):
        providers[name] = msgspec.structs.replace(providers[name], default_model=script)
    settings = settings_of(tmp_path, providers=providers)
    told = []
    for restarted in (False, True):
        async with gateway(settings) as here:
            if not restarted:
                assert (await here.post("/ollama", {"prompt": "x"})).status == 200
                await here.until("QuotaReported")
            attempts = (await here.events()).count("AttemptStarted")
            assert (await here.post("/gemini", {"prompt": "x"})).status == 429
            assert (await here.events()).count("AttemptStarted") == attempts + (not restarted), (
                "what rests is not asked"
            )
            body = (await here.get("/api/quota")).json["providers"]
            told.append({name: (body[name]["cooldowns"], body[name]["windows"]) for name in body})
    before, after = told
    assert before == after
    assert before["gemini"][0][0]["evidence"] == "scripted.fail"
    assert before["ollama"][1][0]["usedPercent"] == 91


async def test_what_a_provider_said_of_its_windows_is_shown(spent):
    body = (await spent.get("/api/quota")).json["providers"]
    (window,) = body["ollama"]["windows"]
    assert (window["window"], window["usedPercent"]) == ("script", 91)
    assert window["resetsAt"] > window["reportedAt"]
    assert body["claude"]["windows"] == []


async def test_a_reset_ends_the_cooldown_of_one_provider_and_is_recorded(spent):
    before = spent.system.clock.now()
    reply = await spent.post("/api/quota/reset", {"provider": "gemini"})
    assert (reply.status, reply.json["success"]) == (200, True)
    state = reply.json["quotaState"]
    assert set(state) == {"claude", "gemini", "codex", "ollama"}
    assert all(set(each) == STATE for each in state.values())
    assert (state["gemini"]["available"], state["gemini"]["cooldownUntil"]) == (True, None)
    assert state["gemini"]["lastReset"] >= before > state["claude"]["lastReset"]
    assert (await spent.events()).count("QuotaReset") == 1
    quota = (await spent.get("/api/quota")).json["providers"]["gemini"]
    assert quota["cooldowns"] == []
    assert quota["lastReset"] == state["gemini"]["lastReset"]


@pytest.mark.parametrize("body", [{}, {"provider": None}, {"provider": ""}, b""])
async def test_a_reset_without_a_provider_is_for_all(spent, body):
    reply = await spent.post("/api/quota/reset", body)
    assert reply.json["quotaState"]["gemini"]["available"] is True
    assert (await spent.events()).count("QuotaReset") == 4


async def test_a_reset_of_an_unknown_provider_is_400_and_changes_nothing(spent):
    for provider, code in (("foo", "unknown_provider"), ("../x", "unknown_provider"), (5, "invalid_type")):
        reply = await spent.post("/api/quota/reset", {"provider": provider})
        assert (reply.status, reply.json["code"], reply.json["param"]) == (400, code, "provider")
    assert "QuotaReset" not in await spent.events()


async def test_a_reset_looks_anew_whether_the_provider_can_be_used(spent, monkeypatch):
    looked = []
    for name, provider in spent.system.providers.items():
        (desk,) = provider._desks.values()
        probe = desk.adapter.probe

        async def noted(name=name, probe=probe):
            looked.append(name)
            return await probe()

        monkeypatch.setattr(desk.adapter, "probe", noted)
    await spent.post("/api/quota/reset", {"provider": "codex"})
    assert looked == ["codex"]
    await bare(spent, "/api/quota/reset")
    assert sorted(looked) == ["claude", "codex", "codex", "gemini", "ollama"]


async def test_the_cache_tells_its_size_and_its_luck(door):
    empty = (await door.get("/api/cache/stats")).json
    assert {name: empty[name] for name in ("size", "maxSize", "ttl", "hits", "misses", "hitRate")} == {
        "size": 0,
        "maxSize": 1000,
        "ttl": 3_600_000,
        "hits": 0,
        "misses": 0,
        "hitRate": "N/A",
    }
    for prompt in ("a", "a", "b", "c"):
        await door.post("/api/smart", {"prompt": prompt})
    full = (await door.get("/api/cache/stats")).json
    assert (full["size"], full["hits"], full["misses"], full["hitRate"]) == (3, 1, 3, "25.00%")
    assert 0 < full["bytes"] < full["maxBytes"]


async def test_a_cleared_cache_is_empty_and_the_next_answer_is_fresh(door):
    for prompt in ("a", "b"):
        await door.post("/api/smart", {"prompt": prompt})
    reply = await bare(door, "/api/cache/clear")
    assert (reply.status, reply.json) == (200, {"success": True, "cleared": 2})
    assert (await door.get("/api/cache/stats")).json["size"] == 0
    assert (await door.post("/api/smart", {"prompt": "a"})).json["cached"] is False
    assert "CacheCleared" in await door.events()


async def test_a_post_without_a_body_needs_no_content_type(door):
    for path in ("/api/cache/clear", "/api/quota/reset"):
        assert (await bare(door, path)).status == 200
        assert (await door.post(path, {}, {"content-type": "text/plain"})).status == 415


async def test_a_reset_and_a_clearing_need_the_admin_key_where_keys_are_required_and_say_who_it_was(tmp_path):
    keys = {"api_key_required": True, "api_key": "sk-a-key-for-tests-0001", "admin_key": ADMIN_KEY}
    async with gateway(settings_of(tmp_path, **keys)) as here:
        for path in ("/api/cache/clear", "/api/quota/reset"):
            for headers in ({}, {"authorization": f"Bearer {keys['api_key']}"}, {"x-admin-key": keys["api_key"]}):
                assert (await here.post(path, {}, headers)).status == 403
        assert not {"CacheCleared", "QuotaReset"} & set(await here.events())
        for path in ("/api/cache/clear", "/api/quota/reset"):
            assert (await here.post(path, {}, {"x-admin-key": ADMIN_KEY})).status == 200
        recorded = await here.system.journal._store.read(after=0, limit=100)
    assert {each.principal for each in recorded if each.type in ("CacheCleared", "QuotaReset")} == {"admin"}


V3_TAG = ("name", "provider", "alias", "description", "default", "supportsStream", "weight")


async def test_tags_have_the_fields_of_v3_for_every_model(tmp_path):
    aliases = {"gpt-4o": "claude-plain", "fast": "gemini/gemini-plain"}
    async with gateway(settings_of(tmp_path, aliases=aliases)) as here:
        models = (await here.get("/api/tags")).json["models"]
        assert len(models) == 8
        tags = {each["name"]: each for each in models}
        v3 = {name: tags["claude-plain"][name] for name in V3_TAG}
        assert v3 == {
            "name": "claude-plain",
            "provider": "claude",
            "alias": "gpt-4o",
            "description": "A model of claude",
            "default": False,
            "supportsStream": True,
            "weight": 50,
        }
        assert tags["say=hello+from+codex"]["default"] is True
        assert (tags["gemini-plain"]["alias"], tags["codex-plain"]["alias"]) == ("fast", "codex/codex-plain")
        for each in models:
            reply = await here.post("/api/smart", {"prompt": "hi", "options": {"model": each["alias"]}})
            assert (reply.json["provider"], reply.json["model"]) == (each["provider"], each["name"]), each
