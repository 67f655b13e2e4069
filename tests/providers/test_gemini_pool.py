"""How many workers the Gemini pool keeps: it starts small, grows with demand, shrinks in idleness, and never storms."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from llmux.failures import Kind, ProviderFailure
from llmux.providers.gemini import GeminiAdapter, pool, rest
from llmux.providers.gemini.rest import REST_S_MAX, REST_S_MIN, Rest
from llmux.providers.gemini.worker import Worker
from tests.providers.gemini_rig import LIMITS, Make, answered, failed, google_login, maker, notes, serving

BRISK = msgspec.structs.replace(LIMITS, worker_idle_ms_max=200)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)


async def until(adapter: GeminiAdapter, **expected: int) -> None:
    """Waits until the statistics are so."""
    with trio.fail_after(20):
        while not all(getattr(adapter.statistics(), name) == value for name, value in expected.items()):
            await trio.sleep(0.01)


async def failures(adapter: GeminiAdapter, count: int) -> None:
    """Waits until at least so many starts in a row have failed."""
    with trio.fail_after(20):
        while adapter._pool._rest._failures < count:
            await trio.sleep(0.001)


async def taken(adapter: GeminiAdapter, count: int) -> list[Worker]:
    workers: list[Worker] = []

    async def take() -> None:
        workers.append(await adapter._pool.take())

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(take)
    return workers


async def test_the_start_of_the_gateway_does_not_wait_for_workers(make: Make) -> None:
    adapter = make("mute", warm=2, concurrency=4)
    async with serving(adapter):
        await until(adapter, starting=2, idle=0)


async def test_it_starts_small_grows_with_demand_up_to_the_limit_and_shrinks_when_idle(make: Make) -> None:
    adapter = make(warm=1, concurrency=3, limits=BRISK)
    async with serving(adapter):
        await until(adapter, idle=1, starting=0)
        workers = await taken(adapter, 3)
        await until(adapter, busy=3, idle=0, started=3)
        with trio.move_on_after(0.1):
            await adapter._pool.take()
            raise AssertionError("beyond the limit")
        for worker in workers:
            adapter._pool.give_back(worker)
        await until(adapter, idle=1, busy=0, recycled=2, lost=0)
        assert (await answered(adapter)).text == "hi"
        await until(adapter, idle=1, started=3)


async def test_what_the_settings_ask_for_stays_however_idle(make: Make) -> None:
    adapter = make(warm=2, concurrency=2, limits=msgspec.structs.replace(LIMITS, worker_idle_ms_max=20))
    async with serving(adapter):
        await until(adapter, idle=2)
        await trio.sleep(0.2)
        assert adapter.statistics().recycled == 0


async def test_a_worker_that_has_grown_too_large_is_replaced_after_its_answer(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MEMORY_BYTES_MAX", 1)
    adapter = make(warm=1)
    async with serving(adapter):
        await until(adapter, idle=1)
        assert (await answered(adapter)).text == "hi"
        await until(adapter, recycled=1, started=2, idle=1, lost=0)


async def test_a_worker_that_has_served_its_share_is_replaced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "REQUESTS_MAX", 2)
    adapter = make(warm=1)
    async with serving(adapter):
        for _ in range(4):
            await answered(adapter)
        await until(adapter, recycled=2, lost=0)


async def test_room_for_one_is_made_by_one(make: Make) -> None:
    """Prompts that come while a worker leaves to make room do not drive further ones out."""
    adapter = make(warm=0, concurrency=3)
    async with serving(adapter):
        for worker in await taken(adapter, 3):
            adapter._pool.give_back(worker)
        wish = '{"generateContentConfig":{"seed":1},"model":"m"}'
        async with trio.open_nursery() as nursery:
            nursery.start_soon(adapter._pool.take, wish)
            await trio.lowlevel.checkpoint()
            for _ in range(5):
                adapter._pool._provide()
            await until(adapter, busy=1)
        assert (adapter.statistics().recycled, adapter.statistics().idle) == (1, 2)


async def test_a_login_that_comes_later_warms_the_pool(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LOOK_S_MAX", 0.02)
    adapter = make(env={}, warm=1)
    async with serving(adapter):
        await trio.sleep(0.1)
        assert adapter.statistics().started == 0
        google_login(tmp_path)
        await until(adapter, idle=1)


async def test_waiting_workers_leave_when_somebody_else_logs_in(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LOOK_S_MAX", 0.02)
    google_login(tmp_path)
    adapter = make(env={}, warm=1)
    async with serving(adapter):
        await until(adapter, idle=1)
        google_login(tmp_path, refresh_token="of somebody else")
        await until(adapter, recycled=1, started=2, idle=1)


@pytest.mark.parametrize("mode", ["exit 1", "dies when ready"])
async def test_a_program_that_always_dies_is_started_ever_less_often(
    make: Make, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "REST_S_MIN", 0.01)
    adapter = make(mode, warm=1)
    async with serving(adapter):
        await failures(adapter, 4)
        monkeypatch.setattr(rest, "REST_S_MIN", 1000.0)
        failed_before = adapter._pool._rest._failures
        await failures(adapter, failed_before + 1)
        await trio.sleep(0.2)
        assert (adapter.statistics().lost, adapter.statistics().starting) == (failed_before + 1, 0)


async def test_conversations_with_a_renamed_model_take_turns_when_no_place_is_free(make: Make) -> None:
    """Each needs a worker of its own: of such a model's parameters a worker can know only one."""
    adapter = make(warm=0, concurrency=2)
    wishes = [f'{{"generateContentConfig":{{"seed":{seed}}},"model":"gemini-3-pro-preview"}}' for seed in range(4)]
    async with serving(adapter):
        for worker in await taken(adapter, 2):
            adapter._pool.give_back(worker)

        async def converse(wish: str) -> None:
            worker = await adapter._pool.take(wish)
            assert wish in worker.aliases
            worker.served += 1
            adapter._pool.give_back(worker)

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for wish in wishes:
                    nursery.start_soon(converse, wish)
        assert adapter.statistics().started == 2 + len(wishes)
        assert adapter.statistics().lost == 0


