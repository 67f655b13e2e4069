"""Tasks that are started in order and stopped in reverse, one at a time."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio


class _Rung:
    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.done = trio.Event()


class Ladder:
    """Starts tasks in the nursery; `stop` cancels the last one, waits for its end, and goes on with the one before it."""

    def __init__(self, nursery: trio.Nursery):
        self._nursery = nursery
        self._rungs: list[_Rung] = []

    def __repr__(self) -> str:
        return f"<Ladder with {len(self._rungs)} rungs>"

    async def start(self, task: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Starts `task(*args, task_status=...)` and returns when it says that it has started."""
        rung = _Rung()
        await self._nursery.start(self._run, rung, task, args)
        self._rungs.append(rung)

    async def _run(
        self,
        rung: _Rung,
        task: Callable[..., Awaitable[None]],
        args: tuple[Any, ...],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        try:
            with rung.scope:
                await task(*args, task_status=task_status)
        finally:
            rung.done.set()

    async def stop(self, *, down_to: int = 0) -> None:
        """Stops all but the first `down_to` tasks: each is cancelled, and waited for, before the one below it."""
        while len(self._rungs) > down_to:
            rung = self._rungs.pop()
            rung.scope.cancel()
            await rung.done.wait()
