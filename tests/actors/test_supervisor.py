"""Actors that crash come back, but not for ever; the journal does not come back at all."""

import pytest
import trio

from llmux.actors.actor import Actor, Message
from llmux.actors.key_registry import IssueKey
from llmux.actors.opening import open_system
from llmux.clock import SeededClock
from llmux.events import ActorCrashed as Crashed
from llmux.events import ActorRestarted, RequestCompleted
from llmux.failures import ActorCrashed, LLMuxError
from tests.actors.house import facts_of, house_settings, scripted, wish


class Poke(Message[str], frozen=True):
    crash: bool = False


class Fragile(Actor):
    async def handle(self, message: Poke) -> str:
        if message.crash:
            raise RuntimeError("as told")
        return "fine"


def fragile() -> Fragile:
    return Fragile("fragile", mailbox_max=8, ask_ms_max=10_000)


async def test_a_crashed_actor_is_started_again_and_the_log_says_so(tmp_path, virtual_time):
    async with (
        open_system(house_settings(tmp_path), SeededClock(), environ={}) as system,
        trio.open_nursery() as nursery,
    ):
        actor = fragile()
        await nursery.start(system.supervisor.watch, actor)
        with pytest.raises(ActorCrashed):
            await actor.ask(Poke(crash=True))
        assert await actor.ask(Poke()) == "fine"
        assert await facts_of(system, Crashed) == [Crashed(actor="fragile", error="RuntimeError")]
        assert await facts_of(system, ActorRestarted) == [ActorRestarted(actor="fragile", restarts=1)]
        assert system.facts.supervisor["fragile"].restarts == 1
        assert not system.supervisor.degraded
        nursery.cancel_scope.cancel()


async def test_an_actor_that_crashes_too_often_is_given_up_and_the_gateway_says_degraded(tmp_path, virtual_time):
    async with (
        open_system(house_settings(tmp_path), SeededClock(), environ={}) as system,
        trio.open_nursery() as nursery,
    ):
        actor = fragile()
        await nursery.start(system.supervisor.watch, actor)
        for _ in range(4):
            with pytest.raises(ActorCrashed):
                await actor.ask(Poke(crash=True))
        await trio.sleep(1)
        with pytest.raises(ActorCrashed, match="given up"):
            await actor.ask(Poke())
        assert len(await facts_of(system, ActorRestarted)) == 3
        health = system.health()
        assert (health.status, health.degraded_because) == ("degraded", ("fragile",))
        with system.request(wish()) as request:  # the rest of the house goes on
            assert (await request.answer()).text


async def test_crashes_far_apart_are_forgiven(tmp_path, virtual_time):
    async with (
        open_system(house_settings(tmp_path), SeededClock(), environ={}) as system,
        trio.open_nursery() as nursery,
    ):
        actor = fragile()
        await nursery.start(system.supervisor.watch, actor)
        for _ in range(6):
            with pytest.raises(ActorCrashed):
                await actor.ask(Poke(crash=True))
            await trio.sleep(6)
        assert not system.supervisor.degraded
        nursery.cancel_scope.cancel()


async def test_a_provider_that_crashes_fails_its_attempts_and_serves_again(tmp_path, virtual_time, monkeypatch):
    providers = {"one": scripted("echo,delay=1000", weight=1), "two": scripted(weight=0)}
    async with open_system(house_settings(tmp_path, providers), SeededClock(), environ={}) as system:
        actor = system.providers["one"]

        async def crash(message):
            raise RuntimeError("as told")

        request = system.request(wish("hi"))
        await trio.sleep(0.5)
        with monkeypatch.context() as broken:
            broken.setattr(actor, "handle", crash)
            with pytest.raises(ActorCrashed):
                await actor.ask(Poke())
        assert (await request.answer()).text == "hi"
        assert request.attempts >= 2
        assert (await facts_of(system, RequestCompleted))[0].attempts == request.attempts
        await trio.sleep(1)
        with system.request(wish("again", provider="one")) as request:
            assert (await request.answer()).text == "again"
        assert not system.facts.requests.open


async def test_a_provider_that_is_given_up_is_left_out_with_a_reason(tmp_path, virtual_time, monkeypatch):
    providers = {"one": scripted(weight=1), "two": scripted(weight=0)}
    async with open_system(house_settings(tmp_path, providers), SeededClock(), environ={}) as system:
        actor = system.providers["one"]

        async def crash(message):
            raise RuntimeError("as told")

        monkeypatch.setattr(actor, "handle", crash)
        for _ in range(4):
            with pytest.raises(ActorCrashed):
                await actor.ask(Poke())
        await trio.sleep(1)
        health = system.health()
        assert health.status == "degraded"
        assert not health.providers["one"].available
        assert "restart" in health.providers["one"].sentence
        with system.request(wish("hi")) as request:
            await request.answer()
        assert request.provider == "two"


async def test_a_crash_of_the_journal_ends_the_gateway(tmp_path, monkeypatch):
    settings = house_settings(tmp_path)

    async def crash(batch):
        raise RuntimeError("as told")

    failures = []
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_system(settings, SeededClock(), environ={}) as system:
            monkeypatch.setattr(system.journal._store, "append", crash)
            try:
                await system.key_registry.ask(IssueKey("user", "project"))
            except LLMuxError as failure:
                failures.append(failure.code)
            await trio.sleep_forever()
    assert caught.group_contains(RuntimeError, match="as told", depth=None)
    async with open_system(settings, SeededClock(1), environ={}) as system:
        assert not system.facts.keys
