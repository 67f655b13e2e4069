"""Keeps responses for a while, so that a client can go on from one without sending the conversation again. Memory only.

A response is what one dialect wrote, as JSON; nothing in here looks inside. It is content: it never reaches the log or a file,
and a restart forgets it.
"""

from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from llmux.actors.upkeep import Job
from llmux.clock import Clock
from llmux.config import Limits

EXPIRE_EVERY_S = 60.0
_ENTRY_BYTES = 1_024
"""what a kept response costs beside its JSON, roughly"""


class Kept:
    """A response, what it answered, and the one it continues (which lives as long as this one does)."""

    def __init__(self, id: str, project: str, input: bytes, output: bytes, after: "Kept | None" = None):
        self.id, self.project = id, project
        self.input, self.output = input, output
        self.after = after
        self.holders = 0
        """the index, and each response that continues it"""
        self.expires_at = 0.0

    def __repr__(self) -> str:
        return f"<Kept {self.id} {self.bytes} bytes, {self.holders} holders>"

    @property
    def bytes(self) -> int:
        return _ENTRY_BYTES + len(self.input) + len(self.output)

    def conversation(self) -> "list[Kept]":
        """The responses that lead here, this one last."""
        return list(self._back())[::-1]

    def _back(self) -> "Iterator[Kept]":
        kept: Kept | None = self
        while kept is not None:
            yield kept
            kept = kept.after


class KeptStatistics(msgspec.Struct, frozen=True):
    """How many responses can be asked for, how much memory they and their conversations take, and the bounds on all that."""

    responses: int
    bytes: int
    responses_max: int
    bytes_max: int
    kept_ms_max: int


class KeptResponses:
    """Bounded in count, bytes and time: the oldest go first. Whose project it is, sees it; for others it does not exist."""

    def __init__(self, limits: Limits, clock: Clock):
        self._limits = limits
        self._clock = clock
        self._index: OrderedDict[str, Kept] = OrderedDict()
        self._bytes = 0
        self.job = Job("kept responses", EXPIRE_EVERY_S, self._expire)
        """takes texts out of memory when their time is over, also where nobody asks"""

    def __repr__(self) -> str:
        state = self.statistics()
        return f"<KeptResponses {state.responses} responses, {state.bytes} bytes>"

    def statistics(self) -> KeptStatistics:
        limits = self._limits
        return KeptStatistics(
            len(self._index),
            self._bytes,
            limits.kept_responses_max,
            limits.kept_responses_bytes_max,
            limits.kept_responses_ms_max,
        )

    def look(self, id: str, project: str) -> Kept | None:
        """The response of this id, if it is kept, in time, and of this project."""
        self._drop_expired()
        kept = self._index.get(id)
        return kept if kept is not None and kept.project == project else None

    def keep(self, kept: Kept) -> None:
        """Keeps a whole response from now on, as far as the bounds allow. Its id is new."""
        limits = self._limits
        self._drop_expired()
        kept.expires_at = self._clock.monotonic() + limits.kept_responses_ms_max / 1000
        self._index[kept.id] = kept
        self._hold(kept)
        while len(self._index) > limits.kept_responses_max or (
            self._index and self._bytes > limits.kept_responses_bytes_max
        ):
            self._drop(next(iter(self._index)))

    def forget(self, id: str, project: str) -> bool:
        """Drops a response; False when this project has none of that id. Those that continue it still know what it said."""
        if self.look(id, project) is None:
            return False
        self._drop(id)
        return True

    async def _expire(self) -> None:
        self._drop_expired()

    def _drop_expired(self) -> None:
        now = self._clock.monotonic()
        while self._index and next(iter(self._index.values())).expires_at <= now:
            self._drop(next(iter(self._index)))

    def _hold(self, kept: Kept) -> None:
        """One more holds `kept`. Who is held for the first time holds the one it continues."""
        held: Kept | None = kept
        while held is not None:
            held.holders += 1
            if held.holders > 1:
                return
            self._bytes += held.bytes
            held = held.after

    def _drop(self, id: str) -> None:
        kept: Kept | None = self._index.pop(id)
        while kept is not None:
            kept.holders -= 1
            if kept.holders > 0:
                return
            self._bytes -= kept.bytes
            kept = kept.after
