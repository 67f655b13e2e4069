"""The log over HTTP: pages, the live feed, stories and states, for the admin and nobody else."""

import json
from contextlib import asynccontextmanager

import pytest
import trio

from llmux.actors.history import Wanted
from llmux.actors.quota_tracker import ResetQuota
from tests.http.served import Client, gateway, settings_of
from tests.http.test_control import owner

ADMIN = {"x-admin-key": "an-admin-key-for-tests-0001"}
FEED = {"accept": "text/event-stream"}
PLAIN = b'{"prompt":"hi","options":{"model":"say=hello+you"}}'


@pytest.fixture
async def door(tmp_path):
    async with gateway(settings_of(tmp_path, admin_key=ADMIN["x-admin-key"])) as here:
        yield here


@pytest.fixture
async def served(tmp_path):
    async with gateway(settings_of(tmp_path, shutdown_grace_ms=5000), serving=True) as here:
        yield here


async def note(here, times: int = 1) -> None:
    """Records QuotaReset events."""
    for _ in range(times):
        await here.system.tracker.ask(ResetQuota("gemini", "admin"))


# --- pages ----------------------------------------------------------------------------------------------------------


async def test_the_head_is_that_of_the_log_with_its_sizes(door):
    await note(door, 3)
    reply = await door.get("/admin/log/head", ADMIN)
    recorded = await door.system.journal.store.read(limit=1000)
    head = reply.json
    assert (head["position"], head["events"], head["archivedThrough"]) == (4, 4, 0)
    assert head["hash"] == recorded[-1].hash.hex()
    assert head["recordedAt"].endswith("Z")
    assert head["databaseBytes"] > 0
    assert head["walBytes"] > 0
    assert reply.headers["cache-control"] == "no-store"


async def test_a_page_holds_the_envelopes_with_their_data(door):
    reply = await door.post("/claude", json.loads(PLAIN))
    page = (await door.get("/admin/events?limit=3&after=1", ADMIN)).json
    assert (page["next"], page["head"], page["archivedThrough"]) == (4, 5, 0)
    accepted = page["events"][0]
    assert accepted["correlation_id"] == reply.headers["x-request-id"]
    assert accepted["data"]["endpoint"] == "/claude"
    assert set(accepted) == {
        "position", "stream", "version", "type", "schema", "event_id", "recorded_at", "principal", "correlation_id",
        "causation_id", "data", "hash",
    }  # fmt: skip
    rest = (await door.get("/admin/events?limit=3&after=4", ADMIN)).json
    assert [event["position"] for event in rest["events"]] == [5]
    assert rest["next"] is None


async def test_every_filter_works_and_the_newest_can_come_first(door):
    id = (await door.post("/claude", json.loads(PLAIN))).headers["x-request-id"]
    await note(door, 2)
    recorded = await door.system.journal.store.read(limit=1000)
    from_time, to_time = (recorded[at].recorded_at for at in (1, 4))

    async def found(query: str) -> list[int]:
        reply = await door.get(f"/admin/events?{query}", ADMIN)
        assert reply.status == 200, reply
        return [event["position"] for event in reply.json["events"]]

    assert await found("order=desc&limit=3") == [7, 6, 5]
    assert await found("type=QuotaReset&type=GatewayStarted") == [1, 6, 7]
    assert await found("stream=gateway&stream=quota-gemini&order=desc") == [7, 6, 1]
    assert await found("principal=admin") == [6, 7]
    assert await found(f"request={id}") == [2, 3, 4, 5]
    assert await found(f"request={id}&stream=flight-{id}") == [3, 4]
    assert await found("until=2") == [1, 2]
    assert set(await found(f"from={from_time}&to={to_time}")) >= {2, 3, 4, 5}
    assert await found("from=2100-01-01") == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("foo=1", "foo"),
        ("after=-1", "after"),
        ("after=x", "after"),
        ("after=%C2%B2", "after"),
        ("after=1&after=2", "after"),
        ("until=9999999999999999999", "until"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("order=up", "order"),
        ("from=yesterday", "from"),
        ("to=", "to"),
        ("type=NoSuchEvent", "type"),
        ("request=x", None),
        (f"stream={'x' * 201}", "stream"),
        ("&".join(["stream=x"] * 51), "stream"),
    ],
)
async def test_what_a_query_cannot_mean_is_a_400_that_names_it(door, query, param):
    reply = await door.get(f"/admin/events?{query}", ADMIN)
    assert (reply.status, reply.json.get("param")) == (400, param), reply
    assert reply.json["error"].endswith((".", "?"))


