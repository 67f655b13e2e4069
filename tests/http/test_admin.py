"""Keys for users, as the admin makes, lists, limits, rotates and revokes them."""

import json
from datetime import UTC, datetime

import pytest

from llmux.actors.facts.windows import Window
from llmux.events import KeyLimits
from llmux.failures import StoreFull
from llmux.http.exchange import iso
from llmux.http.key_bodies import Limits, _used
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


NO_LIMITS = dict.fromkeys(
    (
        "requestsPerMinute",
        "requestsPerDay",
        "requestsPerMonth",
        "tokensPerMinute",
        "tokensPerDay",
        "tokensPerMonth",
        "concurrentRequests",
        "models",
        "providers",
    )
)


async def made(here, **more) -> dict:
    reply = await here.post(KEYS, {**ANN, **more}, ADMIN)
    assert reply.status == 200, reply
    return reply.json


async def shown(here, id: str) -> dict:
    return next(each for each in (await here.get(KEYS, ADMIN)).json["keys"] if each["id"] == id)


async def change(here, id: str, body):
    """A PATCH, which the application is called with as with a POST."""
    return await here._exchange(
        "PATCH", f"{KEYS}/{id}", json.dumps(body).encode(), {"content-type": "application/json", **ADMIN}
    )


def in_days(here, days: float) -> str:
    return iso(here.system.clock.now() + int(days * 86_400_000))


async def test_a_new_key_has_the_fields_of_v3_and_an_id_and_opens_at_once(locked):
    reply = await locked.post(KEYS, ANN, ADMIN)
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    body = reply.json
    assert set(body) == {"apiKey", "userId", "projectId", "id", "limits", "expiresAt"}
    assert (body["limits"], body["expiresAt"]) == (NO_LIMITS, None)
    assert (body["userId"], body["projectId"]) == ("ann", "poems")
    assert body["apiKey"].startswith(f"sk-lmx_{body['id']}_")
    assert await answers(locked, body["apiKey"]) == 200


async def test_the_list_shows_every_key_and_no_secret(locked):
    issued = [(await locked.post(KEYS, {"userId": user, "projectId": "p"}, ADMIN)).json for user in ("ann", "bob")]
    await locked.get(f"{KEYS}/{issued[0]['id']}", ADMIN, "DELETE")
    reply = await locked.get(KEYS, ADMIN)
    keys = {each["id"]: each for each in reply.json["keys"]}
    assert set(keys) == {each["id"] for each in issued}
    for each, revoked in zip(issued, (True, False), strict=True):
        one = keys[each["id"]]
        assert one.pop("createdAt").endswith("Z")
        assert one == {
            "id": each["id"],
            "key": f"sk-lmx_{each['id']}_…",
            "userId": each["userId"],
            "projectId": "p",
            "label": "",
            "revoked": revoked,
            "state": "revoked" if revoked else "good",
            "limits": NO_LIMITS,
            "expiresAt": None,
            "rotatedAt": None,
            "used": {name: 0 for name in NO_LIMITS if name not in ("models", "providers")},
        }
        assert each["apiKey"].split("_")[2] not in reply.body.decode()


@pytest.mark.parametrize("by", ["id", "apiKey"])
async def test_a_key_is_revoked_by_its_id_or_by_itself_and_then_opens_nothing(locked, by):
    key, other = await made(locked), await made(locked)
    assert (await locked.get(f"{KEYS}/{key[by]}", ADMIN, "DELETE")).json == {"success": True}
    assert await answers(locked, key["apiKey"]) == 401
    assert await answers(locked, other["apiKey"]) == 200
    again = await locked.get(f"{KEYS}/{key[by]}", ADMIN, "DELETE")
    assert (again.status, again.json) == (200, {"success": False})


