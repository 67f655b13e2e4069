"""The provider actor: logins that expire and come back, slots, and adapters with bugs."""

import msgspec
import pytest
import trio

from llmux.actors import system as house
from llmux.actors.opening import open_system
from llmux.actors.provider import Recheck
from llmux.clock import SeededClock
from llmux.config import Limits
from llmux.events import LoginExpired, LoginRestored, ProviderIneligible
from llmux.failures import Kind, LLMuxError, NoRoute, ProviderFailure
from llmux.prompts import Finish, TextDelta, Usage
from llmux.providers.adapter import QuotaWindow, Readiness, WorkerStatistics
from tests.actors.house import facts_of, house_settings, scripted, types_of, wish


class Adapter:
    """Does what the test says."""

    def __init__(self):
        self.readiness = Readiness(True, True, login_stamp="first")
        self.failure: Exception | None = None
        self.windows: list[QuotaWindow] = []
        self.finish = True
        self.most = self.now = 0

    async def serve(self, *, task_status=trio.TASK_STATUS_IGNORED):
        task_status.started()
        await trio.sleep_forever()

    async def probe(self):
        return self.readiness

    async def answer(self, call, emit, report):
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for window in self.windows:
                report(window)
            await trio.sleep(1)
            if self.failure is not None:
                raise self.failure
            await emit(TextDelta("hello"))
            if self.finish:
                await emit(Finish("stop", Usage(1, 1)))
        finally:
            self.now -= 1

    def accepts(self, model):
        return False

    def statistics(self):
        return WorkerStatistics()


@pytest.fixture
def adapter(monkeypatch) -> Adapter:
    adapter = Adapter()
    monkeypatch.setattr(house, "adapter_for", lambda place: adapter)
    return adapter


def open_house(tmp_path, seed=0, **changes):
    return open_system(house_settings(tmp_path, {"one": scripted(**changes)}), SeededClock(seed), environ={})


async def answer(system):
    with system.request(wish()) as request:
        return await request.answer()


async def test_a_refused_login_leaves_the_provider_out_until_somebody_logs_in_again(tmp_path, virtual_time, adapter):
    async with open_house(tmp_path) as system:
        adapter.failure = ProviderFailure(Kind.LOGGED_OUT, "Log in.", evidence="test")
        with pytest.raises(ProviderFailure):
            await answer(system)
        with pytest.raises(NoRoute) as refused:
            await answer(system)
        assert refused.value.excluded[0].reason == "logged_out"
        assert refused.value.excluded[0].sentence == "Log in."
        await trio.sleep(121)
        assert not await facts_of(system, LoginRestored), "the same login is not tried again and again"
        adapter.failure = None
        adapter.readiness = Readiness(True, True, login_stamp="second")
        await trio.sleep(61)  # the next regular look
        assert (await answer(system)).text == "hello"
        assert len(await facts_of(system, LoginExpired)) == 1
        assert len(await facts_of(system, LoginRestored)) == 1


@pytest.mark.parametrize(
    ("told", "rest_ms"),
    [({}, 600_000), ({"in_ms": 100 * 86_400_000}, 7 * 86_400_000), ({"in_ms": -86_400_000}, 1_000)],
)
async def test_who_meets_a_spent_quota_is_told_to_wait_as_long_as_the_route_rests(
    tmp_path, virtual_time, adapter, told, rest_ms
):
    """Not for 100 days because a vendor says so, and not without a time because it says none."""
    async with open_house(tmp_path) as system:
        resets_at = system.clock.now() + told["in_ms"] if told else None
        adapter.failure = ProviderFailure(Kind.QUOTA_EXHAUSTED, "Spent.", evidence="test", resets_at=resets_at)
        for _ in range(2):  # by the one that tried it, and by the one that leaves it alone
            with pytest.raises(LLMuxError) as refused:
                await answer(system)
            assert refused.value.retry_after_ms == pytest.approx(rest_ms, abs=1_100)


async def test_why_an_account_was_turned_away_is_said_whatever_else_is_to_be_said_of_its_program(
    tmp_path, virtual_time, adapter
):
    adapter.readiness = Readiness(True, True, sentence="This program is old.", login_stamp="first")
    adapter.failure = ProviderFailure(Kind.INELIGIBLE, "Verify the account.", evidence="test")
    async with open_house(tmp_path) as system:
        with pytest.raises(ProviderFailure):
            await answer(system)
        with pytest.raises(NoRoute) as refused:
            await answer(system)
        assert refused.value.excluded[0].sentence == "Verify the account."
        assert system.health().providers["one"].sentence == "Verify the account."


