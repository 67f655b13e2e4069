"""Takes a snapshot every so many events, so that a start after a crash need not fold more than those."""

from collections.abc import Sequence

import structlog

from llmux.actors.journal import Journal
from llmux.actors.snapshots import STREAM, take
from llmux.actors.upkeep import Job
from llmux.clock import Clock
from llmux.config import Settings
from llmux.events import NewEvent, RecordedEvent

INTERVAL_S = 3_600.0

log = structlog.get_logger()


class Snapshots:
    """Hurries its job when enough was recorded since the last snapshot, or since what archiving has sealed."""

    def __init__(self, journal: Journal, settings: Settings, clock: Clock):
        self.job = Job("snapshot", INTERVAL_S, self.take)
        self._journal, self._settings, self._clock = journal, settings, clock
        journal.watch(self._observe)

    def __repr__(self) -> str:
        return f"<Snapshots {self.since} events since the last one>"

    @property
    def since(self) -> int:
        """Events that a start would have to fold."""
        facts = self._journal.facts
        return facts.position - max(facts.log.snapshot_through, facts.log.archived_through)

    async def take(self) -> None:
        """Takes one, if it is time. Raises StoreFailure when it cannot be recorded."""
        if self.since < self._settings.limits.snapshot_events:
            return
        try:
            fact = await take(self._journal.facts, self._settings.data_dir)
        except OSError as error:
            log.warning("no snapshot was written", error=error.strerror)
            return
        await self._journal.append(NewEvent(STREAM, fact, self._clock.new_id()))

    def _observe(self, recorded: Sequence[RecordedEvent]) -> None:
        if self.since >= self._settings.limits.snapshot_events:
            self.job.hurry()
