"""The workers of one account: used again, and replaced when they are worn, unfit or gone.

The pool starts with `settings.warm` of them, starts one more whenever nobody is free for a prompt, up to `settings.concurrency`,
and lets those go again that nobody needs for `worker_idle_ms_max`. After a start that failed there is a rest (`rest`).
"""

import signal
from collections.abc import Callable

import trio

from llmux.failures import ProviderFailure
from llmux.providers.adapter import Place, WorkerStatistics
from llmux.providers.gemini import signs
from llmux.providers.gemini.home import Home
from llmux.providers.gemini.program import Login, find_login, settled_login
from llmux.providers.gemini.rest import Rest
from llmux.providers.gemini.settings import renames
from llmux.providers.gemini.worker import Worker
from llmux.providers.process import running, signal_group

REQUESTS_MAX = 100
"""requests after which a worker is replaced: its memory grows with every session"""
MEMORY_BYTES_MAX = 400 * 1024 * 1024
"""the same, when it has grown beyond this; a new one takes about 250 MB"""
LOOK_S_MAX = 15.0
MODEL_CONFIGS_MAX = 32
"""model configurations of conversations that a new worker learns when it starts"""

ARGUMENTS = ("--acp", "--admin-policy", "{policy}", "-e", "none")

Argv = Callable[[], tuple[str, ...]]


class _Wanted:
    """Somebody who waits for a worker. `model_config` is "" when any worker will do."""

    def __init__(self, model_config: str):
        self.model_config = model_config
        self.settled = trio.Event()
        self.result: Worker | ProviderFailure | None = None

    def settle(self, result: "Worker | ProviderFailure") -> None:
        self.result = result
        self.settled.set()