@pytest.mark.parametrize("wrong", [{"env": {}}, {"command": "/nonexistent/gemini"}], ids=["no login", "no program"])
async def test_a_worker_that_was_never_started_is_not_lost(make: Make, wrong: dict[str, Any]) -> None:
    adapter = make(**wrong)
    async with serving(adapter):
        with pytest.raises(ProviderFailure):
            await adapter._pool.take()
        assert (adapter.statistics().lost, adapter.statistics().started) == (0, 0)


async def test_while_it_rests_prompts_are_told_at_once_why(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "REST_S_MIN", 1000.0)
    google_login(tmp_path)
    adapter = make("exit 1", env={})
    async with serving(adapter):
        first, second = await failed(adapter), await failed(adapter)
        assert adapter.statistics().lost == 2
        third = await failed(adapter)
        assert [(each.kind, each.evidence) for each in (first, second, third)] == [(Kind.CRASHED, "gemini.ended")] * 3
        assert adapter.statistics().lost == 2
        google_login(tmp_path, refresh_token="a new one")  # is worth another try
        await failed(adapter)
        assert adapter.statistics().lost == 3
    assert notes(tmp_path) == [] or {line["method"] for line in notes(tmp_path)} == {"initialize"}


def test_a_rest_doubles_up_to_its_limit_and_ends_when_something_works() -> None:
    failure = ProviderFailure(Kind.CRASHED, "gone", evidence="test")
    resting, lengths = Rest(), []
    for _ in range(12):
        resting.begin(0, failure, "login")
        lengths.append(resting.left_s(0))
    assert lengths[:4] == [REST_S_MIN, 2 * REST_S_MIN, 4 * REST_S_MIN, 8 * REST_S_MIN]
    assert lengths[-1] == REST_S_MAX
    assert str(resting.refusal(0, "login")) == "gone"
    assert resting.refusal(REST_S_MAX, "login") is None
    assert resting.refusal(0, "another") is None
    resting.begin(0, failure, "login")
    assert resting.refusal(0, "login") is None  # once is no rule
    resting.end()
    assert resting.left_s(0) == 0
