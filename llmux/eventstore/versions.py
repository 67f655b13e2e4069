"""Which version each stream has, as far as the writer remembers: so that most appends need not ask the database."""

from collections.abc import Iterable, Mapping

from llmux.events import RecordedEvent

REMEMBERED = 10_000
"""streams: at least the last so many that were written to are remembered, at most twice as many"""


class Versions:
    """The last versions of streams. What is forgotten comes back as None; what is said was true when it was noted.

    `floor` holds the streams that go on although their events up to that version have moved into archives. It is never
    forgotten, and a stream that has gone on since is beyond it.
    """

    def __init__(self, floor: Mapping[str, int]):
        self.floor = floor
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}

    def of(self, stream: str) -> int | None:
        """The version of the stream's last event, or None: there is no such stream, or it is forgotten."""
        version = self._young.get(stream)
        if version is None:
            version = self._old.get(stream)
        return self.floor.get(stream) if version is None else version

    def note(self, events: Iterable[RecordedEvent]) -> None:
        """These events have been committed."""
        young = self._young
        for event in events:
            young[event.stream] = event.version
        if len(young) >= REMEMBERED:
            self._young, self._old = {}, young

    def forget(self) -> None:
        """Nobody knows any more what was committed."""
        self._young, self._old = {}, {}
