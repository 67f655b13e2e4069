"""Which version each stream has, as far as the writer remembers: so that most appends need not ask the database."""

from collections.abc import Iterable, Mapping, Sequence

from llmux.events import RecordedEvent
from llmux.eventstore.append import ANY, NO_STREAM, Appended, Plan, Prepared
from llmux.eventstore.chain import Head
from llmux.failures import StoreFailure

REMEMBERED = 10_000
"""streams: at least the last so many that were written to are remembered, at most twice as many"""


class Versions:
    """The last versions of streams. What is forgotten comes back as None, or as what `floor` says.

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

    def remembers(self, stream: str) -> bool:
        """Whether `of` says for certain where the stream is now. (What is in `floor` may have gone on, and be forgotten.)"""
        return stream in self._young or stream in self._old

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


def guess(
    entries: Sequence[Prepared | StoreFailure], head: Head, versions: Versions, now: int, key: bytes | None
) -> Plan | None:
    """The plan for a batch, if every stream that is not remembered is new, and every event id too; None where that is no ground.

    A wrong guess must not pass: the database refuses a version or an id that is there already, so each guess needs a row that
    it decides about, and nobody is refused for it.
    """
    known: dict[str, int] = {}
    for entry in entries:
        if isinstance(entry, StoreFailure):
            continue
        for draft in entry.drafts:
            version = versions.of(draft.event.stream)
            if version is not None:
                known[draft.event.stream] = version
        for stream, expected in entry.expected.items():
            version = versions.of(stream)
            decided = any(draft.event.stream == stream for draft in entry.drafts)
            if not decided and not versions.remembers(stream):
                return None  # no row would be refused if the guess were wrong
            if version is not None:
                known[stream] = version
            elif expected not in (ANY, NO_STREAM):
                return None
    plan = Plan(head, known, (), now, key).decide(entries)
    for entry, outcome in zip(entries, plan.outcomes, strict=True):
        if entry is not outcome and not (isinstance(outcome, Appended) and not outcome.repeated):
            return None
    return plan
