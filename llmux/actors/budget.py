"""How much room the log takes, and what follows when it is nearly all or all that it may take.

Measured once a minute and whenever enough was recorded to matter; what was recorded since is estimated. So a request costs a
comparison, no look at the disk.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
import structlog

from llmux.actors.journal import Journal
from llmux.actors.upkeep import Job
from llmux.events import RecordedEvent
from llmux.failures import StoreFull

INTERVAL_S = 60.0
WARN_PERCENT = 80
UNMEASURED_BYTES = 1024 * 1024
"""after so much, or a hundredth of the budget where that is less, the log is measured anew"""
EVENT_BYTES = 320
"""what an event takes beside its data, in the table and its indices"""

log = structlog.get_logger()


class LogSize(msgspec.Struct, frozen=True):
    """The room that the log takes; `bytes_max` is what it may take (0 = no limit)."""

    bytes: int
    bytes_max: int
    state: Literal["fine", "nearly full", "full"]


class Budget:
    """Knows the size of the log (the database without its free pages, and the write-ahead log)."""

    def __init__(self, journal: Journal, bytes_max: int):
        self.job = Job("log size", INTERVAL_S, self.measure, at_start=True)
        self._journal = journal
        self._bytes_max = bytes_max
        self._measured = self._since = 0
        self._told = "fine"
        journal.watch(self._observe)

    def __repr__(self) -> str:
        return f"<Budget {self.size()}>"

    def size(self) -> LogSize:
        """The room that the log takes now, as far as it is known."""
        used, most = self._measured + self._since, self._bytes_max
        if not most or used * 100 < most * WARN_PERCENT:
            return LogSize(used, most, "fine")
        return LogSize(used, most, "full" if used >= most else "nearly full")

    def check(self) -> None:
        """Raises StoreFull when the log has no room for new work. What is under way still ends, and is recorded."""
        if self._bytes_max and self._measured + self._since >= self._bytes_max:
            raise StoreFull(
                "The event log has taken all the room it may take, so no new requests are taken on. "
                "To go on: `llmux archive --before 30d`, or a larger LLMUX_LOG_BYTES_MAX."
            )

    async def measure(self) -> None:
        """Looks how large the log is. Says it once when it becomes nearly full, full, or neither. Raises StoreFailure."""
        before = self._since
        self._measured = await self._journal.store.used_bytes()
        self._since = max(0, self._since - before)  # what came meanwhile
        size = self.size()
        if size.state != self._told:
            self._told = size.state
            tell = log.info if size.state == "fine" else log.warning
            tell(f"the log is {size.state}", bytes=size.bytes, bytes_max=size.bytes_max)

    def _observe(self, recorded: Sequence[RecordedEvent]) -> None:
        for event in recorded:
            self._since += len(event.data) + EVENT_BYTES
        if self._told != "fine" or self._since >= min(UNMEASURED_BYTES, self._bytes_max // 100 or UNMEASURED_BYTES):
            self.job.hurry()
