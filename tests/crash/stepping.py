"""Cancelling at the k-th step: of one task, or of everything that runs."""

from collections.abc import Callable
from contextlib import contextmanager

import trio


class AtStep(trio.abc.Instrument):
    """Calls `strike` right after the `nth` step of the tasks that are `watched` (by default all)."""

    def __init__(
        self, nth: int, strike: Callable[[], object], watched: Callable[[trio.lowlevel.Task], bool] | None = None
    ):
        self._left = nth
        self._strike, self._watched = strike, watched
        self.struck = False

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.struck or (self._watched is not None and not self._watched(task)):
            return
        self._left -= 1
        if self._left <= 0:
            self.struck = True
            self._strike()


@contextmanager
def striking(instrument: AtStep):
    """The instrument counts within the block."""
    trio.lowlevel.add_instrument(instrument)
    try:
        yield instrument
    finally:
        trio.lowlevel.remove_instrument(instrument)