async def test_the_other_paths_refuse_what_they_do_not_know_too(door):
    for path in ("/admin/log/head?x=1", "/admin/state?x=1", "/admin/requests/x?x=1", "/admin/state?at=&actor=keys"):
        assert (await door.get(path, ADMIN)).status == 400, path
    assert (await door.get("/admin/events?until=3", {**ADMIN, **FEED})).json["param"] == "until"


async def test_a_request_tells_its_story_and_an_unknown_one_is_a_404(door):
    id = (await door.post("/claude", json.loads(PLAIN))).headers["x-request-id"]
    story = (await door.get(f"/admin/requests/{id}", ADMIN)).json
    assert (story["id"], story["state"], story["provider"]) == (id, "completed", "claude")
    assert story["usage"]["totalTokens"] == 3
    assert [event["type"] for event in story["events"]] == [
        "RequestAccepted", "AttemptStarted", "AttemptSucceeded", "RequestCompleted",
    ]  # fmt: skip
    assert all(sentence.endswith(".") for sentence in story["summary"])
    unknown = await door.get(f"/admin/requests/{id[:-4]}0000", ADMIN)
    assert (unknown.status, unknown.json["code"]) == (404, "request_not_found")
    assert (await door.get("/admin/requests/nonsense", ADMIN)).status == 400


async def test_the_state_now_and_then(door):
    await door.post("/claude", json.loads(PLAIN))
    now = (await door.get("/admin/state", ADMIN)).json
    assert (now["position"], now["state"]["requests"]["completed"]) == (5, 1)
    then = (await door.get("/admin/state?at=2&actor=requests", ADMIN)).json
    assert then["position"] == 2
    assert list(then["state"]) == ["requests"]
    assert len(then["state"]["requests"]["open"]) == 1
    unknown = await door.get("/admin/state?actor=nobody", ADMIN)
    assert (unknown.status, unknown.json["param"]) == (400, "actor")
    assert "requests" in unknown.json["error"]
    assert (await door.get("/admin/state?at=99", ADMIN)).status == 400
    door.system.history._folding.acquire_on_behalf_of_nowait("somebody")
    busy = await door.get("/admin/state?at=2", ADMIN)
    assert (busy.status, busy.headers["retry-after"]) == (503, "1")


# --- the live feed --------------------------------------------------------------------------------------------------


class Feed:
    """Server-sent events as they come over one connection."""

    def __init__(self, client: Client):
        self._client = client
        self._text = b""
        self.comments: list[str] = []
        self.last_id = ""

    async def next(self) -> dict[str, str]:
        """The fields of the next event that has data; comments and ids on the way are noted."""
        with trio.fail_after(20):
            while True:
                while b"\n\n" in self._text:
                    part, _, self._text = self._text.partition(b"\n\n")
                    lines = part.decode().split("\n")
                    self.comments += [line[2:] for line in lines if line.startswith(": ")]
                    fields = dict(line.split(": ", 1) for line in lines if line and not line.startswith(":"))
                    self.last_id = fields.get("id", self.last_id)
                    if "data" in fields:
                        return fields
                self._text += bytes((await self._client.event()).data)

    async def take(self, count: int) -> list[int]:
        return [int((await self.next())["id"]) for _ in range(count)]


@asynccontextmanager
async def following(here, path: str = "/admin/events", headers: dict[str, str] | None = None):
    """A live feed over the control socket."""
    async with owner(here) as client:
        await client.ask("GET", path, headers={**FEED, **(headers or {})})
        response = await client.head()
        assert (response.status_code, dict(response.headers)[b"content-type"]) == (200, b"text/event-stream")
        yield Feed(client)


