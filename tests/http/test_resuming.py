"""Streams that outlive their connections: what comes back is what would have come, to whoever began it, for a bounded time."""

import json
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from llmux.actors.key_registry import IssueKey
from llmux.http.native import NativeFrames
from llmux.http.numbering import Numbering
from llmux.http.streams import KEEP_ALIVE
from tests.http.served import JSON, connected, gateway, settings_of

RESUMABLE = {"x-llmux-resumable": "true"}
HI = [{"role": "user", "content": "hi"}]
STARTS = {
    "/claude": lambda model: {"prompt": "hi", "stream": True, "options": {"model": model, "retries": 0}},
    "/v1/chat/completions": lambda model: {
        "model": f"claude/{model}",
        "messages": HI,
        "stream": True,
        "stream_options": {"include_usage": True},
    },
}
WAIT_S = 60


@asynccontextmanager
async def begun(here, model: str, path: str = "/claude", headers: dict | None = None, *, pieces: int = 1):
    """A client that has read `pieces` of a resumable stream; it is gone at the end of the block. Gives (id, bytes)."""
    async with here.app.test_client().request(
        path, method="POST", headers={**JSON, **RESUMABLE, **(headers or {})}
    ) as client:
        await client.send(json.dumps(STARTS[path](model)).encode())
        await client.send_complete()
        received = b""
        for _ in range(pieces):
            received += await client.receive()
        assert client.headers["x-llmux-resumable"] == "true"
        yield client.headers["x-request-id"], received
        await gone(client)


async def gone(client) -> None:
    """The client of an application's test goes away. (Quart's own waits for a last piece, which never comes.)"""
    await client.disconnect()
    await trio.testing.wait_all_tasks_blocked()
    client._client_send.close()


async def left(here, model: str, path: str = "/claude", *, pieces: int = 1) -> tuple[str, bytes]:
    """The id of a stream whose client went away, and what it had got."""
    async with begun(here, model, path, pieces=pieces) as (id, received):
        pass
    return id, received


def resume(here, id: str, seen: int | str | None = None, headers: dict | None = None):
    return here.get(f"/v1/streams/{id}", {**({} if seen is None else {"last-event-id": str(seen)}), **(headers or {})})


def last_id(received: bytes) -> int:
    return int(received.rpartition(b"id: ")[2].partition(b"\n")[0])


@pytest.mark.parametrize("path", STARTS)
async def test_a_lost_stream_goes_on_behind_the_last_event_with_the_same_bytes(door, virtual_time, path):
    id, received = await left(door, "say=one+two+three+four,gap=50", path, pieces=2)
    assert 0 < last_id(received) < 6
    rest = await resume(door, id, last_id(received))
    assert rest.status == 200
    assert rest.headers["content-type"].startswith("text/event-stream")
    assert rest.headers["x-request-id"] == id
    assert (rest.headers["x-llmux-provider"], rest.headers["x-llmux-resumable"]) == ("claude", "true")
    whole = await resume(door, id)
    assert received + rest.body.replace(KEEP_ALIVE, b"") == whole.body
    assert whole.body.endswith(b"data: [DONE]\n\n")
    events = whole.body.split(b"\n\n")[:-1]
    assert [event.partition(b"\n")[0] for event in events] == [b"id: %d" % (n + 1) for n in range(len(events))]
    for seen in range(len(events)):  # after the end too, from every event on
        assert (await resume(door, id, seen)).body == b"".join(event + b"\n\n" for event in events[seen:])
    assert (await door.events())[-1] == "RequestCompleted"


async def test_who_has_seen_the_last_event_is_told_to_stop(door):
    """204 is what keeps an EventSource from coming back."""
    id, _ = await left(door, "say=hi", pieces=2)
    total = last_id((await resume(door, id)).body)
    reply = await resume(door, id, total)
    assert (reply.status, reply.body) == (204, b"")


@pytest.mark.parametrize("seen", ["-1", "x", "1.5", "9" * 19, "1000", "²"])
async def test_an_id_that_the_stream_never_had_is_400(door, seen):
    id, _ = await left(door, "say=hi", pieces=2)
    reply = await resume(door, id, seen.encode().decode("latin-1"))
    assert (reply.status, reply.json["error"]["code"]) == (400, "invalid_last_event_id")


async def test_a_failure_is_told_again_as_it_was(door, virtual_time):
    id, received = await left(door, "say=one+two,fail=rate_limited,after=1", pieces=2)
    assert b'"code":"rate_limit_exceeded"' in received
    await trio.sleep(20)
    assert (await resume(door, id)).body == received
    assert (await resume(door, id, 1)).body == received.partition(b"id: 2")[1] + received.partition(b"id: 2")[2]


async def test_silence_is_filled_for_a_reader_that_comes_back_and_comments_have_no_number(door, virtual_time):
    id, received = await left(door, "say=one+two,gap=40000")
    reply = await resume(door, id, last_id(received))
    assert reply.body.startswith(KEEP_ALIVE), "the head goes out at once"
    assert reply.body.count(KEEP_ALIVE) >= 2
    assert reply.body.replace(KEEP_ALIVE, b"").startswith(b"id: 2\n")