async def test_what_is_wrong_with_a_provider_that_can_be_used_all_the_same_is_told(tmp_path, virtual_time, adapter):
    """A login that cannot be renewed where it is mounted should be heard of before it ends."""
    adapter.readiness = Readiness(True, True, sentence="Its login is read-only.")
    async with open_house(tmp_path) as system:
        health = system.health().providers["one"]
        assert (health.available, health.sentence) == (True, "Its login is read-only.")


async def test_a_refused_login_is_tried_again_after_ten_minutes_and_an_ineligible_account_is_not(
    tmp_path, virtual_time, adapter
):
    """Without a network, a good login can look refused; nobody should have to restart the gateway for it."""
    for kind, restored in ((Kind.LOGGED_OUT, ["another_try"]), (Kind.INELIGIBLE, [])):
        async with open_house(tmp_path / kind) as system:
            adapter.failure = ProviderFailure(kind, "No.", evidence="test")
            with pytest.raises(ProviderFailure):
                await answer(system)
            await trio.sleep(540)
            assert not await facts_of(system, LoginRestored)
            await trio.sleep(120)
            assert [fact.because for fact in await facts_of(system, LoginRestored)] == restored


async def test_a_refusal_survives_a_restart_until_the_login_is_another_one(tmp_path, virtual_time, adapter):
    adapter.failure = ProviderFailure(Kind.INELIGIBLE, "Not for you.", evidence="test")
    async with open_house(tmp_path) as system:
        with pytest.raises(ProviderFailure):
            await answer(system)
        assert await facts_of(system, ProviderIneligible)
    adapter.failure = None
    async with open_house(tmp_path, seed=1) as system:
        with pytest.raises(NoRoute) as refused:
            await answer(system)
        assert refused.value.excluded[0].sentence.endswith("log in with another one: llmux login one")
        assert not await facts_of(system, LoginRestored)
    adapter.readiness = Readiness(True, True, login_stamp="second")
    async with open_house(tmp_path, seed=2) as system:
        assert (await answer(system)).text == "hello"
        assert [fact.because for fact in await facts_of(system, LoginRestored)] == ["new_login"]


@pytest.mark.parametrize("when", ["at the start", "later"])
async def test_a_probe_that_raises_leaves_the_provider_out_and_harms_nobody(tmp_path, virtual_time, adapter, when):
    async def broken():
        raise PermissionError("no")

    good = adapter.probe
    if when == "at the start":
        adapter.probe = broken
    async with open_house(tmp_path) as system:
        if when == "at the start":
            assert "PermissionError" in system.health().providers["one"].sentence
        else:
            request = system.request(wish())
            await trio.sleep(0.5)
            adapter.probe = broken
            await system.providers["one"].ask(Recheck())
            await trio.sleep(0.1)
            assert not system.health().providers["one"].available
            assert (await request.answer()).text == "hello"
        adapter.probe = good
        await trio.sleep(61)
        assert (await answer(system)).text == "hello"


async def test_an_adapter_that_cannot_serve_is_given_up_and_the_gateway_starts_all_the_same(
    tmp_path, virtual_time, adapter, monkeypatch
):
    async def broken(*, task_status):
        raise PermissionError("no")

    monkeypatch.setattr(adapter, "serve", broken)
    with trio.fail_after(60):
        async with open_house(tmp_path) as system:
            await trio.sleep(5)
            health = system.health()
            assert health.degraded_because == ("one",)
            assert not health.providers["one"].available


async def test_somebody_can_say_that_a_refused_account_is_worth_another_try(tmp_path, virtual_time, adapter):
    async with open_house(tmp_path) as system:
        adapter.failure = ProviderFailure(Kind.INELIGIBLE, "No.", evidence="test")
        with pytest.raises(ProviderFailure):
            await answer(system)
        adapter.failure = None
        await system.providers["one"].ask(Recheck())
        await trio.sleep(0.1)
        assert (await answer(system)).text == "hello"
        assert [fact.because for fact in await facts_of(system, LoginRestored)] == ["by_hand"]


async def test_a_slow_probe_holds_no_prompt_up(tmp_path, virtual_time, adapter):
    async with open_house(tmp_path) as system:
        probes = 0

        async def slow():
            nonlocal probes
            probes += 1
            await trio.sleep(5)
            return adapter.readiness

        adapter.probe = slow
        began = trio.current_time()
        for _ in range(50):
            await system.providers["one"].ask(Recheck())
        assert (await answer(system)).text == "hello"
        assert trio.current_time() - began < 2
        await trio.sleep(30)
        assert probes == 2