async def test_what_is_no_key_of_a_user_is_not_revoked(locked):
    own = await made(locked)
    before = await locked.events()
    for key in ("nobody", "admin", ADMIN_KEY, "api-key", own["apiKey"][:-1], f"sk-lmx_{own['id']}_…", "..", "%00"):
        reply = await locked.get(f"{KEYS}/{key}", ADMIN, "DELETE")
        assert (reply.status, reply.json) == (200, {"success": False}), key
    assert await locked.events() == before
    assert await answers(locked, own["apiKey"]) == 200


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


UNKNOWN = (
    "id", "key", "apiKey", "secret", "secretSha256", "secret_sha256", "revoked", "revokedAt", "state", "createdAt", "issuedAt",
    "rotatedAt", "used", "scopes", "admin", "isAdmin", "role", "principal", "userid", "user_id", "project_id", "record_content",
    "expires_at", "expires", "expiresInDays", "limit", "keyLimits", "__class__", "constructor", "__proto__", "",
)  # fmt: skip
"""what somebody might try to set who knows, or guesses, what a key is made of"""
UNKNOWN_LIMITS = (
    "requests_per_minute",
    "requestsPerHour",
    "tokens",
    "tokensPerRequest",
    "Models",
    "model",
    "provider",
    "id",
    "",
)


async def test_no_admin_body_takes_a_field_that_it_does_not_know(locked):
    """Mass assignment, and typing errors: each is refused by name, and nothing is changed."""
    key = await made(locked, limits={"requestsPerMinute": 5})
    before, log = await shown(locked, key["id"]), await locked.events()
    assert log == ["KeyIssued"]
    for field in (*UNKNOWN, *(f"limits.{name}" for name in UNKNOWN_LIMITS)):
        head, inner, name = field.partition("limits.")
        more = {"limits": {"requestsPerMinute": 6, name: 1}} if inner else {head: True}
        replies = [
            await locked.post(KEYS, {**ANN, **more}, ADMIN),
            await change(locked, key["id"], {"expiresAt": in_days(locked, 1), **more}),
            await locked.post(f"{KEYS}/{key['id']}/rotate", more, ADMIN),
            await locked._exchange(
                "DELETE",
                f"{KEYS}/{key['id']}",
                json.dumps(more).encode(),
                {"content-type": "application/json", **ADMIN},
            ),
        ]
        assert [reply.status for reply in replies] == [400] * 4, (field, replies)
        assert all((head or name) in reply.json["error"] or inner for reply in replies)
    for field in ("userId", "projectId", "label"):  # whose a key is, it stays
        assert (await change(locked, key["id"], {field: "x"})).status == 400
    assert (await locked.post(f"{KEYS}/{key['id']}/rotate", {"expiresAt": None}, ADMIN)).status == 400
    assert await shown(locked, key["id"]) == before
    assert await locked.events() == log


@pytest.mark.parametrize(
    ("field", "limits"),
    [
        ("limits.requestsPerMinute", {"requestsPerMinute": 0}),
        ("limits.tokensPerDay", {"tokensPerDay": -1}),
        ("limits.tokensPerMonth", {"tokensPerMonth": 10**12 + 1}),
        ("limits.concurrentRequests", {"concurrentRequests": "5"}),
        ("limits.requestsPerDay", {"requestsPerDay": True}),
        ("limits.requestsPerMonth", {"requestsPerMonth": 1.5}),
        ("limits.models", {"models": []}),
        ("limits.models", {"models": ["a*b"]}),
        ("limits.models", {"models": ["two words"]}),
        ("limits.models[0]", {"models": [""]}),
        ("limits.models", {"models": [f"m{number}" for number in range(101)]}),
        ("limits.models", {"models": "claude-plain"}),
        ("limits.providers", {"providers": ["clod"]}),
        ("limits.providers", {"providers": ["claude", "*"]}),
        ("limits", None),
    ],
)
async def test_a_limit_that_could_mean_nothing_or_something_else_is_refused_by_its_name(locked, field, limits):
    key = await made(locked)
    for reply in (
        await locked.post(KEYS, {**ANN, "limits": limits}, ADMIN),
        await change(locked, key["id"], {"limits": limits}),
    ):
        assert (reply.status, reply.json["error"].startswith(field)) == (400, True), reply
    assert await locked.events() == ["KeyIssued"]