async def test_several_read_one_stream_each_at_its_own_place(door, virtual_time):
    replies = []

    async def read(id: str, seen: int) -> None:
        replies.append((seen, await resume(door, id, seen)))

    async with begun(door, "say=one+two+three,gap=50") as (id, _), trio.open_nursery() as nursery:
        for seen in (0, 1, 1, 0):
            nursery.start_soon(read, id, seen)
    whole = next(reply.body for seen, reply in replies if seen == 0)
    for seen, reply in replies:
        told = reply.body.replace(KEEP_ALIVE, b"")
        assert told == (whole if seen == 0 else whole[whole.index(b"id: 2") :])
    assert (await door.events()).count("RequestAccepted") == 1


async def test_an_answer_that_nobody_comes_back_for_in_time_is_cancelled(tmp_path, virtual_time):
    async with gateway(settings_of(tmp_path, limits={"resumable_wait_ms_max": 10_000})) as here:
        id, _ = await left(here, "say=one+two,hang,after=1")
        await trio.sleep(9)
        assert "RequestCancelled" not in await here.events()
        await trio.sleep(2)
        assert (await here.until("RequestCancelled"))[-2:] == ["AttemptCancelled", "RequestCancelled"]
        assert (await resume(here, id)).status == 404
        assert here.system.resumables.statistics().held == 0
        assert here.system.active_requests == 0


async def test_an_answer_that_has_ended_is_let_go_too(door, virtual_time):
    id, _ = await left(door, "say=hi", pieces=2)
    await trio.sleep(WAIT_S - 1)
    assert (await resume(door, id)).status == 200, "and this reader starts the time again"
    await trio.sleep(WAIT_S - 1)
    assert (await resume(door, id)).status == 200
    await trio.sleep(WAIT_S + 1)
    assert (await resume(door, id)).status == 404
    assert repr(door.system.resumables) == "<Resumables held=0 unread=0>"


async def test_a_reader_that_leaves_again_starts_the_time_again(tmp_path, virtual_time):
    async with gateway(settings_of(tmp_path, limits={"resumable_wait_ms_max": 10_000})) as here:
        id, _ = await left(here, "say=one+two,hang,after=1")
        for _ in range(3):
            await trio.sleep(9)
            async with here.app.test_client().request(f"/v1/streams/{id}") as client:
                await client.send_complete()
                assert (await client.receive()).startswith(b"id: 1\n")
                await gone(client)
        assert "RequestCancelled" not in await here.events()
        await trio.sleep(11)
        await here.until("RequestCancelled")


async def test_only_who_began_a_stream_may_continue_it_and_nobody_else_learns_of_it(tmp_path):
    async with gateway(settings_of(tmp_path, api_key_required=True, admin_key="an-admin-key")) as here:
        mine, other = [await here.system.key_registry.ask(IssueKey(user=user, project="p")) for user in "ab"]
        owner, stranger = {"x-api-key": mine.secret_key}, {"x-api-key": other.secret_key}
        async with begun(here, "say=hi", headers=owner, pieces=2) as (id, _):
            pass
        assert (await resume(here, id, headers=owner)).status == 200
        refused, unknown = await resume(here, id, headers=stranger), await resume(here, "no-such", headers=stranger)
        assert refused.status == unknown.status == 404
        assert refused.json == unknown.json
        assert (await resume(here, id)).status == 401


async def test_without_the_header_a_lost_connection_cancels_and_nothing_is_held(door):
    async with door.app.test_client().request("/claude", method="POST", headers=JSON) as client:
        await client.send(b'{"prompt":"hi","stream":true,"options":{"model":"say=one+two,hang,after=1"}}')
        await client.send_complete()
        assert not (await client.receive()).startswith(b"id:")
        id = client.headers["x-request-id"]
        assert "x-llmux-resumable" not in client.headers
        await gone(client)
    await door.until("RequestCancelled")
    assert (await resume(door, id)).status == 404


async def test_a_client_that_goes_before_it_has_the_id_cancels(door):
    async with door.app.test_client().request("/claude", method="POST", headers={**JSON, **RESUMABLE}) as client:
        await client.send(b'{"prompt":"hi","stream":true,"options":{"model":"hang"}}')
        await client.send_complete()
        await door.until("AttemptStarted")
        await gone(client)
    await door.until("RequestCancelled")
    assert door.system.resumables.statistics().held == 0


async def test_over_a_real_connection_a_lost_stream_goes_on(served):
    async with connected(served) as client:
        await client.ask(
            "POST", "/claude", b'{"prompt":"hi","stream":true,"options":{"model":"say=a+b+c,gap=50"}}', RESUMABLE
        )
        id = dict((await client.head()).headers)[b"x-request-id"].decode()
        received = bytes((await client.event()).data)
    async with connected(served) as client:
        await client.ask("GET", f"/v1/streams/{id}", headers={"last-event-id": str(last_id(received))})
        rest = (await client.reply()).body
    async with connected(served) as client:
        await client.ask("GET", f"/v1/streams/{id}")
        assert (await client.reply()).body == received + rest.replace(KEEP_ALIVE, b"")


