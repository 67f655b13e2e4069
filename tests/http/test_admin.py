"""Keys for users, as the admin makes, lists and revokes them."""

import pytest

from llmux.failures import StoreFull
from tests.http.served import gateway, settings_of

ADMIN_KEY = "an-admin-key-for-tests-0001"
ADMIN = {"x-admin-key": ADMIN_KEY}
KEYS = "/admin/api-keys"
ANN = {"userId": "ann", "projectId": "poems"}


@pytest.fixture
async def locked(tmp_path):
    """A gateway that wants keys and has an admin."""
    async with gateway(settings_of(tmp_path, api_key_required=True, admin_key=ADMIN_KEY)) as here:
        yield here


async def answers(here, key: str) -> int:
    return (await here.post("/claude", {"prompt": "hi"}, {"authorization": f"Bearer {key}"})).status


async def test_a_new_key_has_the_fields_of_v3_and_an_id_and_opens_at_once(locked):
    reply = await locked.post(KEYS, ANN, ADMIN)
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    body = reply.json
    assert set(body) == {"apiKey", "userId", "projectId", "id"}
    assert (body["userId"], body["projectId"]) == ("ann", "poems")
    assert body["apiKey"].startswith(f"sk-lmx_{body['id']}_")
    assert await answers(locked, body["apiKey"]) == 200


async def test_the_list_shows_every_key_and_no_secret(locked):
    made = [(await locked.post(KEYS, {"userId": user, "projectId": "p"}, ADMIN)).json for user in ("ann", "bob")]
    await locked.get(f"{KEYS}/{made[0]['id']}", ADMIN, "DELETE")
    reply = await locked.get(KEYS, ADMIN)
    keys = {each["id"]: each for each in reply.json["keys"]}
    assert set(keys) == {each["id"] for each in made}
    for each, revoked in zip(made, (True, False), strict=True):
        shown = keys[each["id"]]
        assert shown.pop("createdAt").endswith("Z")
        assert shown == {
            "id": each["id"],
            "key": f"sk-lmx_{each['id']}_…",
            "userId": each["userId"],
            "projectId": "p",
            "label": "",
            "revoked": revoked,
        }
        assert each["apiKey"].split("_")[2] not in reply.body.decode()


@pytest.mark.parametrize("by", ["id", "apiKey"])
async def test_a_key_is_revoked_by_its_id_or_by_itself_and_then_opens_nothing(locked, by):
    made = (await locked.post(KEYS, ANN, ADMIN)).json
    other = (await locked.post(KEYS, ANN, ADMIN)).json
    assert (await locked.get(f"{KEYS}/{made[by]}", ADMIN, "DELETE")).json == {"success": True}
    assert await answers(locked, made["apiKey"]) == 401
    assert await answers(locked, other["apiKey"]) == 200
    again = await locked.get(f"{KEYS}/{made[by]}", ADMIN, "DELETE")
    assert (again.status, again.json) == (200, {"success": False})


async def test_what_is_no_key_of_a_user_is_not_revoked(locked):
    made = (await locked.post(KEYS, ANN, ADMIN)).json
    before = await locked.events()
    for key in ("nobody", "admin", ADMIN_KEY, "api-key", made["apiKey"][:-1], f"sk-lmx_{made['id']}_…", "..", "%00"):
        reply = await locked.get(f"{KEYS}/{key}", ADMIN, "DELETE")
        assert (reply.status, reply.json) == (200, {"success": False}), key
    assert await locked.events() == before
    assert await answers(locked, made["apiKey"]) == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        b"",
        {"userId": "ann"},
        {"userId": "", "projectId": "p"},
        {"userId": "ann", "projectId": None},
        {"userId": 5, "projectId": "p"},
        {"userId": "a" * 201, "projectId": "p"},
        {"userId": "a\nb", "projectId": "p"},
        {**ANN, "limit": 5},
        {**ANN, "userid": "x"},
        [],
        b"{",
    ],
)
async def test_a_body_that_is_not_exactly_a_user_and_a_project_is_refused(locked, body):
    reply = await locked.post(KEYS, body, ADMIN)
    assert reply.status == 400, reply
    assert isinstance(reply.json["error"], str)
    assert await locked.events() == []


async def test_a_key_that_could_not_be_recorded_is_not_shown(locked, monkeypatch):
    async def full(*_, **__):
        raise StoreFull("The disk is full.")

    monkeypatch.setattr(locked.system.journal, "append", full)
    reply = await locked.post(KEYS, ANN, ADMIN)
    assert (reply.status, reply.json["code"]) == (507, "store_full")
    assert "sk-" not in reply.body.decode()
    assert (await locked.get(KEYS, ADMIN)).json == {"keys": []}
