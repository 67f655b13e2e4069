"""The mailbox: ask, tell, bounds, crashes, deadlines."""

import pytest
import trio

from llmux.actors.actor import Actor, Message
from llmux.failures import ActorCrashed, AskTimedOut, ClientFailure, Overloaded, ShuttingDown


class Say(Message[str], frozen=True):
    word: str


class Parrot(Actor):
    """Repeats words; three of them have an effect."""

    async def handle(self, message: Say) -> str:
        if message.word == "crash":
            raise RuntimeError("as told")
        if message.word == "refuse":
            raise ClientFailure("no")
        if message.word == "sleep":
            await trio.sleep(60)
        return message.word


def parrot(mailbox_max: int = 4) -> Parrot:
    return Parrot("parrot", mailbox_max=mailbox_max, ask_ms_max=1000)


async def test_ask_returns_the_reply_and_tell_returns_at_once(nursery):
    actor = parrot()
    await nursery.start(actor.run)
    actor.tell(Say("unheard"))
    assert await actor.ask(Say("hello")) == "hello"
    assert actor.statistics().handled == 2


async def test_a_full_mailbox_refuses_instead_of_growing():
    actor = parrot(mailbox_max=2)
    actor.tell(Say("1"))
    actor.tell(Say("2"))
    with pytest.raises(Overloaded):
        actor.tell(Say("3"))
    with pytest.raises(Overloaded):
        await actor.ask(Say("3"))


async def test_an_asker_does_not_wait_longer_than_its_deadline(nursery, autojump_clock):
    actor = parrot()
    await nursery.start(actor.run)
    began = trio.current_time()
    with pytest.raises(AskTimedOut):
        await actor.ask(Say("sleep"), ms_max=500)
    assert trio.current_time() - began == pytest.approx(0.5)


async def test_a_failure_of_ours_is_a_reply_and_no_crash(nursery):
    actor = parrot()
    await nursery.start(actor.run)
    with pytest.raises(ClientFailure):
        await actor.ask(Say("refuse"))
    assert await actor.ask(Say("still here")) == "still here"
    assert actor.statistics().crashes == 0


async def test_a_crash_tells_the_asker_and_keeps_the_others_messages(nursery):
    actor = parrot()

    async def crash_once():
        with pytest.raises(RuntimeError):
            await actor.run()

    replies = []

    async def ask(word):
        try:
            replies.append(await actor.ask(Say(word)))
        except ActorCrashed:
            replies.append("crashed")

    async with trio.open_nursery() as asking:
        asking.start_soon(ask, "crash")
        await trio.testing.wait_all_tasks_blocked()
        asking.start_soon(ask, "later")
        await trio.testing.wait_all_tasks_blocked()
        await crash_once()
        await nursery.start(actor.run)
    assert replies == ["crashed", "later"]
    assert "parrot" in repr(actor)


async def test_nobody_waits_for_an_actor_that_is_gone(nursery):
    actor = parrot()
    failures = []

    async def ask():
        try:
            await actor.ask(Say("hello"))
        except ShuttingDown as failure:
            failures.append(failure)

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    actor.leave(ShuttingDown("stop"))
    await trio.testing.wait_all_tasks_blocked()
    assert len(failures) == 1
    with pytest.raises(ShuttingDown):
        actor.tell(Say("hello"))
    assert actor.statistics().gone


def test_a_failure_that_is_told_a_thousand_times_keeps_no_frames():
    """Frames hold locals, and locals can hold prompts."""
    actor = parrot()
    actor.leave(ShuttingDown("stop"))
    for _ in range(1000):
        with pytest.raises(ShuttingDown) as caught:
            actor.tell(Say("hello"))
    assert len(caught.traceback) < 10


async def test_cancelling_an_actor_in_the_middle_of_a_message_frees_its_asker(nursery):
    actor = parrot()
    caught = []

    async def ask():
        try:
            await actor.ask(Say("sleep"), ms_max=60_000)
        except ShuttingDown as failure:
            caught.append(failure)

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_blocked, scope)
        await actor.run()
    await trio.testing.wait_all_tasks_blocked()
    assert len(caught) == 1


async def cancel_when_blocked(scope):
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()