async def test_a_feed_sends_what_there_is_and_what_comes_in_the_form_of_the_pages(served):
    await note(served, 2)
    async with following(served, "/admin/events?after=1") as feed:
        assert await feed.take(2) == [2, 3]
        await note(served)
        event = await feed.next()
        assert (event["id"], event["event"]) == ("4", "QuotaReset")
        page = await served.system.history.page(Wanted(), after=3, limit=1)
        assert json.loads(event["data"])["hash"] == page.events[0].hash.hex()


async def test_a_feed_that_was_cut_goes_on_where_it_was(served):
    await note(served, 5)
    seen: list[int] = []
    last = "1"
    for _ in range(4):
        async with following(served, "/admin/events?after=0", {"last-event-id": last}) as feed:
            seen += await feed.take(2)
            last = feed.last_id
        await note(served)
    assert seen == [2, 3, 4, 5, 6, 7, 8, 9]


async def test_filters_work_on_a_feed_too(served):
    async with following(served, "/admin/events?type=RequestCompleted") as feed, owner(served) as client:
        await note(served, 3)
        await client.ask("POST", "/claude", PLAIN)
        id = (await client.reply()).headers["x-request-id"]
        assert json.loads((await feed.next())["data"])["correlation_id"] == id
    async with following(served, f"/admin/events?request={id}") as feed:
        assert len(await feed.take(4)) == 4


@pytest.mark.parametrize("last", ["x", "-1", "99", "1\t2"])
async def test_a_feed_cannot_begin_where_the_log_has_not_been(served, last):
    async with owner(served) as client:
        await client.ask("GET", "/admin/events", headers={**FEED, "last-event-id": last})
        assert (await client.reply()).status == 400


async def test_in_silence_a_feed_says_how_far_it_is(tmp_path):
    settings = settings_of(tmp_path, limits={"keep_alive_ms": 50})
    async with gateway(settings, serving=True) as here, following(here, "/admin/events?type=RequestFailed") as feed:
        await note(here, 4)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed.next)  # which never comes
            with trio.fail_after(10):
                while feed.last_id != "5":
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert "keep-alive" in feed.comments


async def test_a_feed_ends_cleanly_when_the_gateway_stops(served):
    async with owner(served) as client:
        await client.ask("GET", "/admin/events", headers=FEED)
        await client.head()
        await served.until("QuotaReset", 0)
        served.stop.set()
        with trio.fail_after(3):
            await served.stopped.wait()
        rest = (await client.rest()).decode()
    assert rest.endswith(": the gateway stops\n\n\r\n0\r\n\r\n")


async def test_a_client_that_stops_reading_is_cut_and_holds_nobody_up(tmp_path):
    settings = settings_of(tmp_path, limits={"client_stall_ms_max": 500})
    async with gateway(settings, serving=True) as here, following(here) as other, trio.open_nursery() as nursery:
        seen: list[int] = []

        async def read() -> None:
            while True:
                seen.extend(await other.take(1))

        nursery.start_soon(read)
        await note(here)
        before = here.tasks()
        async with owner(here) as deaf:
            await deaf.ask("GET", "/admin/events", headers=FEED)
            await deaf.head()
            assert len(here.tasks()) > len(before)
            with trio.fail_after(60):
                while len(here.tasks()) > len(before):
                    await note(here, 20)
                while len(seen) < here.system.facts.position:
                    await trio.sleep(0.01)
        assert seen == list(range(1, len(seen) + 1))
        nursery.cancel_scope.cancel()


async def test_a_client_that_goes_away_leaves_nothing_behind(served):
    before = served.tasks()
    for _ in range(5):
        async with following(served) as feed:
            await feed.next()
    with trio.fail_after(10):
        while served.tasks() != before:
            await trio.sleep(0.01)


async def test_fifty_feeds_read_nothing_from_the_disk_for_what_is_recorded_now(served, monkeypatch):
    reads: list[int] = []
    read = served.system.journal.store.read

    async def counted(**wish):
        reads.append(wish["after"])
        return await read(**wish)

    monkeypatch.setattr(served.system.journal.store, "read", counted)

    async def follow(*, task_status) -> None:
        async with following(served, "/admin/events?after=1") as feed:
            task_status.started()
            assert await feed.take(20) == list(range(2, 22))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            await nursery.start(follow)
        await note(served, 20)
    assert reads == []