async def test_a_change_touches_what_it_names_and_nothing_else(locked):
    ends = in_days(locked, 30)
    key = await made(
        locked, limits={"requestsPerMinute": 5, "models": ["claude-*", "auto"], "providers": ["claude"]}, expiresAt=ends
    )
    assert key["limits"] == {
        **NO_LIMITS,
        "requestsPerMinute": 5,
        "models": ["claude-*", "auto"],
        "providers": ["claude"],
    }
    assert key["expiresAt"] == ends
    steps = [
        ({"limits": {"tokensPerDay": 1000}}, {"tokensPerDay": 1000}, ends),
        ({"limits": {"requestsPerMinute": None}}, {"requestsPerMinute": None}, ends),
        ({"expiresAt": None, "limits": {"models": None}}, {"models": None}, None),
        ({"expiresAt": ends.replace("Z", "+00:00")}, {}, ends),
        ({"limits": {}}, {}, ends),
        ({}, {}, ends),
    ]
    expected = key["limits"]
    for body, changed, end in steps:
        expected = expected | changed
        reply = await change(locked, key["id"], body)
        assert (reply.status, reply.json["limits"], reply.json["expiresAt"]) == (200, expected, end), body
        assert await shown(locked, key["id"]) == reply.json
    assert await locked.events() == ["KeyIssued", *["KeyLimited"] * 4], "what changes nothing is no event"
    assert (await change(locked, key["id"], {"limits": expected})).json["limits"] == expected, (
        "what is shown can be sent"
    )
    assert await answers(locked, key["apiKey"]) == 200


@pytest.mark.parametrize(
    "moment",
    ["2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "tomorrow", "", 30,
     1_900_000_000_000, "2031-01-01", "2031-01-01T00:00:00", True],
)  # fmt: skip
async def test_an_end_is_a_time_to_come_with_its_zone(locked, moment):
    key = await made(locked)
    for reply in (
        await locked.post(KEYS, {**ANN, "expiresAt": moment}, ADMIN),
        await change(locked, key["id"], {"expiresAt": moment}),
    ):
        assert (reply.status, reply.json["error"].startswith("expiresAt")) == (400, True), reply
    assert (await shown(locked, key["id"]))["expiresAt"] is None


async def test_a_key_with_another_secret_is_the_same_key_and_the_old_secret_opens_nothing(locked):
    key = await made(locked, limits={"requestsPerDay": 50}, expiresAt=in_days(locked, 1))
    reply = await locked.get(f"{KEYS}/{key['id']}/rotate", ADMIN, "POST")
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    other = reply.json
    assert {**other, "apiKey": ""} == {**key, "apiKey": ""}
    assert other["apiKey"] != key["apiKey"]
    assert (await answers(locked, key["apiKey"]), await answers(locked, other["apiKey"])) == (401, 200)
    one = await shown(locked, key["id"])
    assert one["rotatedAt"] >= one["createdAt"]
    assert (await locked.get(f"{KEYS}/{key['apiKey']}", ADMIN, "DELETE")).json == {"success": False}
    assert (await locked.get(f"{KEYS}/{other['apiKey']}", ADMIN, "DELETE")).json == {"success": True}
    log = b"".join(event.data for event in await locked.system.journal._store.read(after=0, limit=1000))
    for secret in (key["apiKey"].split("_")[2], other["apiKey"].split("_")[2]):
        assert secret.encode() not in log


async def test_what_is_no_key_or_is_revoked_is_neither_changed_nor_rotated(locked):
    key = await made(locked)
    await locked.get(f"{KEYS}/{key['id']}", ADMIN, "DELETE")
    log = await locked.events()
    for id, status, code in (
        (key["id"], 409, "key_revoked"),
        ("nobody", 404, "key_not_found"),
        (key["apiKey"], 404, "key_not_found"),
    ):
        for reply in (
            await change(locked, id, {"expiresAt": None}),
            await locked.post(f"{KEYS}/{id}/rotate", {}, ADMIN),
        ):
            assert (reply.status, reply.json["code"]) == (status, code)
            assert key["apiKey"].split("_")[2] not in reply.body.decode()
    assert await locked.events() == log


