"""Keeps whole answers for a while, so that nobody pays twice for the same one. Memory only; cold after a restart."""

from collections import OrderedDict

import msgspec

from llmux.actors.actor import Actor, Message
from llmux.actors.journal import Journal
from llmux.clock import Clock
from llmux.config import Settings
from llmux.events import CacheCleared, NewEvent
from llmux.prompts import Chunk, Finish, ReasoningDelta, TextDelta, ToolCallDelta, Vectors


class CachedAnswer(msgspec.Struct, frozen=True):
    """An answer and where it came from. `chunks` end with a `Finish`."""

    provider: str
    account: str
    model: str
    chunks: tuple[Chunk, ...]


class ClearCache(Message[int], frozen=True):
    """Drop all answers; the reply is how many there were."""

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
    """

    def __init__(self, journal: Journal, settings: Settings, clock: Clock):
        super().__init__("cache", mailbox_max=settings.limits.mailbox_max, ask_ms_max=settings.limits.append_ms_max)
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

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

    def keep(self, fingerprint: str, answer: CachedAnswer) -> None:
        """Holds this answer for equal wishes from now on, as far as the bounds allow."""
        settings = self._settings
        size = sum(map(_size, answer.chunks))
        if size > settings.cache_bytes_max or settings.cache_entries_max == 0 or settings.cache_ttl_ms == 0:
            return
        if fingerprint in self._entries:
            self._drop(fingerprint)
        expires_at = self._clock.monotonic() + settings.cache_ttl_ms / 1000
        self._entries[fingerprint] = _Entry(answer, size, expires_at)
        self._bytes += size
        while len(self._entries) > settings.cache_entries_max or self._bytes > settings.cache_bytes_max:
            self._drop(next(iter(self._entries)))

    async def handle(self, message: ClearCache) -> int:
        entries = len(self._entries)
        fact = CacheCleared(entries=entries)
        await self._journal.append(NewEvent("cache", fact, self._clock.new_id(), principal=message.principal))
        self._entries.clear()
        self._bytes = 0
        return entries

    def _drop(self, fingerprint: str) -> None:
        self._bytes -= self._entries.pop(fingerprint).bytes


def _size(chunk: Chunk) -> int:
    """Roughly what a chunk costs in memory, in bytes."""
    match chunk:
        case TextDelta(text) | ReasoningDelta(text):
            return 64 + len(text.encode("utf-8", "replace"))
        case ToolCallDelta():
            return 128 + len(chunk.arguments.encode("utf-8", "replace"))
        case Vectors(values):
            return 64 + sum(len(vector) + 48 for vector in values)
        case Finish():
            return 256
