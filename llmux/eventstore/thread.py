"""The bridge from trio to asyncio: one thread with an asyncio loop of its own, where SQLAlchemy and aiosqlite live.

Work that was handed over always runs to its end. Cancelling the trio task that waits for it only ends the waiting: a
statement that is cancelled half-way would leave the database locked until the garbage collector finds it.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Generic, TypeVar

import trio

from llmux.failures import StoreFailure

T = TypeVar("T")


class LoopThread:
    """A running asyncio loop on its own thread. Made by `open_thread`."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._permanent: asyncio.Task[Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._errands: set[_Errand[Any]] = set()
        self._closing = False
        # A daemon, so that a process whose trio side has died is not kept alive: for the log that is one more crash.
        self._thread = threading.Thread(target=self._serve, name="llmux-eventstore", daemon=True)
        self._thread.start()
        self._ready.wait()

    def __repr__(self) -> str:
        return f"<LoopThread {'closed' if self._closing else 'open'}>"

    def _serve(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._permanent = asyncio.current_task()
        self._ready.set()
        await self._stop.wait()
        await self._others()

    async def _others(self) -> None:
        """Waits until the calling task is the only one that works."""
        while others := asyncio.all_tasks() - {asyncio.current_task(), self._permanent}:
            await asyncio.wait(others)

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs `await work()` on the loop and returns its value or raises its exception.

        Cancelling the caller ends its waiting, never the work. Raises StoreFailure when the thread is closed.
        """
        errand = self._errand(work)
        self._begin(errand)
        return await errand.result()

    async def run_at(
        self,
        take: Callable[[Callable[[], None]], bool],
        quickly: Callable[[], T | None],
        work: Callable[[], Coroutine[Any, Any, T]],
    ) -> T:
        """As `run`, but first another thread calls `quickly()`, without the detour over the loop; what that returns comes back.

        Where it returns None, or that thread does not take it, `work` is run. `take` hands a function over to the thread, or
        returns False.
        """
        errand = self._errand(work)

        def go() -> None:
            try:
                value = quickly()
            except BaseException as error:
                errand.fail(error)
            else:
                if value is None:
                    self._begin(errand)
                else:
                    errand.give(value)

        if not take(go):
            self._begin(errand)
        return await errand.result()

    def _errand(self, work: Callable[[], Coroutine[Any, Any, T]]) -> "_Errand[T]":
        if self._closing:
            raise StoreFailure("The event log is closed.")
        return _Errand(work, self._errands)

    def _begin(self, errand: "_Errand[Any]") -> None:
        self._loop.call_soon_threadsafe(self._take, errand)

    def _take(self, errand: "_Errand[Any]") -> None:
        task = self._loop.create_task(errand.carry_out())
        self._tasks.add(task)  # asyncio itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)

    async def finish(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs `work` when all that was handed over before has ended; the caller cannot be cancelled meanwhile.

        For the end of a block: an engine that is disposed of while a cancelled reader's question is still being answered
        would lose that connection unclosed.
        """

        async def last() -> None:
            await self._others()
            await work()

        with trio.CancelScope(shield=True):
            for errand in tuple(self._errands):
                await errand.done.wait()
            await self.run(last)

    async def close(self) -> None:
        """Waits for all work under way and ends the thread. Not cancellable."""
        await self.finish(self._others)
        self._closing = True
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()  # has nothing left to do


class _Errand(Generic[T]):
    """Work that is handed over, and what comes of it. (asyncio's own way across threads takes twice as long.)"""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]], under_way: "set[_Errand[Any]]"):
        self.done = trio.Event()
        self._work = work
        self._token = trio.lowlevel.current_trio_token()
        self._under_way = under_way
        self._value: T
        self._error: BaseException | None = None
        under_way.add(self)

    async def carry_out(self) -> None:
        try:
            value = await self._work()
        except BaseException as error:
            self.fail(error)
        else:
            self.give(value)

    def give(self, value: T) -> None:
        self._value = value
        self._report()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._report()

    def _report(self) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._end)

    def _end(self) -> None:
        self._under_way.discard(self)
        self.done.set()

    async def result(self) -> T:
        """Waits for what comes of it, and returns or raises that."""
        await self.done.wait()
        if self._error is not None:
            raise self._error
        return self._value


@asynccontextmanager
async def open_thread() -> AsyncGenerator[LoopThread, None]:
    """Starts the thread, and ends it when the block is left."""
    thread = LoopThread()
    try:
        yield thread
    finally:
        await thread.close()
