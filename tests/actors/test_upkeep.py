"""Upkeep: jobs that are done now and then, and hold nothing else up."""

import pytest
import structlog
import trio
import trio.testing

from llmux.actors.upkeep import HURRY_S, Job, Upkeep
from llmux.failures import StoreFailure


class Diary:
    """Work that notes when it is done."""

    def __init__(self, *failures: Exception):
        self.times: list[float] = []
        self._failures = list(failures)

    async def work(self) -> None:
        self.times.append(round(trio.current_time(), 3))
        if self._failures:
            raise self._failures.pop(0)


async def run_for(seconds: float, upkeep: Upkeep, meanwhile=None) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(upkeep.run)
        if meanwhile is not None:
            await meanwhile()
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()


async def test_a_job_is_done_when_its_time_comes(autojump_clock: trio.testing.MockClock) -> None:
    rare, often, first = Diary(), Diary(), Diary()
    upkeep = Upkeep([Job("rare", 60, rare.work), Job("often", 10, often.work)])
    upkeep.add(Job("first", 60, first.work, at_start=True))
    await run_for(66, upkeep)  # not 65: two tasks that wake at one moment do so in any order
    assert rare.times == [60]
    assert often.times == [10, 21, 32, 43, 54, 65]
    assert first.times == [0, 60]


async def test_a_hurried_job_is_done_at_once_but_not_again_and_again(autojump_clock: trio.testing.MockClock) -> None:
    diary = Diary()
    job = Job("job", 60, diary.work)

    async def hurry() -> None:
        for _ in range(30):
            job.hurry()
            await trio.sleep(0.1)

    await run_for(20, Upkeep([job]), hurry)
    assert diary.times == [0, HURRY_S, 2 * HURRY_S, 3 * HURRY_S]


@pytest.mark.parametrize("failure", [StoreFailure("The log is busy."), ValueError("a bug, with a secret")])
async def test_a_job_that_fails_is_told_and_done_again(
    autojump_clock: trio.testing.MockClock, failure: Exception
) -> None:
    failing, other = Diary(failure), Diary()
    with structlog.testing.capture_logs() as lines:
        await run_for(125, Upkeep([Job("failing", 60, failing.work), Job("other", 60, other.work)]))
    assert failing.times == other.times == [60, 121]
    (line,) = lines
    assert (line["event"], line["job"]) == ("upkeep failed", "failing")
    assert "secret" not in str(line)
