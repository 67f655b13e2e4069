"""Kept responses: bounded in number, size and time, and each project's own."""

import trio
from hypothesis import given
from hypothesis import strategies as st

from llmux.actors.kept_responses import Kept, KeptResponses
from llmux.actors.opening import open_system
from llmux.clock import SeededClock
from llmux.config import Limits
from tests.actors.house import house_settings


class Clock(SeededClock):
    """Goes on when it is told to."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


def store(**limits) -> tuple[KeptResponses, Clock]:
    clock = Clock()
    return KeptResponses(Limits(**limits), clock), clock


def kept(id: str, after: Kept | None = None, size: int = 10) -> Kept:
    return Kept(id, "p", b"i" * size, b"o" * size, after)


def test_the_oldest_goes_first_when_there_are_too_many():
    responses, _ = store(kept_responses_max=2)
    for id in ("a", "b", "c"):
        responses.keep(kept(id))
    assert [bool(responses.look(id, "p")) for id in ("a", "b", "c")] == [False, True, True]
    assert responses.statistics().responses == 2


def test_the_oldest_goes_first_when_they_are_too_large():
    one = kept("x", size=4_000).bytes
    responses, _ = store(kept_responses_bytes_max=2 * one)
    for id in ("a", "b", "c"):
        responses.keep(kept(id, size=4_000))
    assert [bool(responses.look(id, "p")) for id in ("a", "b", "c")] == [False, True, True]
    responses.keep(kept("huge", size=10_000))
    assert (responses.look("huge", "p"), responses.statistics().bytes) == (None, 0)


def test_a_response_ends_with_its_time():
    responses, clock = store(kept_responses_ms_max=1000)
    responses.keep(kept("a"))
    clock.now_s = 0.9
    assert responses.look("a", "p") is not None
    clock.now_s = 1.0
    assert responses.look("a", "p") is None
    assert responses.statistics().bytes == 0


def test_another_project_sees_and_deletes_nothing():
    responses, _ = store()
    responses.keep(kept("a"))
    assert responses.look("a", "q") is None
    assert not responses.forget("a", "q")
    assert responses.forget("a", "p")
    assert not responses.forget("a", "p")


def test_what_continues_a_response_still_knows_the_conversation_when_that_is_gone():
    responses, clock = store(kept_responses_ms_max=1000)
    first = kept("first")
    responses.keep(first)
    clock.now_s = 0.5
    second = kept("second", first)
    responses.keep(second)
    clock.now_s = 1.2
    assert responses.look("first", "p") is None
    assert responses.look("second", "p") is second
    assert [each.id for each in second.conversation()] == ["first", "second"]
    assert responses.statistics().bytes == first.bytes + second.bytes


def test_a_response_whose_beginning_went_while_it_was_made_holds_that_beginning_again():
    responses, _ = store()
    first = kept("first")
    responses.keep(first)
    responses.forget("first", "p")
    second = kept("second", first)
    responses.keep(second)
    assert responses.statistics().bytes == first.bytes + second.bytes
    responses.forget("second", "p")
    assert responses.statistics().bytes == 0


STEPS = st.lists(st.tuples(st.sampled_from("kkkkfw"), st.integers(0, 30), st.integers(0, 3_000)), max_size=60)


@given(STEPS)
def test_the_bytes_are_those_of_all_that_can_be_reached_and_never_too_many(steps):
    responses, clock = store(kept_responses_max=8, kept_responses_bytes_max=20_000, kept_responses_ms_max=10_000)
    made: list[Kept] = []
    for number, (step, which, size) in enumerate(steps):
        if step == "k":
            after = made[which % len(made)] if made and which % 3 else None
            made.append(kept(f"r{number}", after, size))
            responses.keep(made[-1])
        elif step == "f" and made:
            responses.forget(made[which % len(made)].id, "p")
        else:
            clock.now_s += which / 10
        index = [each for each in made if responses.look(each.id, "p") is not None]
        reached = {id(each): each for start in index for each in start.conversation()}
        state = responses.statistics()
        assert state.bytes == sum(each.bytes for each in reached.values())
        assert state.responses == len(index)
        assert state.bytes <= 20_000
        assert state.responses <= 8
    clock.now_s += 100
    assert responses.look("none", "p") is None
    assert (responses.statistics().responses, responses.statistics().bytes) == (0, 0)


async def test_texts_leave_the_memory_in_time_where_nobody_asks(tmp_path, virtual_time):
    limits = Limits(kept_responses_ms_max=1000)
    async with open_system(house_settings(tmp_path, limits=limits), SeededClock(), environ={}) as system:
        system.responses.keep(kept("a"))
        await trio.sleep(62)
        assert system.responses.statistics().responses == 0