class Pool:
    """Hands out workers, one request at a time each. `serve` must be running."""

    def __init__(self, place: Place, argv: Argv, model_configs: tuple[str, ...]):
        self._place, self._argv = place, argv
        self._known = dict.fromkeys(model_configs)
        """model configurations in the order of their last use: what new workers know after a session/load"""
        self._workers: list[Worker] = []
        self._starting: dict[int, tuple[str, ...]] = {}
        """number of a worker that is not ready yet -> the model configurations it will know"""
        self._wanted: list[_Wanted] = []
        self._nursery: trio.Nursery | None = None
        self._changed = trio.Event()
        self._numbers = 0
        self._rest = Rest()
        self._started = self._recycled = self._lost = 0

    def __repr__(self) -> str:
        return f"<gemini Pool {self.statistics()}>"

    def statistics(self) -> WorkerStatistics:
        busy = sum(worker.busy for worker in self._workers)
        return WorkerStatistics(
            starting=len(self._starting),
            idle=len(self._workers) - busy,
            busy=busy,
            started=self._started,
            recycled=self._recycled,
            lost=self._lost,
        )

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        """Runs until cancelled; then no process and no home is left."""
        self._place.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left_over in self._place.directory.glob("worker-*"):  # of a gateway that was killed
            Home(left_over).remove()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await self._keep()
        finally:
            self._nursery = None
            while self._wanted:
                self._wanted.pop().settle(signs.not_served())

    async def take(self, model_config: str = "") -> Worker:
        """A worker for one request; give it back. One that knows `model_config`, if that is not "". Raises ProviderFailure."""
        if self._nursery is None:
            raise signs.not_served()
        if model_config:
            self._remember(model_config)
        if not self._workers and (failure := self._rest.refusal(trio.current_time(), self._stamp())):
            raise failure
        wanted = _Wanted(model_config)
        self._wanted.append(wanted)
        self._provide()
        try:
            await wanted.settled.wait()
        except trio.Cancelled:
            if wanted in self._wanted:
                self._wanted.remove(wanted)
            if isinstance(wanted.result, Worker):
                self.give_back(wanted.result)
            raise
        if isinstance(wanted.result, Worker):
            return wanted.result
        assert wanted.result is not None
        raise wanted.result

    def borrow(self) -> Worker | None:
        """A worker that has nothing to do now, if there is one; give it back."""
        for worker in self._workers:
            if not worker.busy and worker.fit and worker.process.exit_status is None:
                worker.busy = True
                return worker
        return None

    def give_back(self, worker: Worker) -> None:
        """The request is over. A worker that is not fit is killed at once, a worn one ends in peace."""
        worker.busy, worker.free_since = False, trio.current_time()
        if worker.process.exit_status is not None:
            self._dismiss(worker, lost=not worker.closed)
        elif not worker.fit:
            signal_group(worker.process.pid, signal.SIGKILL)
            self._dismiss(worker)
        else:
            self._rest.end()
            if worker.served >= REQUESTS_MAX or (worker.process.memory_bytes or 0) > self._memory_bytes_max():
                self._dismiss(worker)
        self._provide()

    def _memory_bytes_max(self) -> int:
        return min(MEMORY_BYTES_MAX, self._place.limits.worker_memory_bytes_max)

    def _stamp(self) -> str:
        """Changes with the stored login."""
        login = find_login(self._place)
        return login.stamp if isinstance(login, Login) else login

    def _remember(self, model_config: str) -> None:
        self._known.pop(model_config, None)
        self._known[model_config] = None
        while len(self._known) > MODEL_CONFIGS_MAX:
            del self._known[next(iter(self._known))]

    def _lesson(self, model_config: str) -> tuple[str, ...]:
        """What a worker that starts for `model_config` is to know: that ("" = nothing in particular), then the latest.

        Of renamed models only one fits into it.
        """
        latest = list(dict.fromkeys([*([model_config] if model_config else []), *reversed(self._known)]))
        renamed = [text for text in latest if renames(text)]
        return tuple(text for text in latest if text not in renamed[1:])

    def _dismiss(self, worker: Worker, *, lost: bool = False) -> None:
        """Lets the worker's task end it. `lost` tells that the process went by itself."""
        if not worker.leave.is_set():
            worker.fit, worker.dismissed = False, not lost
            worker.leave.set()
            self._lost += lost
            self._recycled += not lost

    def _provide(self) -> None:
        """Matches idle workers with those who wait, and starts what is missing. Never waits."""
        if self._nursery is None:
            return
        if self._wanted:
            self._drop_unfit()
        coming = list(self._starting.values())
        leaving = sum(worker.leave.is_set() for worker in self._workers)
        for wanted in list(self._wanted):
            idle = [worker for worker in self._workers if not worker.busy and worker.fit]
            able = [worker for worker in idle if not wanted.model_config or wanted.model_config in worker.aliases]
            if able:
                worker = able[-1] if wanted.model_config else able[0]
                worker.busy = True
                self._wanted.remove(wanted)
                wanted.settle(worker)
                continue
            suited = next((known for known in coming if not wanted.model_config or wanted.model_config in known), None)
            if suited is not None:
                coming.remove(suited)
            elif len(self._workers) + len(self._starting) < self._place.settings.concurrency:
                self._start(wanted.model_config)
            elif leaving:
                leaving -= 1  # room for it is being made
            elif idle:
                self._dismiss(idle[0])  # makes room; _live starts the next one

    def _drop_unfit(self) -> None:
        """Lets those go that wait but are gone, or are logged in as somebody else than the present login."""
        login = find_login(self._place)
        for worker in self._workers:
            gone = worker.process.exit_status is not None
            changed = isinstance(login, Login) and login.identity != worker.login.identity
            if not worker.busy and (gone or changed):
                self._dismiss(worker, lost=gone)

    # --- those that wait ---------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Looks every few seconds, and whenever something has changed, how many workers wait."""
        look_s = min(LOOK_S_MAX, self._place.limits.worker_idle_ms_max / 4000)
        while True:
            self._changed = trio.Event()
            self._drop_unfit()
            self._shrink()
            self._provide()  # those who wait come first
            self._refill()
            with trio.move_on_after(min(look_s, self._rest.left_s(trio.current_time()) or look_s)):
                await self._changed.wait()

    def _shrink(self) -> None:
        """Lets those go that nobody has needed for long, beyond what the settings ask for."""
        unneeded_at = trio.current_time() - self._place.limits.worker_idle_ms_max / 1000
        staying = [worker for worker in self._workers if not worker.leave.is_set()]
        unneeded = [worker for worker in staying if not worker.busy and worker.free_since <= unneeded_at]
        for worker in unneeded[: max(0, len(staying) - self._place.settings.warm)]:
            self._dismiss(worker)

    def _refill(self) -> None:
        """Starts what is missing to what the settings ask for, if there is a login and it is no time to rest."""
        resting = self._rest.left_s(trio.current_time()) > 0
        if self._nursery is None or resting or not isinstance(find_login(self._place), Login):
            return
        warm = min(self._place.settings.warm, self._place.settings.concurrency)
        while len(self._workers) + len(self._starting) < warm:
            self._start()

    def _start(self, model_config: str = "") -> None:
        assert self._nursery is not None
        self._numbers += 1
        self._starting[self._numbers] = lesson = self._lesson(model_config)
        self._nursery.start_soon(self._live, self._numbers, lesson)

    async def _live(self, number: int, lesson: tuple[str, ...]) -> None:
        """The life of one worker, from its home to its end."""
        home = Home(self._place.directory / f"worker-{number}")
        try:
            await self._run(number, home, lesson)
        except (ProviderFailure, OSError) as error:
            failure = error if isinstance(error, ProviderFailure) else signs.unwritable(error)
            self._rest.begin(trio.current_time(), failure, self._stamp())
            if self._wanted:
                self._wanted.pop(0).settle(failure)
        finally:
            self._starting.pop(number, None)
            home.remove()
        self._provide()
        self._changed.set()

    async def _run(self, number: int, home: Home, lesson: tuple[str, ...]) -> None:
        """Raises ProviderFailure or OSError when it does not get ready."""
        login = await settled_login(self._place)
        if not isinstance(login, Login):
            raise signs.logged_out(login)
        argv = self._argv()
        aliases = home.prepare(login, lesson)
        env = home.environment(self._place.environ, self._place.settings.env)
        arguments = [part.format(policy=home.policy) for part in ARGUMENTS]
        async with running([*argv, *arguments], env=env, cwd=home.start, limits=self._place.limits) as process:
            worker = Worker(self._place, process, home, login, aliases)
            try:
                await worker.greet()
                home.forget_model_configs(login)
            except (ProviderFailure, OSError):
                self._lost += 1
                raise
            del self._starting[number]
            self._started += 1
            worker.free_since = trio.current_time()
            self._workers.append(worker)
            try:
                self._provide()
                await self._watch(worker)
            finally:
                self._workers.remove(worker)
        if not worker.served and not worker.dismissed:
            self._rest.begin(trio.current_time(), signs.useless(), self._stamp())

    async def _watch(self, worker: Worker) -> None:
        """Waits until the worker is dismissed, or ends by itself while nobody uses it."""
        async with trio.open_nursery() as nursery:

            async def idle_death() -> None:
                await worker.process.wait()
                if not worker.busy:  # else its user notices, reads the rest and gives it back
                    self._dismiss(worker, lost=True)

            nursery.start_soon(idle_death)
            await worker.leave.wait()
            nursery.cancel_scope.cancel()
