"""Answers that can be told again under their idempotency key, for a bounded time. Memory only.

They are not the cache's: that one gives an answer to every equal wish, but not those that were asked for without it, and a client
that turns the cache off still may not pay twice for one key.
"""

from collections import OrderedDict

import msgspec

from llmux.actors.cached_answer import CachedAnswer
from llmux.actors.resumables import weight_of
from llmux.clock import Clock
from llmux.config import Limits


class _Entry(msgspec.Struct):
    fingerprint: str
    answer: CachedAnswer
    bytes: int
    expires_at: float


class KeptAnswers:
    """Answers by the name of their key. The oldest go first: a client that lost an answer asks again soon."""

    def __init__(self, limits: Limits, clock: Clock):
        self._limits, self._clock = limits, clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self.bytes = 0
        """what they weigh together, roughly"""

    def __repr__(self) -> str:
        return f"<KeptAnswers {len(self)} of {self.bytes} bytes>"

    def __len__(self) -> int:
        return len(self._entries)

    def look(self, name: str, fingerprint: str) -> CachedAnswer | None:
        """The answer to what has this fingerprint, if it is still held under this name."""
        self._expire()
        entry = self._entries.get(name)
        return entry.answer if entry is not None and entry.fingerprint == fingerprint else None

    def keep(self, name: str, fingerprint: str, answer: CachedAnswer) -> None:
        """Holds this answer from now on, as far as the bounds allow. One that is held already keeps its time."""
        self._expire()
        limits, known = self._limits, self._entries.get(name)
        if known is not None and known.answer is answer:
            return
        self._drop(name)
        size = sum(map(weight_of, answer.chunks))
        if size > limits.idempotency_bytes_max:
            return
        expires_at = self._clock.monotonic() + limits.idempotency_answer_ms_max / 1000
        self._entries[name] = _Entry(fingerprint, answer, size, expires_at)
        self.bytes += size
        while len(self) > limits.idempotency_answers_max or self.bytes > limits.idempotency_bytes_max:
            self._drop(next(iter(self._entries)))

    def _expire(self) -> None:
        """All have the same time to live, so the first are the first to go."""
        now = self._clock.monotonic()
        while self._entries and (oldest := next(iter(self._entries.items())))[1].expires_at <= now:
            self._drop(oldest[0])

    def _drop(self, name: str) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self.bytes -= entry.bytes
