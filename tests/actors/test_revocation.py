"""A key that comes to its end, and what that means for its open requests."""

from contextlib import asynccontextmanager, suppress

import pytest
import trio

from llmux.actors.key_registry import IssueKey, LimitKey, RevokeKey, RotateKey
from llmux.actors.opening import open_system
from llmux.clock import SeededClock
from llmux.events import AttemptSucceeded, KeyRevoked, NewEvent, RequestCancelled
from llmux.failures import KeyClosed, LLMuxError, StoreFailure
from tests.actors.house import facts_of, house_settings, log_of, scripted, types_of, wish

SLOW = "say=a+b+c+d,gap=1000"
HOUR_MS = 3_600_000


@asynccontextmanager
async def house(tmp_path, **changes):
    """A house with one provider that answers at leisure."""
    settings = house_settings(tmp_path, {"one": scripted(SLOW, concurrency=8)}, **changes)
    async with open_system(settings, SeededClock(4), environ={}) as system:
        yield system


async def key(system, user: str = "ann", **terms):
    """A new key: its principal."""
    issued = await system.key_registry.ask(IssueKey(user, "garden", **terms))
    return system.keys.principal_of(issued.secret_key)


async def ended(request) -> str:
    """The code of the failure with which the request ends for its client, who reads all there is."""
    with pytest.raises(LLMuxError) as caught:
        await request.answer()
    return caught.value.code


async def cancelled(system) -> list[str]:
    return [fact.by for fact in await facts_of(system, RequestCancelled)]


@pytest.mark.parametrize(
    ("command", "code"), [(RevokeKey, "key_revoked"), (RotateKey, "key_rotated")], ids=["revoked", "rotated"]
)
async def test_every_open_request_of_the_key_ends_at_once_and_nobody_elses(tmp_path, virtual_time, command, code):
    async with house(tmp_path) as system:
        ann, bob = await key(system), await key(system, "bob")
        mine = [system.request(wish(f"number {number}", principal=ann)) for number in range(3)]
        other = system.request(wish("other", principal=bob))
        for request in (*mine, other):
            await request.started()
        began = trio.current_time()
        await system.key_registry.ask(command(ann.id))
        assert [await ended(request) for request in mine] == [code] * 3
        assert trio.current_time() - began < 0.1
        assert (await other.answer()).text == "a b c d"
        assert await cancelled(system) == [code] * 3
        types = await types_of(system)
        assert (types.count("AttemptCancelled"), types.count("RequestCompleted")) == (3, 1)
        assert repr(system.revocation) == "<Revocation cut keys=0 requests=0>"


async def test_what_was_ready_is_not_handed_out_any_more(tmp_path, virtual_time):
    async with house(tmp_path) as system:
        request = system.request(wish(principal=await key(system)))
        await trio.sleep(1.5)
        assert len(await request.receive()) == 2
        await trio.sleep(0.6)  # the third is there
        await system.key_registry.ask(RevokeKey(request.wish.principal.id))
        assert len(request.answered) == 2, "what is kept of it is what its client took"
        with pytest.raises(KeyClosed):
            await request.receive()


@pytest.mark.parametrize("cut", [0, 1], ids=["who started", "who joined"])
async def test_a_shared_flight_goes_on_for_the_other_and_is_charged_once(tmp_path, virtual_time, cut):
    async with house(tmp_path) as system:
        keys = [await key(system), await key(system, "bob")]
        both = [system.request(wish(use_cache=True, principal=each)) for each in keys]
        for request in both:
            await request.started()
        await system.key_registry.ask(RevokeKey(keys[cut].id))
        assert await ended(both[cut]) == "key_revoked"
        assert (await both[1 - cut].answer()).text == "a b c d"
        assert [request.source for request in both] == ["flight", "joined"]
        assert await cancelled(system) == ["key_revoked"]
        (succeeded,) = [event for event in await log_of(system) if isinstance(event.fact, AttemptSucceeded)]
        assert succeeded.principal == keys[0].id, "what it cost is charged to the key that started it"


