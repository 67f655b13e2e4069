"""Kept text as the admin sees it and forgets it."""

import pytest

from tests.http.served import gateway, settings_of

ADMIN_KEY = "an-admin-key-for-tests-0001"
ADMIN = {"x-admin-key": ADMIN_KEY}
ON = {"record_content": True, "content_retention_days": 7}
CANARY = "canary4711 sings"


@pytest.fixture
async def keeping(tmp_path):
    """A gateway that keeps the text of everything, and has an admin."""
    async with gateway(settings_of(tmp_path, admin_key=ADMIN_KEY, **ON)) as here:
        yield here


async def ask(here, prompt: str = CANARY) -> str:
    reply = await here.post("/claude", {"prompt": prompt})
    assert reply.status == 200
    return reply.json["request_id"]


async def test_the_admin_reads_what_is_kept_of_a_request(keeping):
    id = await ask(keeping)
    reply = await keeping.get(f"/admin/requests/{id}/content", ADMIN)
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    body = reply.json
    for field in ("recordedAt", "until"):
        assert body.pop(field).endswith("Z")
    assert body.pop("prompt")["messages"] == [{"role": "user", "parts": [{"type": "text", "text": CANARY}]}]
    assert body == {
        "request": id,
        "key": "local",
        "finish": "stop",
        "code": "",
        "answer": "hello from claude",
        "reasoning": "",
        "toolCalls": [],
    }


async def test_a_stream_is_kept_like_any_other_answer(keeping):
    reply = await keeping.post("/claude", {"prompt": CANARY, "stream": True})
    id = reply.headers["x-request-id"]
    assert (await keeping.get(f"/admin/requests/{id}/content", ADMIN)).json["answer"] == "hello from claude"


@pytest.mark.parametrize("id", ["nobody", "%00", "..", "a" * 300])
async def test_what_is_not_kept_is_a_404_with_a_sentence(keeping, id):
    reply = await keeping.get(f"/admin/requests/{id}/content", ADMIN)
    assert reply.status == 404
    assert reply.json["code"] in ("no_content", "not_found")
    assert reply.json["error"].endswith(".")


async def test_the_admin_forgets_a_request_a_key_or_all_before_a_time(keeping):
    ids = [await ask(keeping) for _ in range(3)]
    forgotten = [
        (await keeping.post("/admin/forget", body, ADMIN)).json
        for body in ({"request": ids[0]}, {"request": ids[0]}, {"before": 1}, {"key": "local"}, {"key": "local"})
    ]
    assert forgotten == [{"forgotten": count} for count in (1, 0, 0, 2, 0)]
    for id in ids:
        assert (await keeping.get(f"/admin/requests/{id}/content", ADMIN)).json["code"] == "no_content"
    assert (await keeping.events()).count("ContentForgotten") == 2
    recorded = await keeping.system.journal.store.read(limit=10, stream="content")
    assert [event.principal for event in recorded] == ["admin", "admin"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "forget_what"),
        (b"", "forget_what"),
        ({"request": "r", "key": "k"}, "forget_what"),
        ({"before": 10**15}, "invalid_request"),
        ({"before": "30d"}, "invalid_type"),
        ({"user": "ann"}, "invalid_type"),
        ({"key": "k", "dry": True}, "invalid_type"),
        ({"key": None}, "invalid_type"),
        (b"{", "invalid_json"),
    ],
)
async def test_a_body_that_does_not_name_exactly_one_thing_forgets_nothing(keeping, body, code):
    id = await ask(keeping)
    reply = await keeping.post("/admin/forget", body, ADMIN)
    assert (reply.status, reply.json["code"]) == (400, code)
    assert (await keeping.get(f"/admin/requests/{id}/content", ADMIN)).status == 200


async def test_nobody_but_the_admin_reads_or_forgets(keeping):
    id = await ask(keeping)
    for headers in ({}, {"authorization": f"Bearer {ADMIN_KEY}"}, {"x-admin-key": "wrong"}):
        assert (await keeping.get(f"/admin/requests/{id}/content", headers)).status == 403
        assert (await keeping.post("/admin/forget", {"key": "local"}, headers)).status == 403
    assert (await keeping.get(f"/admin/requests/{id}/content", ADMIN)).status == 200


async def test_the_health_says_how_keeping_goes_and_says_nothing_where_nothing_is_kept(keeping, tmp_path):
    id = await ask(keeping)
    await keeping.get(f"/admin/requests/{id}/content", ADMIN)
    content = (await keeping.get("/health")).json["content"]
    assert content.pop("bytes") > 0
    assert content == {
        "kept": 1,
        "lost": 0,
        "forgotten": 0,
        "waiting": 0,
        "maxBytes": keeping.system.settings.limits.content_bytes_max,
        "retentionDays": 7,
        "sentence": "",
    }
    async with gateway(settings_of(tmp_path / "other")) as other:
        assert "content" not in (await other.get("/health")).json


async def test_a_key_that_asks_for_it_is_shown_as_such(tmp_path):
    settings = settings_of(tmp_path, admin_key=ADMIN_KEY, api_key_required=True, content_retention_days=7)
    async with gateway(settings) as here:
        wanted = {"userId": "ann", "projectId": "poems"}
        made = [
            (await here.post("/admin/api-keys", {**wanted, **more}, ADMIN)).json
            for more in ({"recordContent": True}, {})
        ]
        listed = {key["id"]: key for key in (await here.get("/admin/api-keys", ADMIN)).json["keys"]}
        assert [listed[each["id"]].get("recordContent") for each in made] == [True, None]
        found = []
        for each in made:
            reply = await here.post("/claude", {"prompt": CANARY}, {"x-api-key": each["apiKey"]})
            kept = await here.get(f"/admin/requests/{reply.json['request_id']}/content", ADMIN)
            found.append((kept.status, kept.json.get("key")))
        assert found == [(200, made[0]["id"]), (404, None)]


async def test_a_key_that_asks_for_it_needs_a_retention(tmp_path):
    async with gateway(settings_of(tmp_path, admin_key=ADMIN_KEY)) as here:
        body = {"userId": "ann", "projectId": "poems", "recordContent": True}
        reply = await here.post("/admin/api-keys", body, ADMIN)
        assert (reply.status, reply.json["param"]) == (400, "recordContent")
        assert "CONTENT_RETENTION_DAYS" in reply.json["error"]
        assert await here.events() == []
