"""A running gateway witnesses its log, and keeps it within its byte budget."""

import json
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing

from llmux.actors import witness as witnessing
from llmux.actors.key_registry import IssueKey
from llmux.actors.opening import open_system
from llmux.clock import SeededClock
from llmux.config import Settings
from llmux.events import GatewayStarted
from llmux.eventstore import Store
from llmux.failures import ChainKeyWrong, StoreFull, TailMissing
from tests.actors.house import facts_of, house_settings, types_of, wish
from tests.eventstore.logs import tampered

KEY = "a key that is long enough for the chain, 0123456789"


async def answered(system, text: str = "hi") -> None:
    await system.request(wish(text)).answer()


def heads(lines: list) -> list[int]:
    return [line["position"] for line in lines if line["event"] == "head of the log"]


async def test_the_head_is_witnessed_at_the_start_each_minute_and_at_the_stop(
    tmp_path: Path, virtual_time: trio.testing.MockClock
) -> None:
    settings = house_settings(tmp_path)
    with structlog.testing.capture_logs() as lines:
        async with open_system(settings, SeededClock()) as system:
            assert json.loads(settings.witness.read_text())["position"] == 1
            await answered(system)
            assert json.loads(settings.witness.read_text())["position"] == 1  # it lags, and never runs ahead
            await trio.sleep(65)
            assert json.loads(settings.witness.read_text()) == {
                "position": 5,
                "hash": system.journal.store.head.hash.hex(),
                "at": system.clock.now() - 5_000,
            }
            await trio.sleep(300)  # nothing moves
            assert b"llmux_log_witnessed_position 5.0" in system.metrics.render()
        assert json.loads(settings.witness.read_text())["position"] == 7
    assert heads(lines) == [1, 5, 7]


async def test_many_events_do_not_wait_for_their_minute(
    tmp_path: Path, virtual_time: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnessing, "EVENTS_UNWITNESSED", 12)
    settings = house_settings(tmp_path)
    async with open_system(settings, SeededClock()) as system:
        for number in range(2):
            await answered(system, f"{number}")
        await trio.sleep(2)
        assert json.loads(settings.witness.read_text())["position"] == 1
        await answered(system, "2")
        await trio.sleep(2)
        assert json.loads(settings.witness.read_text())["position"] == 13


async def test_a_witness_that_cannot_be_written_stops_nobody(
    tmp_path: Path, virtual_time: trio.testing.MockClock
) -> None:
    settings = house_settings(tmp_path, witness_file=str(tmp_path / "missing" / "witness.json"))
    with structlog.testing.capture_logs() as lines:
        async with open_system(settings, SeededClock()) as system:
            await answered(system)
    told = [line for line in lines if line["event"] == "upkeep failed"]
    assert [line["job"] for line in told] == ["witness", "witness"]
    assert "cannot be witnessed" in told[0]["why"]


async def test_a_gateway_does_not_start_on_a_log_whose_end_is_missing(tmp_path: Path) -> None:
    settings = house_settings(tmp_path)
    async with open_system(settings, SeededClock()) as system:
        await answered(system)
    tampered(settings.data_dir, "DELETE FROM events WHERE position > 5", "UPDATE sqlite_sequence SET seq = 5")
    with pytest.raises(
        TailMissing, match=r"position 7: 2 events are missing\. Restore a backup .* llmux witness --accept"
    ):
        async with open_system(settings, SeededClock()):
            pass


async def test_every_start_says_which_key_the_log_goes_on_under(tmp_path: Path) -> None:
    settings = house_settings(tmp_path, chain_keys=(KEY,))
    async with open_system(settings, SeededClock()) as system:
        (started,) = await facts_of(system, GatewayStarted)
        assert started.chain.startswith("hmac:")
        assert KEY not in str(started)
    with pytest.raises(ChainKeyWrong, match="LLMUX_CHAIN_KEY is not set"):
        async with open_system(house_settings(tmp_path), SeededClock()):
            pass
    async with open_system(settings, SeededClock()) as system:
        await answered(system)


# --- the byte budget -------------------------------------------------------------------------------------------------


async def crowded(directory: Path) -> tuple[Settings, int]:
    """A gateway that has recorded something, and the room its log takes."""
    settings = house_settings(directory)
    async with open_system(settings, SeededClock()) as system:
        await answered(system)
        await system.budget.measure()
        return settings, system.budget.size().bytes