async def test_a_lost_worker_is_recorded_once(tmp_path, virtual_time, adapter, monkeypatch):
    async with open_house(tmp_path) as system:
        monkeypatch.setattr(adapter, "statistics", lambda: WorkerStatistics(lost=2))
        await answer(system)
        await answer(system)
        await trio.sleep(1)
        assert (await types_of(system)).count("WorkerLost") == 2
        assert system.facts.providers["one/default"].workers_lost == 2


async def test_v3_28_no_more_attempts_at_once_than_configured(tmp_path, virtual_time, adapter):
    async with open_house(tmp_path, concurrency=3) as system:
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(answer, system)
            await trio.sleep(0.5)
            slots = system.providers["one"].slots()["default"]
            assert (slots.running, slots.queued, slots.concurrency) == (3, 9, 3)
        assert adapter.most == 3
        assert system.providers["one"].slots()["default"].running == 0


async def test_a_bug_in_an_adapter_is_a_failed_attempt_and_not_a_crash(tmp_path, virtual_time, adapter):
    async with open_house(tmp_path) as system:
        adapter.failure = KeyError("oops")
        with pytest.raises(ProviderFailure) as caught:
            await answer(system)
        assert caught.value.kind is Kind.CRASHED
        assert "oops" not in str(caught.value)
        assert "ActorCrashed" not in await types_of(system)


async def test_an_answer_without_an_end_is_no_answer(tmp_path, virtual_time, adapter):
    async with open_house(tmp_path) as system:
        adapter.finish = False
        with pytest.raises(ProviderFailure) as caught:
            await answer(system)
        assert caught.value.kind is Kind.GARBLED


async def test_an_answer_ends_with_its_finish_and_the_tidying_up_holds_the_slot_alone(
    tmp_path, virtual_time, adapter, monkeypatch
):
    async def tidy(call, emit, report):
        await emit(TextDelta("hello"))
        await emit(Finish("stop", Usage(1, 1)))
        await trio.sleep(5)

    monkeypatch.setattr(adapter, "answer", tidy)
    async with open_house(tmp_path) as system:
        began = trio.current_time()
        assert (await answer(system)).text == "hello"
        assert trio.current_time() - began < 1
        assert system.providers["one"].slots()["default"].running == 1
        await trio.sleep(6)
        assert system.providers["one"].slots()["default"].running == 0


async def test_quota_windows_are_recorded_once_while_they_do_not_change(tmp_path, virtual_time, adapter):
    async with open_house(tmp_path) as system:
        adapter.windows = [QuotaWindow("five_hour", "allowed", used_percent=12, resets_at=5)]
        for _ in range(3):
            await answer(system)
        adapter.windows = [msgspec.structs.replace(adapter.windows[0], used_percent=13)]
        await answer(system)
        assert (await types_of(system)).count("QuotaReported") == 2
        assert system.facts.quotas["one/default/*"].windows["five_hour"].used_percent == 13


async def test_a_probe_reports_what_it_learned_of_the_quota(tmp_path, virtual_time, adapter):
    window = QuotaWindow("seven_day", "allowed", used_percent=42, resets_at=5)
    adapter.readiness = Readiness(True, True, windows=(window,))
    async with open_house(tmp_path) as system:
        await trio.sleep(1)
        assert system.facts.quotas["one/default/*"].windows["seven_day"].used_percent == 42


async def test_a_probe_that_hangs_does_not_hold_the_start_up(tmp_path, virtual_time, adapter):
    adapter.probe = trio.sleep_forever
    async with open_house(tmp_path) as system:
        assert not system.health().providers["one"].available
        assert system.health().providers["one"].sentence


async def test_a_late_probe_changes_nothing_but_the_second_in_a_row_is_believed(tmp_path, virtual_time, adapter):
    good = adapter.probe
    async with open_house(tmp_path) as system:
        provider = system.providers["one"]
        adapter.probe = trio.sleep_forever
        for logged_in in (True, False, False):
            await provider.ask(Recheck())
            await trio.sleep(Limits().probe_ms_max / 1000 + 1)
            readiness = provider.readiness("default")
            assert (readiness.installed, readiness.logged_in, readiness.login_stamp) == (True, logged_in, "first")
        adapter.probe = good
        await provider.ask(Recheck())
        await trio.sleep(1)
        assert provider.readiness("default").ready
