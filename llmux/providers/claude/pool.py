"""The processes of one login: some wait, warm, for prompts of the models in use; each is lent once and then ended.

The pool starts small: once the provider is ready, `settings.warm` processes of the default model wait. A model that is asked for
gets as many, one more whenever none was there for a request, up to `settings.concurrency` in all. What nobody needs for
`worker_idle_ms_max` is ended again. A process is replaced when the login has changed, when it is too old, and when it died.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import msgspec
import trio

from llmux.failures import Kind, ProviderFailure
from llmux.providers.adapter import Place, WorkerStatistics
from llmux.providers.claude import login, signs
from llmux.providers.claude.worker import Worker
from llmux.providers.process import LineTooLong, running

REFILL_PAUSE_S = 0.1
"""the start of a process takes half a second of a processor: the request that has just borrowed one goes first"""
BACKOFF_S_MIN = 1.0
BACKOFF_S_MAX = 60.0
"""how long nothing is started after a process was lost that nobody had borrowed: twice as long each time"""
LOOK_S_MAX = 15.0

Command = Callable[[str], list[str]]
"""The argument vector for a model. Raises ProviderFailure."""


class _Demand(msgspec.Struct):
    """How many processes of a model shall wait, and when it was asked for last."""

    wanted: int
    used_at: float


class Pool:
    """Lends processes. `serve` must be running; `allow` says whether it makes sense to keep any waiting."""

    def __init__(self, place: Place, command: Command):
        self._place, self._command = place, command
        settings = place.settings
        self._default = settings.upstream.get(settings.default_model, settings.default_model)
        self._waiting_max = max(settings.warm, settings.concurrency) if settings.warm else 0
        self._workers: set[Worker] = set()
        self._demands: dict[str, _Demand] = {}
        self._nursery: trio.Nursery | None = None
        self._changed = trio.Event()
        self._allowed = False
        self._failures = 0
        self._start_at = 0.0
        self._started = self._recycled = self._lost = 0

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<claude Pool {now.idle} idle, {now.starting} starting, {now.busy} busy, {now.started} started>"

    def statistics(self) -> WorkerStatistics:
        ready = [worker for worker in self._workers if worker.ready]
        return WorkerStatistics(
            starting=len(self._workers) - len(ready),
            idle=sum(not worker.lent for worker in ready),
            busy=sum(worker.lent for worker in ready),
            started=self._started,
            recycled=self._recycled,
            lost=self._lost,
        )

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; then no process is left."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._keep)
                task_status.started()
        finally:
            self._nursery = None

    def allow(self, ready: bool) -> None:
        """A probe has looked: processes may wait, or shall not because the provider could not be used anyway."""
        if ready and not self._allowed:
            self._failures, self._start_at = 0, 0.0
        self._allowed = ready
        self._changed.set()

    # --- lending ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def lent(self, model: str, *, fresh: bool = False) -> AsyncGenerator[Worker, None]:
        """A process of the model for one prompt: one that waits, or else (or if it must be `fresh`) a new one.

        It is gone when the block is left. Raises ProviderFailure when no process can be started.
        """
        worker = None if fresh else self._picked(model)
        self._note_use(model, missed=worker is None)
        worker = worker or self._start(model, greet=False)
        worker.lend()
        try:
            await worker.handed_over()
            yield worker
        finally:
            await worker.end()
            self._changed.set()

    def _picked(self, model: str) -> Worker | None:
        """The youngest that is ready, so that those that nobody needs grow old; else the one that will be ready first."""
        self._drop_unfit()
        waiting = [worker for worker in self._workers if worker.model == model and worker.alive]
        ready = [worker for worker in waiting if worker.ready]
        if ready:
            self._failures = 0
            return max(ready, key=lambda worker: worker.born)
        return min(waiting, key=lambda worker: worker.born, default=None)

    def _note_use(self, model: str, *, missed: bool) -> None:
        now = trio.current_time()
        demand = self._demands.setdefault(model, _Demand(self._place.settings.warm, -1))
        if missed and demand.used_at >= 0:
            demand.wanted = min(demand.wanted + 1, self._waiting_max)
        demand.used_at = now
        self._start_at = max(self._start_at, now + REFILL_PAUSE_S)
        self._changed.set()

    # --- keeping ---------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Starts what is missing, one at a time, and ends what is too much. A start that fails is tried again ever more rarely."""
        limits = self._place.limits
        look_s = min(LOOK_S_MAX, limits.worker_idle_ms_max / 4000, limits.worker_age_ms_max / 4000)
        while True:
            self._changed = trio.Event()
            self._tidy()
            model, pause_s = self._lacking(), self._start_at - trio.current_time()
            if model is not None and pause_s <= 0:
                await self._start(model, greet=True).settled.wait()
                continue
            with trio.move_on_after(look_s if model is None else min(look_s, pause_s)):
                await self._changed.wait()

    def _tidy(self) -> None:
        """Adapts what is wanted to what was used, and asks those to leave that are unfit or too many."""
        self._drop_unfit()
        now, idle_s = trio.current_time(), self._place.limits.worker_idle_ms_max / 1000
        if self._allowed and self._default:
            self._demands.setdefault(self._default, _Demand(self._place.settings.warm, -1))
        for model, demand in list(self._demands.items()):
            waiting = self._waiting(model)
            if model != self._default and now - demand.used_at >= idle_s:
                del self._demands[model]
            elif demand.wanted > self._place.settings.warm and waiting and now - waiting[0].born >= idle_s:
                demand.wanted -= 1
        shares = self._shares()
        for model in {worker.model for worker in self._workers}:
            waiting = self._waiting(model)
            for worker in waiting[: max(0, len(waiting) - shares.get(model, 0))]:
                worker.leave.set()

    def _drop_unfit(self) -> None:
        """Asks those to leave that wait with another login than the present one, or for too long."""
        stamp, now = login.login_stamp(login.environment(self._place)), trio.current_time()
        for worker in self._workers:
            too_old = now - worker.born >= self._place.limits.worker_age_ms_max / 1000
            if not worker.lent and (too_old or worker.login != stamp):
                worker.leave.set()

    def _waiting(self, model: str) -> list[Worker]:
        """Those that can be lent, the oldest first."""
        able = [worker for worker in self._workers if worker.model == model and worker.alive]
        return sorted(able, key=lambda worker: worker.born)

    def _shares(self) -> dict[str, int]:
        """How many processes of each model may wait: the models that were used last get theirs first."""
        left = self._waiting_max if self._allowed else 0
        shares: dict[str, int] = {}
        for model, demand in sorted(self._demands.items(), key=lambda item: -item[1].used_at):
            shares[model] = min(demand.wanted, left)
            left -= shares[model]
        return shares

    def _lacking(self) -> str | None:
        """A model of which one more process shall be started, if there is room for it beside those that are busy."""
        settings = self._place.settings
        if len(self._workers) >= settings.concurrency + settings.warm:
            return None
        return next((model for model, share in self._shares().items() if self._provided(model) < share), None)

    def _provided(self, model: str) -> int:
        """Those that wait, and those that have just died: these are replaced when that has been seen to."""
        mine = [worker for worker in self._workers if worker.model == model and not worker.lent]
        return sum(worker.lost or not worker.leave.is_set() for worker in mine)

    # --- a process's life ------------------------------------------------------------------------------------------

    def _start(self, model: str, *, greet: bool) -> Worker:
        if self._nursery is None:
            raise ProviderFailure(Kind.UNAVAILABLE, "Claude Code is being stopped.", evidence="claude.not_served")
        worker = Worker(model, login.login_stamp(login.environment(self._place)))
        self._workers.add(worker)
        self._nursery.start_soon(self._live, worker, greet)
        return worker

    async def _live(self, worker: Worker, greet: bool) -> None:
        limits, begun = self._place.limits, False
        try:
            argv, env = self._command(worker.model), login.environment(self._place)
            async with running(argv, env=env, cwd=login.empty_dir(self._place), limits=limits) as process:
                begun = True
                self._started += 1
                await worker.live(process, greet_s_max=limits.call_ms_max / 1000 if greet else 0)
        except (ProviderFailure, LineTooLong) as error:
            worker.failure = error if isinstance(error, ProviderFailure) else signs.failure("too_long")
            worker.lost = worker.lost or not worker.lent
        finally:
            self._workers.discard(worker)
            if worker.lost and not worker.lent:
                self._failures += 1
                pause_s = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2.0 ** min(self._failures - 1, 10))
                self._start_at = trio.current_time() + pause_s
            self._lost += begun and worker.lost
            self._recycled += begun and not worker.lost
            worker.over()
            self._changed.set()
