"""What has to be done now and then while the gateway runs: each a job with an interval, all of them in one task.

A job that fails is tried again when its time comes; nothing else stops for it.
"""

from collections.abc import Awaitable, Callable, Iterable

import structlog
import trio

from llmux.failures import LLMuxError
from llmux.logs import report

HURRY_S = 1.0
"""the least time between two runs of a job, however much it is hurried"""

log = structlog.get_logger()


class Job:
    """`work` is done every `every_s` seconds, and when somebody hurries it. With `at_start` also before anything else begins."""

    def __init__(self, name: str, every_s: float, work: Callable[[], Awaitable[None]], *, at_start: bool = False):
        self.name, self.every_s, self.at_start = name, every_s, at_start
        self._work = work
        self._wanted = trio.Event()

    def __repr__(self) -> str:
        return f"<Job {self.name} every {self.every_s:g} s>"

    def hurry(self) -> None:
        """Asks for the work to be done soon. Never waits, and may be asked as often as one likes."""
        self._wanted.set()

    async def do(self) -> None:
        """Does the work now. Raises nothing: a failure is a line on stderr."""
        self._wanted = trio.Event()
        try:
            await self._work()
        except LLMuxError as failure:
            log.warning("upkeep failed", job=self.name, code=failure.code, why=str(failure))
        except Exception as error:
            report(error, "upkeep failed", job=self.name)

    async def repeat(self) -> None:
        """Does the work for ever, when it is time."""
        while True:
            with trio.move_on_after(self.every_s):
                await self._wanted.wait()
            await self.do()
            await trio.sleep(min(HURRY_S, self.every_s))


class Upkeep:
    """Runs the jobs. More can be added until it is started."""

    def __init__(self, jobs: Iterable[Job] = ()):
        self.jobs = list(jobs)

    def __repr__(self) -> str:
        return f"<Upkeep {', '.join(job.name for job in self.jobs)}>"

    def add(self, job: Job) -> None:
        """From the next start on, `job` is done as well."""
        self.jobs.append(job)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Does every job when it is time, until cancelled. Has started when the jobs that belong to the start are done."""
        for job in self.jobs:
            if job.at_start:
                await job.do()
        async with trio.open_nursery() as nursery:
            for job in self.jobs:
                nursery.start_soon(job.repeat)
            task_status.started()
            await trio.sleep_forever()