@pytest.mark.parametrize("steps", range(16))
async def test_cut_off_at_any_moment_each_request_has_one_terminal_fact_in_its_place(tmp_path, virtual_time, steps):
    """Alone, shared by two keys, and shared by two requests of one key; the revocation may be committed with their beginning."""
    async with house(tmp_path) as system:
        ann, bob = await key(system), await key(system, "bob")
        requests = [
            system.request(wish("alone", principal=ann)),
            *(system.request(wish("shared", use_cache=True, principal=each)) for each in (ann, bob)),
            *(system.request(wish("twice", use_cache=True, principal=ann)) for _ in range(2)),
        ]
        async with trio.open_nursery() as nursery:
            for _ in range(steps // 2):
                await trio.lowlevel.checkpoint()
            if steps % 2:
                nursery.start_soon(system.key_registry.ask, RevokeKey(ann.id))
            else:  # without the way through a mailbox: in one commit with the beginnings
                revoked = NewEvent(f"key-{ann.id}", KeyRevoked(key_id=ann.id), system.clock.new_id())
                nursery.start_soon(system.journal.append, revoked)
            await requests[2].answer()
        for request in (requests[0], requests[1], *requests[3:]):
            assert await ended(request) == "key_revoked"
            request.leave()
        events = await log_of(system)
        for request in requests:
            own = [event.type for event in events if event.stream == f"request-{request.id}"]
            assert own[0] == "RequestAccepted"
            assert own[-1] == ("RequestCompleted" if request is requests[2] else "RequestCancelled")
            assert sum(type.startswith(("RequestC", "RequestF")) for type in own) == 1, own
        assert not system.facts.requests.open
        assert system.dispatch.flights == 0
        assert repr(system.revocation).endswith("keys=0 requests=0>")


async def test_a_request_ends_when_its_key_expires(tmp_path, virtual_time):
    async with house(tmp_path) as system:
        ann = await key(system, expires_at=system.clock.now() + 1_500)
        request, began = system.request(wish(principal=ann)), trio.current_time()
        assert await ended(request) == "key_expired"
        assert 1.5 <= trio.current_time() - began < 1.6
        assert await cancelled(system) == ["key_expired"]
        with pytest.raises(KeyClosed):
            system.request(wish(principal=ann))


@pytest.mark.parametrize(
    ("ends_ms", "then_ms", "code"),
    [(HOUR_MS, 2_500, "key_expired"), (None, 2_500, "key_expired"), (2_500, HOUR_MS, ""), (2_500, None, "")],
)
async def test_an_end_that_is_moved_meanwhile_counts(tmp_path, virtual_time, ends_ms, then_ms, code):
    async with house(tmp_path) as system:
        now = system.clock.now()
        ann = await key(system, expires_at=None if ends_ms is None else now + ends_ms)
        request, began = system.request(wish(principal=ann)), trio.current_time()
        await trio.sleep(1)
        await system.key_registry.ask(LimitKey(ann.id, expires_at=None if then_ms is None else now + then_ms))
        if code:
            assert await ended(request) == code
            assert 2.4 <= trio.current_time() - began < 2.6
        else:
            assert (await request.answer()).text == "a b c d"


async def test_a_wall_clock_that_is_set_forward_is_noticed_within_a_minute(tmp_path, virtual_time):
    settings = house_settings(tmp_path, {"one": scripted("hang", first_byte_ms_max=10**6)}, request_timeout_ms=10**6)
    async with open_system(settings, SeededClock(4), environ={}) as system:
        request = system.request(wish(principal=await key(system, expires_at=system.clock.now() + 24 * HOUR_MS)))
        await trio.sleep(1)
        system.clock.shift(25 * HOUR_MS)
        began = trio.current_time()
        assert await ended(request) == "key_expired"
        assert trio.current_time() - began <= 60


@pytest.mark.parametrize("command", [RevokeKey, RotateKey])
async def test_with_finish_what_is_under_way_goes_on_to_its_own_end(tmp_path, virtual_time, command):
    async with house(tmp_path, key_revoke_streams="finish") as system:
        ann = await key(system, expires_at=system.clock.now() + 2_000)
        with system.request(wish(principal=ann)) as request:
            await request.started()
            await system.key_registry.ask(command(ann.id))
            assert (await request.answer()).text == "a b c d"
        assert await cancelled(system) == []


@pytest.mark.parametrize("way", ["cut", "finish"])
async def test_who_was_let_in_before_and_asks_after_is_refused_and_leaves_no_event(tmp_path, virtual_time, way):
    """The body of a request takes its time, and its key is revoked meanwhile."""
    async with house(tmp_path, key_revoke_streams=way) as system:
        ann = await key(system)
        await system.key_registry.ask(RevokeKey(ann.id))
        before = await types_of(system)
        with pytest.raises(KeyClosed) as caught:
            system.request(wish(principal=ann))
        assert (caught.value.status, str(caught.value)) == (401, "The API key of this request was revoked.")
        assert await types_of(system) == before


async def test_nobody_hears_of_an_end_that_is_not_on_disk(tmp_path, virtual_time, monkeypatch):
    async with house(tmp_path) as system:
        ann = await key(system)
        request = system.request(wish(principal=ann))
        await request.started()
        append = system.journal._store.append

        async def troubled(appends):
            if any(isinstance(event.fact, RequestCancelled) for each in appends for event in each.events):
                raise StoreFailure("The log cannot be written.")
            return await append(appends)

        with monkeypatch.context() as patch:
            patch.setattr(system.journal._store, "append", troubled)
            await system.key_registry.ask(RevokeKey(ann.id))
            assert await ended(request) == "store_unavailable"
        with trio.fail_after(60):
            while not await cancelled(system):
                await trio.sleep(1)
        assert await cancelled(system) == ["key_revoked"], "it is owed, and recorded later"


async def test_a_stop_in_the_midst_of_a_revocation_is_a_stop(tmp_path, virtual_time):
    async with house(tmp_path) as system:
        ann = await key(system)
        for number in range(5):
            system.request(wish(f"number {number}", principal=ann))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(system.key_registry.ask, RevokeKey(ann.id))
            with suppress(LLMuxError):
                system.dispatch.stop()
        await trio.sleep(1)
        assert len(await cancelled(system)) == 5
        assert set(await cancelled(system)) <= {"key_revoked", "gateway"}
