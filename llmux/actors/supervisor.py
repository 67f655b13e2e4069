"""Restarts actors that crash: one for one, with backoff, and not for ever."""

from collections import deque

import trio

from llmux import events
from llmux.actors.actor import Actor
from llmux.actors.journal import Journal
from llmux.clock import Clock
from llmux.config import Limits
from llmux.failures import ActorCrashed, LLMuxError


class Supervisor:
    """Runs actors and starts them again when they crash, at most `restarts_max` times in `restart_window_ms` each.

    An actor past that limit is given up: whoever asks it gets ActorCrashed, and `degraded` names it.
    """

    def __init__(self, journal: Journal, clock: Clock, limits: Limits):
        self._journal = journal
        self._clock = clock
        self._limits = limits
        self.degraded: set[str] = set()
        """the names of the actors that were given up"""

    def __repr__(self) -> str:
        return f"<Supervisor degraded={sorted(self.degraded)}>"

    async def watch(self, actor: Actor, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs `actor` until cancelled or given up."""
        crashes: deque[float] = deque()
        status = _Once(task_status)
        while True:
            error = await self._run_once(actor, status)
            status.started()  # an actor that crashes at its very start must not hold the start of the others
            now = self._clock.monotonic()
            crashes.append(now)
            while crashes[0] < now - self._limits.restart_window_ms / 1000:
                crashes.popleft()
            await self._record(events.ActorCrashed(actor=actor.name, error=type(error).__name__))
            if len(crashes) > self._limits.restarts_max:
                self.degraded.add(actor.name)
                actor.leave(ActorCrashed(f"The actor {actor.name} crashed too often and was given up."))
                return
            await trio.sleep(0.05 * 2 ** (len(crashes) - 1))
            await self._record(events.ActorRestarted(actor=actor.name, restarts=len(crashes)))

    async def _run_once(self, actor: Actor, task_status: trio.TaskStatus[None]) -> Exception:
        try:
            await actor.run(task_status=task_status)
        except Exception as error:
            return leaf(error)
        return RuntimeError(f"the actor {actor.name} returned")

    async def _record(self, fact: events.Event) -> None:
        try:
            await self._journal.append(events.NewEvent("gateway", fact, self._clock.new_id()))
        except LLMuxError:
            return  # the store is in trouble itself: supervision goes on without the note


class _Once:
    """A task status that may be told more than once that the task has started."""

    def __init__(self, task_status: trio.TaskStatus[None]):
        self._task_status: trio.TaskStatus[None] | None = task_status

    def started(self, value: None = None) -> None:
        told, self._task_status = self._task_status, None
        if told is not None:
            told.started()


def leaf(error: Exception) -> Exception:
    """The first plain exception inside a (possibly nested) group."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
