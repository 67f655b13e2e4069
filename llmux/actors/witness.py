"""Witnesses the head of the log outside the database: in a file, and in a line on stderr."""

from collections.abc import Sequence
from pathlib import Path

import structlog

from llmux.actors.journal import Journal
from llmux.actors.upkeep import Job
from llmux.events import RecordedEvent
from llmux.eventstore import Witness

INTERVAL_S = 60.0
EVENTS_UNWITNESSED = 10_000
"""after so many events the witness does not wait for its time"""

log = structlog.get_logger()


class WitnessKeeper:
    """Writes the witness each minute in which the log has grown, after many events, and at the stop."""

    def __init__(self, journal: Journal, path: Path):
        self.path = path
        self.last: Witness | None = None
        """what this process wrote last"""
        self.job = Job("witness", INTERVAL_S, self.keep, at_start=True)
        self._journal = journal
        self._unwitnessed = 0
        journal.watch(self._observe)

    def __repr__(self) -> str:
        return f"<WitnessKeeper {self.path} at {self.last.position if self.last else 'nothing'}>"

    async def keep(self) -> None:
        """Writes the head as it is committed now, if it has moved. Raises StoreFailure when the file cannot be written."""
        store = self._journal.store
        if self.last is not None and self.last.head == store.head:
            return
        self._unwitnessed = 0
        self.last = await store.witness(self.path)
        log.info("head of the log", position=self.last.position, hash=self.last.hash)

    def _observe(self, recorded: Sequence[RecordedEvent]) -> None:
        self._unwitnessed += len(recorded)
        if self._unwitnessed >= EVENTS_UNWITNESSED:
            self.job.hurry()