async def test_too_many_held_streams_push_out_ended_ones_first_then_the_oldest(tmp_path, virtual_time):
    async with gateway(settings_of(tmp_path, limits={"resumable_streams_max": 3})) as here:
        first, _ = await left(here, "say=one+two,hang,after=1")
        ended, _ = await left(here, "say=hi", pieces=2)
        await left(here, "say=one+two,hang,after=1")
        await left(here, "say=hi", pieces=2)
        assert (await resume(here, ended)).status == 404
        assert "RequestCancelled" not in await here.events()
        async with begun(here, "say=a+b,hang,after=1"), begun(here, "say=a+b,hang,after=1"):
            await here.until("RequestCancelled")
            assert (await resume(here, first)).status == 404
            async with begun(here, "say=a+b,hang,after=1"):
                reply = await here.post("/claude", STARTS["/claude"]("say=hi"), RESUMABLE)
                assert (reply.status, reply.json["code"]) == (503, "gateway_overloaded")
                assert (await here.post("/claude", STARTS["/claude"]("say=hi"))).status == 200
        assert here.system.resumables.statistics().held == 3


async def test_what_nobody_reads_weighs_no_more_than_is_allowed(tmp_path, virtual_time):
    async with gateway(settings_of(tmp_path, limits={"resumable_bytes_max": 1000})) as here:
        await left(here, f"say={'x' * 50},chunks=5,hang,after=5")
        assert 0 < here.system.resumables.statistics().unread_bytes <= 1000
        growing, _ = await left(here, f"say={'x' * 50},chunks=50,gap=10")
        await here.until("RequestCancelled", 2)
        statistics = here.system.resumables.statistics()
        assert (statistics.held, statistics.unread_bytes) == (0, 0)
        assert (await resume(here, growing)).status == 404


async def test_at_the_stop_what_nobody_reads_ends_with_the_gateway(tmp_path):
    async with gateway(settings_of(tmp_path)) as here:
        id, _ = await left(here, "say=one+two,hang,after=1")
    async with gateway(settings_of(tmp_path)) as again:
        story = await again.system.history.story(id)
        assert (story.state, story.cancelled_by) == ("cancelled", "gateway")


async def test_an_answer_in_one_piece_names_the_wish_as_ignored_or_refuses_it(door):
    reply = await door.post("/claude", {"prompt": "hi"}, RESUMABLE)
    assert reply.headers["x-llmux-ignored"] == "x-llmux-resumable"
    reply = await door.post("/claude", {"prompt": "hi"}, {**RESUMABLE, "x-llmux-strict": "true"})
    assert (reply.status, reply.json["param"]) == (400, "x-llmux-resumable")
    reply = await door.post("/claude", {"prompt": "hi"}, {"x-llmux-resumable": "yes"})
    assert (reply.status, reply.json["param"]) == (400, "x-llmux-resumable")


async def test_a_long_answer_is_continued_at_any_place(door):
    id, received = await left(door, "say=x,chunks=3000", pieces=2)
    whole = (await resume(door, id)).body
    assert whole.startswith(received)
    assert last_id(whole) == 3002
    for seen in (0, 255, 256, 257, 2999, 3001):
        assert (await resume(door, id, seen)).body == whole[whole.index(b"id: %d\n" % (seen + 1)) :]
    assert (await resume(door, id, 3002)).status == 204
    assert (await resume(door, id, 3003)).status == 400


@pytest.mark.parametrize("strict", [False, True])
async def test_a_stream_that_is_no_event_stream_ends_with_its_connection_and_says_so(door, monkeypatch, strict):
    monkeypatch.setattr(NativeFrames, "media_type", "application/x-ndjson")
    headers = {**JSON, **RESUMABLE, "x-llmux-strict": str(strict).lower()}
    async with door.app.test_client().request("/claude", method="POST", headers=headers) as client:
        await client.send(json.dumps(STARTS["/claude"]("say=one+two,hang,after=1")).encode())
        await client.send_complete()
        first = await client.receive()
        if strict:
            assert (client.status_code, json.loads(first)["param"]) == (400, "x-llmux-resumable")
        else:
            assert not first.startswith(b"id:")
            assert client.headers["x-llmux-ignored"] == "x-llmux-resumable"
            assert "x-llmux-resumable" not in client.headers
            await gone(client)
    await door.until("RequestCancelled")
    assert (await resume(door, client.headers["x-request-id"])).status == 404


def test_numbers_count_events_however_they_are_grouped():
    whole = Numbering()(b"data: 1\n\nevent: x\ndata: 2\n\ndata: 3\n\n")
    assert whole == b"id: 1\ndata: 1\n\nid: 2\nevent: x\ndata: 2\n\nid: 3\ndata: 3\n\n"
    one_by_one, behind = Numbering(), Numbering(2)
    assert b"".join(map(one_by_one, (b"data: 1\n\n", b"", b"event: x\ndata: 2\n\n", b"data: 3\n\n"))) == whole
    assert behind(b"data: 1\n\n") + behind(b"event: x\ndata: 2\n\ndata: 3\n\n") == b"id: 3\ndata: 3\n\n"
