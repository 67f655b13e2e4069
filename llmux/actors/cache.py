"""Keeps whole answers for a while, so that nobody pays twice for the same one: in memory, or in Redis, never on disk."""

from collections import OrderedDict

import msgspec

from llmux.actors.actor import Actor, Message
from llmux.actors.cached_answer import CachedAnswer
from llmux.actors.journal import Journal
from llmux.actors.shared_answers import SharedAnswers
from llmux.clock import Clock
from llmux.config import Settings
from llmux.events import CacheCleared, NewEvent


class ClearCache(Message[int], frozen=True):
    """Drop all answers; the reply is how many there were. Raises RedisAway or RedisRefused where they are shared."""

    principal: str


class CacheStatistics(msgspec.Struct, frozen=True):
    """How many answers are held, how large they are, and the bounds on both."""

    entries: int
    bytes: int
    entries_max: int
    bytes_max: int
    ttl_ms: int


class _Entry(msgspec.Struct):
    answer: CachedAnswer
    bytes: int
    expires_at: float


class Cache(Actor):
    """An exact cache: least recently used answers go first, and every answer after its time.

    Answers are runtime: `look` and `keep` act at once. Only what is a fact, a clearing, goes through the mailbox.

    With `shared`, all answers are there and none is in memory, so that a clearing, or an answer that replaces another, is the
    same for all gateways at once. Then `fetch` finds them, while the flight is under way that would make them otherwise.
    """

    def __init__(self, journal: Journal, settings: Settings, clock: Clock, shared: SharedAnswers | None = None):
        super().__init__("cache", mailbox_max=settings.limits.mailbox_max, ask_ms_max=settings.limits.append_ms_max)
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0
        self.shared = shared

    def counts(self) -> CacheStatistics:
        settings = self._settings
        return CacheStatistics(
            len(self._entries),
            self._bytes,
            settings.cache_entries_max,
            settings.cache_bytes_max,
            settings.cache_ttl_ms,
        )

    def look(self, fingerprint: str) -> CachedAnswer | None:
        """The answer for this fingerprint, if it is held and in time; it becomes the most recently used one."""
        entry = self._entries.get(fingerprint)
        if entry is None:
            return None
        if entry.expires_at <= self._clock.monotonic():
            self._drop(fingerprint)
            return None
        self._entries.move_to_end(fingerprint)
        return entry.answer

    async def fetch(self, fingerprint: str) -> CachedAnswer | None:
        """The answer for this fingerprint, if gateways share their answers and one of them has it. Never raises."""
        return await self.shared.look(fingerprint) if self.shared is not None and self._on else None

    async def store(self, fingerprint: str, answer: CachedAnswer, ttl_ms: int | None = None) -> None:
        """`keep`, wherever the answers are. Never raises, and returns when the next who asks finds the answer."""
        if self.shared is None:
            self.keep(fingerprint, answer, ttl_ms)
        elif self._on:
            await self.shared.keep(fingerprint, answer, ttl_ms or self._settings.cache_ttl_ms)

    def keep(self, fingerprint: str, answer: CachedAnswer, ttl_ms: int | None = None) -> None:
        """Holds this answer in memory for equal wishes from now on, as far as the bounds allow.

        `ttl_ms` None: for the configured time.
        """
        settings, size = self._settings, answer.bytes
        if size > settings.cache_bytes_max or not self._on:
            return
        if fingerprint in self._entries:
            self._drop(fingerprint)
        expires_at = self._clock.monotonic() + (ttl_ms or settings.cache_ttl_ms) / 1000
        self._entries[fingerprint] = _Entry(answer, size, expires_at)
        self._bytes += size
        while len(self._entries) > settings.cache_entries_max or self._bytes > settings.cache_bytes_max:
            self._drop(next(iter(self._entries)))

    async def handle(self, message: ClearCache) -> int:
        entries = len(self._entries)
        if self.shared is not None:
            entries += await self.shared.clear()
        fact = CacheCleared(entries=entries)
        await self._journal.append(NewEvent("cache", fact, self._clock.new_id(), principal=message.principal))
        self._entries.clear()
        self._bytes = 0
        return entries

    @property
    def _on(self) -> bool:
        return self._settings.cache_entries_max > 0 and self._settings.cache_ttl_ms > 0

    def _drop(self, fingerprint: str) -> None:
        self._bytes -= self._entries.pop(fingerprint).bytes
