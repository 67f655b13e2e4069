"""A whole gateway whose log is in trouble: clients hear it in their own dialect, reading goes on, and it is over without a restart."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio

from llmux.actors import journal
from llmux.actors.facts import plain
from llmux.actors.replaying import replay
from llmux.eventstore import verify
from tests.eventstore.logs import foreign
from tests.http.served import Gateway, Reply, frames_of, gateway, settings_of

HANG_S = 30
BUSY_MS = 50
"""stands for the 5 s that an append waits for somebody else's lock: a lock is held longer than that"""
ADMIN_KEY = "an-admin-key-for-tests-0001"
ADMIN = {"x-admin-key": ADMIN_KEY}
ENDS = ("RequestCompleted", "RequestFailed", "RequestCancelled", "RequestAbandoned")

Trouble = Callable[[Gateway], AbstractAsyncContextManager[None]]


@pytest.fixture
async def door(tmp_path):
    async with gateway(settings_of(tmp_path, admin_key=ADMIN_KEY, limits={"busy_ms_max": BUSY_MS})) as here:
        yield here


@asynccontextmanager
async def locked(here: Gateway) -> AsyncGenerator[None, None]:
    """Another program holds the lock."""
    connection = foreign(here.system.settings.data_dir)
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("ROLLBACK")
    connection.close()


@asynccontextmanager
async def full(here: Gateway) -> AsyncGenerator[None, None]:
    """The file may not grow. (What a full disk says is in test_disk_trouble: to SQLite both are the same.)"""
    await pages_max(here, 1)
    while (await asked(here, n=999)).status == 200:
        pass  # until the pages that it has are full
    yield
    await pages_max(here, 1_000_000)


async def pages_max(here: Gateway, pages: int) -> None:
    store = here.system.journal._store

    async def work() -> None:
        await (await store._writer._connected()).execute_fetchall(f"PRAGMA max_page_count = {pages}")

    await store._thread.run(work)


TROUBLES = [pytest.param(locked, 503, "store_busy", id="locked"), pytest.param(full, 507, "store_full", id="full")]


async def asked(here: Gateway, model: str = "echo", n: int = 0, *, stream: bool = False) -> Reply:
    body = {"model": f"claude/{model}", "messages": [{"role": "user", "content": f"hi {n}"}], "stream": stream}
    return await here.post("/v1/chat/completions", body)


async def whole(here: Gateway) -> None:
    """Nothing is open or owed, every accepted request has one end, and the facts are what the log says."""
    store = here.system.journal._store
    with trio.fail_after(HANG_S):
        while here.system.facts.requests.open or here.system.journal.counts().owed:
            await trio.sleep(0.01)
    assert not here.system.facts.requests.attempts
    assert (await verify(store)).head == store.head
    assert plain(here.system.facts) == plain(await replay(store, snapshots=False))
    events = await store.read(limit=1000)
    accepted = Counter(event.correlation_id for event in events if event.type == "RequestAccepted")
    assert accepted == Counter(event.correlation_id for event in events if event.type in ENDS)
    assert set(accepted.values()) == {1}


@pytest.mark.parametrize(("trouble", "status", "code"), TROUBLES)
async def test_a_request_hears_of_it_in_its_dialect_and_later_ones_are_served(
    door: Gateway, trouble: Trouble, status: int, code: str
) -> None:
    assert (await asked(door, n=1)).status == 200
    with trio.fail_after(HANG_S):
        async with trouble(door):
            before = door.system.facts.position
            native = await door.post("/claude", {"prompt": "hi 2"})
            assert (native.status, native.json["code"]) == (status, code)
            assert isinstance(native.json["error"], str)
            openai = await asked(door, n=3)
            assert (openai.status, openai.json["error"]["code"]) == (status, code)
            stream = await asked(door, n=4, stream=True)
            assert (stream.status, stream.json["error"]["code"]) == (status, code)
            key = await door.post("/admin/api-keys", {"userId": "ann", "projectId": "poems"}, ADMIN)
            assert (key.status, key.json["code"]) == (status, code)
            for reply in (native, openai, stream, key):
                assert int(reply.headers["retry-after"]) >= 1
            for path in ("/health", "/api/tags", "/api/quota", "/admin/api-keys", "/admin/log/head", "/admin/events"):
                assert (await door.get(path, ADMIN)).status == 200, path
            assert door.system.facts.position == before
        for n in (2, 3, 4):
            assert (await asked(door, n=n)).status == 200
        assert (await door.post("/admin/api-keys", {"userId": "ann", "projectId": "poems"}, ADMIN)).status == 200
        await whole(door)
    assert len(door.system.facts.keys) == 1


@pytest.mark.parametrize(("trouble", "status", "code"), TROUBLES)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_an_end_that_cannot_be_recorded_is_no_end_for_the_client_and_is_recorded_when_it_can(
    door: Gateway, monkeypatch: pytest.MonkeyPatch, trouble: Trouble, status: int, code: str, stream: bool
) -> None:
    """The trouble begins while the answer is under way, and outlasts every try to record its end."""
    monkeypatch.setattr(journal, "END_WAIT_S", 0.01)
    replies: list[Reply] = []

    async def client() -> None:
        replies.append(await asked(door, "echo,delay=400", stream=stream))

    with trio.fail_after(HANG_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client)
            await door.until("AttemptStarted")
            async with trouble(door):
                while not replies:
                    await trio.sleep(0.01)
                assert len(door.system.facts.requests.open) >= 1
        if stream:
            assert replies[0].status == 200
            assert frames_of(replies[0].body)[-2]["error"]["code"] == code
        else:
            assert (replies[0].status, replies[0].json["error"]["code"]) == (status, code)
        await whole(door)
        assert (await asked(door, n=5)).status == 200
        await whole(door)
    assert not [event for event in await door.events() if event in ("RequestAbandoned", "RequestCancelled")]