async def test_a_full_log_takes_no_new_work_and_everything_else_goes_on(
    tmp_path: Path, virtual_time: trio.testing.MockClock
) -> None:
    await crowded(tmp_path)
    settings = house_settings(tmp_path, log_bytes_max=1)
    with structlog.testing.capture_logs() as lines:
        async with open_system(settings, SeededClock()) as system:
            for text in ("hi", "ho"):
                with pytest.raises(StoreFull, match=r"no new requests are taken on.*llmux archive") as full:
                    system.request(wish(text))
                assert (full.value.status, full.value.code) == (507, "store_full")
            await system.key_registry.ask(IssueKey(user="u", project="p"))
            assert (await types_of(system))[-1] == "KeyIssued"
            health = system.health()
            assert (health.status, health.degraded_because, health.log.state) == ("unhealthy", ("log",), "full")
            assert b"llmux_log_bytes_max 1.0" in system.metrics.render()
            await trio.sleep(300)
    assert [line["event"] for line in lines if "the log is" in line["event"]] == ["the log is full"]


async def test_what_is_under_way_when_the_log_becomes_full_ends_in_the_log(
    tmp_path: Path, virtual_time: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = house_settings(tmp_path, log_bytes_max=10**9)
    async with open_system(settings, SeededClock()) as system:
        request = system.request(wish("before"))
        await _used(monkeypatch, system, 10**9)
        with pytest.raises(StoreFull):
            system.request(wish("after"))
        await request.answer()
        assert (await types_of(system))[-1] == "RequestCompleted"


async def test_the_log_is_nearly_full_at_four_fifths_and_that_is_said_once(
    tmp_path: Path, virtual_time: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = house_settings(tmp_path, log_bytes_max=1_000_000)
    told: list[tuple[str, str]] = []
    with structlog.testing.capture_logs() as lines:
        async with open_system(settings, SeededClock()) as system:
            for used in (700_000, 799_999, 800_000, 900_000, 999_999, 1_000_000, 2_000_000, 999_999, 10, 850_000):
                await _used(monkeypatch, system, used)
                told.append((system.budget.size().state, system.health().status))
            await answered(system)  # nearly full is not full
    fine, nearly, full = ("fine", "healthy"), ("nearly full", "degraded"), ("full", "unhealthy")
    assert told == [fine, fine, nearly, nearly, nearly, full, full, nearly, fine, nearly]
    said = [line["event"].removeprefix("the log is ") for line in lines if line["event"].startswith("the log is")]
    assert said == ["nearly full", "full", "nearly full", "fine", "nearly full"]


async def test_work_is_taken_on_again_as_soon_as_there_is_room(
    tmp_path: Path, virtual_time: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = house_settings(tmp_path, log_bytes_max=10**9)
    async with open_system(settings, SeededClock()) as system:
        await _used(monkeypatch, system, 10**9)
        with pytest.raises(StoreFull):
            system.request(wish())
        monkeypatch.setattr(Store, "used_bytes", _answer(5_000))
        await system.key_registry.ask(IssueKey(user="u", project="p"))  # any commit, such as the one of an archiving
        await trio.sleep(2)
        await answered(system)


async def test_what_is_recorded_counts_before_it_is_measured(
    tmp_path: Path, virtual_time: trio.testing.MockClock
) -> None:
    settings = house_settings(tmp_path)
    async with open_system(settings, SeededClock()) as system:
        before = system.budget.size().bytes
        await answered(system)
        events = [e for e in await _log(system) if e.position > 1]
        assert system.budget.size().bytes - before > sum(len(e.data) for e in events) + 1_000


async def test_no_budget_is_no_limit(
    tmp_path: Path, virtual_time: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_system(house_settings(tmp_path, log_bytes_max=0), SeededClock()) as system:
        await _used(monkeypatch, system, 10**15)
        await answered(system)
        assert system.health().log.state == "fine"


def _answer(value: int):
    async def answer(self: Store) -> int:
        return value

    return answer


async def _used(monkeypatch: pytest.MonkeyPatch, system, used: int) -> None:
    monkeypatch.setattr(Store, "used_bytes", _answer(used))
    await system.budget.measure()


async def _log(system):
    return await system.journal.store.read(limit=1000)
