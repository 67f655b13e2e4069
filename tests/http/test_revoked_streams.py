"""What a client sees when its key is revoked while it is being answered: a failure in its own dialect, at once."""

import json

import pytest
import trio

from llmux.clock import SeededClock
from tests.http.served import Reply, frames_of, gateway, settings_of

ADMIN = {"x-admin-key": "an-admin-key-for-tests-0001"}
KEYS = "/admin/api-keys"
MODEL = "say=one+two+three+four,gap=1000"
CHAT = {"model": f"claude/{MODEL}", "messages": [{"role": "user", "content": "hi"}]}
BODIES = {
    "/claude": {"prompt": "hi", "options": {"model": MODEL}},
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"model": f"claude/{MODEL}", "input": "hi"},
    "/api/chat": CHAT,
}


@pytest.fixture
async def here(tmp_path):
    """A gateway that requires keys."""
    settings = settings_of(tmp_path, api_key_required=True, admin_key=ADMIN["x-admin-key"])
    async with gateway(settings, clock=SeededClock(3)) as open_gateway:
        yield open_gateway


async def cut_off(here, path: str, *, stream: bool, how: str = "DELETE") -> Reply:
    """What comes of a request to `path` whose key comes to its end after 1.5 s, when two pieces are there."""
    made = (await here.post(KEYS, {"userId": "ann", "projectId": "poems"}, ADMIN)).json
    replies = []

    async def ask() -> None:
        headers = {"authorization": f"Bearer {made['apiKey']}"}
        replies.append(await here.post(path, {**BODIES[path], "stream": stream}, headers))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(1.5)
        where = f"{KEYS}/{made['id']}"
        done = await (here.get(where, ADMIN, how) if how == "DELETE" else here.post(f"{where}/rotate", {}, ADMIN))
        assert done.status == 200
        answered_at = trio.current_time()
    assert trio.current_time() - answered_at < 0.1
    return replies[0]


async def test_an_open_stream_ends_with_a_typed_error_frame_in_each_dialect(here, virtual_time):
    reply = await cut_off(here, "/claude", stream=True)
    *pieces, error, done = reply.frames
    assert [each["content"] for each in pieces] == ["one ", "two "]
    assert error["error"] == "The API key of this request was revoked."
    assert (error["code"], error["done"], done) == ("key_revoked", True, "[DONE]")

    reply = await cut_off(here, "/v1/chat/completions", stream=True, how="rotate")
    *_, error, done = reply.frames
    assert (error["error"]["type"], error["error"]["code"], done) == ("authentication_error", "key_rotated", "[DONE]")

    reply = await cut_off(here, "/v1/responses", stream=True)
    events = [
        json.loads(line.removeprefix("data: "))
        for line in reply.body.decode().splitlines()
        if line.startswith("data: {")
    ]
    assert [each["type"] for each in events[-2:]] == ["error", "response.failed"]
    assert "was revoked" in json.dumps(events[-2])

    reply = await cut_off(here, "/api/chat", stream=True)
    *pieces, error = map(json.loads, reply.body.decode().splitlines())
    assert (len(pieces), error["error"]) == (2, "The API key of this request was revoked.")
    assert (await here.events()).count("RequestCancelled") == 4


@pytest.mark.parametrize("path", BODIES)
async def test_who_waits_for_a_whole_answer_gets_401_instead(here, virtual_time, path):
    reply = await cut_off(here, path, stream=False)
    assert (reply.status, reply.headers["x-should-retry"]) == (401, "false")
    error = reply.json["error"]
    assert (error["message"] if isinstance(error, dict) else error) == "The API key of this request was revoked."
    types = await here.events()
    assert types[-2:] == ["AttemptCancelled", "RequestCancelled"]


async def test_a_rotated_key_answers_on_under_its_new_secret(here, virtual_time):
    made = (await here.post(KEYS, {"userId": "ann", "projectId": "poems"}, ADMIN)).json
    other = (await here.post(f"{KEYS}/{made['id']}/rotate", {}, ADMIN)).json
    body = {**BODIES["/claude"], "stream": True}
    assert (await here.post("/claude", body, {"x-api-key": made["apiKey"]})).status == 401
    reply = await here.post("/claude", body, {"x-api-key": other["apiKey"]})
    assert "".join(each["content"] for each in frames_of(reply.body)[:-2]) == "one two three four"


async def test_an_expired_key_opens_nothing(here, virtual_time):
    ends = (await here.post(KEYS, {"userId": "ann", "projectId": "p", "expiresAt": "2026-09-22T00:00:00Z"}, ADMIN)).json
    headers = {"x-api-key": ends["apiKey"]}
    assert (await here.post("/claude", {"prompt": "hi"}, headers)).status == 200
    here.system.clock.shift(3 * 86_400_000)
    assert (await here.post("/claude", {"prompt": "hi"}, headers)).status == 401
    (key,) = (await here.get(KEYS, ADMIN)).json["keys"]
    assert (key["state"], key["revoked"], key["expiresAt"]) == ("expired", False, "2026-09-22T00:00:00.000Z")
    reply = await here.get(f"{KEYS}/{ends['apiKey']}", ADMIN, "DELETE")
    assert reply.json == {"success": True}
