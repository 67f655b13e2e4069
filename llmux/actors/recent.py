"""The newest events of the log, kept in memory for all who follow it, and the news that there are more.

However many follow, what is recorded now is read from the disk by none of them: the journal hands it over after its commit.
Only who is further behind than this reaches back has to read the log itself.
"""

from collections import deque
from collections.abc import Iterable
from itertools import islice

import trio

from llmux.events import RecordedEvent

EVENTS_MAX = 1_000
BYTES_MAX = 4 * 1024 * 1024


class Recent:
    """A window on the end of the log, at most EVENTS_MAX events and BYTES_MAX bytes of facts. It begins empty, after `position`."""

    def __init__(self, position: int, *, events_max: int = EVENTS_MAX, bytes_max: int = BYTES_MAX):
        self.position = position
        """of the last event that was recorded"""
        self._events: deque[RecordedEvent] = deque()
        self._events_max, self._bytes_max = events_max, bytes_max
        self._bytes = 0
        self._news = trio.Event()

    def __repr__(self) -> str:
        return f"<Recent {len(self._events)} events to {self.position}, {self._bytes} bytes>"

    def add(self, recorded: Iterable[RecordedEvent]) -> None:
        """The next events, in their order. Everybody who waits is woken, once."""
        for event in recorded:
            if event.position != self.position + 1:  # the window has no holes
                self._events.clear()
                self._bytes = 0
            self._events.append(event)
            self._bytes += len(event.data)
            self.position = event.position
        while len(self._events) > self._events_max or (self._bytes > self._bytes_max and len(self._events) > 1):
            self._bytes -= len(self._events.popleft().data)
        self.wake()

    def wake(self) -> None:
        """Whoever waits for news looks again."""
        news, self._news = self._news, trio.Event()
        news.set()

    def after(self, position: int, limit: int) -> list[RecordedEvent] | None:
        """The next events after `position`, at most `limit`, or None when the window does not reach back so far."""
        behind = self.position - position
        if behind <= 0:
            return []
        if behind > len(self._events):
            return None
        first = len(self._events) - behind
        return list(islice(self._events, first, first + limit))

    async def news(self) -> None:
        """Returns when something was recorded after this call, or at `wake`."""
        await self._news.wait()