async def test_the_list_says_what_is_used_of_the_limits_now(locked):
    key, other = await made(locked), await made(locked)
    for _ in range(2):
        assert await answers(locked, key["apiKey"]) == 200
    used = (await shown(locked, key["id"]))["used"]
    tokens = used["tokensPerDay"]
    assert tokens > 0
    assert used == {
        "requestsPerMinute": 2,
        "requestsPerDay": 2,
        "requestsPerMonth": 2,
        "tokensPerMinute": tokens,
        "tokensPerDay": tokens,
        "tokensPerMonth": tokens,
        "concurrentRequests": 0,
    }
    assert not any((await shown(locked, other["id"]))["used"].values())


def test_a_minute_slides_and_days_and_months_begin_anew():
    minute, day = 60_000, 86_400_000
    start = int(datetime(2026, 11, 30, 23, 58, tzinfo=UTC).timestamp() * 1000)
    window = Window(
        minute=start // minute,
        day=start // day,
        month=2026 * 12 + 10,
        requests_minute=10,
        requests_day=40,
        requests_month=70,
    )
    at = [(seconds, _used(window, 3, start + seconds * 1000)) for seconds in (0, 59, 60, 90, 119, 120)]
    assert [(seconds, used.requests_per_minute) for seconds, used in at] == [
        (0, 10),
        (59, 10),
        (60, 10),
        (90, 5),
        (119, 1),
        (120, 0),
    ]
    assert [(used.requests_per_day, used.requests_per_month) for _, used in at] == [(40, 70)] * 5 + [(0, 0)]
    assert {used.concurrent_requests for _, used in at} == {3}


def test_the_limits_of_the_api_are_those_of_the_events():
    """One more there without one here could never be set."""
    assert Limits.__struct_fields__ == KeyLimits.__struct_fields__


@pytest.mark.parametrize("step", ["change", "rotate"])
async def test_what_could_not_be_recorded_has_not_happened(locked, monkeypatch, step):
    key = await made(locked)
    before = await shown(locked, key["id"])

    async def full(*_, **__):
        raise StoreFull("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(locked.system.journal, "append", full)
        body = {"limits": {"requestsPerDay": 1}} if step == "change" else {}
        reply = await (
            change(locked, key["id"], body)
            if step == "change"
            else locked.post(f"{KEYS}/{key['id']}/rotate", body, ADMIN)
        )
    assert (reply.status, reply.json["code"]) == (507, "store_full")
    assert "sk-" not in reply.body.decode()
    assert await shown(locked, key["id"]) == before
    assert await answers(locked, key["apiKey"]) == 200


async def test_without_an_admin_key_every_admin_route_is_closed_with_a_sentence(tmp_path):
    async with gateway(settings_of(tmp_path)) as here:
        for reply in (
            await here.post(KEYS, ANN, ADMIN),
            await here.get(KEYS, ADMIN),
            await change(here, "x", {}),
            await here.post(f"{KEYS}/x/rotate", {}, ADMIN),
            await here.get(f"{KEYS}/x", ADMIN, "DELETE"),
        ):
            assert (reply.status, reply.json["code"]) == (403, "admin_key_not_set")
            assert "Set ADMIN_KEY" in reply.json["error"]


async def test_a_key_that_could_not_be_recorded_is_not_shown(locked, monkeypatch):
    async def full(*_, **__):
        raise StoreFull("The disk is full.")

    monkeypatch.setattr(locked.system.journal, "append", full)
    reply = await locked.post(KEYS, ANN, ADMIN)
    assert (reply.status, reply.json["code"]) == (507, "store_full")
    assert "sk-" not in reply.body.decode()
    assert (await locked.get(KEYS, ADMIN)).json == {"keys": []}
