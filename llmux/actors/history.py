"""What the log tells those who administrate the gateway: its head, its events page by page or as they come, its state at any moment."""

from collections.abc import Collection

import msgspec
import trio

from llmux.actors import facts as fold
from llmux.actors.facts import Facts
from llmux.actors.facts.house import FOLDS
from llmux.actors.journal import Journal
from llmux.actors.moments import iso, position_at
from llmux.actors.replaying import replay
from llmux.actors.snapshots import json_of
from llmux.actors.stories import Story, story_of, streams_of
from llmux.events import TYPES, RecordedEvent
from llmux.failures import ClientFailure, Overloaded, printable

PAGE_EVENTS_MAX = 1_000
SCAN_POSITIONS_MAX = 50_000
"""how many positions one page looks at when few of them match: then the page is short, or even empty, and there is a next one"""
FOLDED_AT_ONCE = 1_500
"""events between two moments in which everybody else has their turn"""
FEED_EVENTS = 200
"""events a feed hands out at once"""
FEED_PACE_S = 0.05
"""a feed that has all there was gives what comes within this time at one go: then hundreds of them do not slow the log down"""
FEEDS_READING_MAX = 2
"""feeds that read from the disk at the same time; the others wait for their turn"""


class Wanted(msgspec.Struct, frozen=True):
    """Which events are wanted: those that match whatever is given. `recorded_from` and `recorded_to` are wall times in ms,
    both included.
    """

    streams: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    principal: str | None = None
    recorded_from: int | None = None
    recorded_to: int | None = None

    def matches(self, event: RecordedEvent) -> bool:
        """Whether this event is wanted."""
        return (
            (not self.streams or event.stream in self.streams)
            and (not self.types or event.type in self.types)
            and (self.principal is None or event.principal == self.principal)
            and (self.recorded_from is None or event.recorded_at >= self.recorded_from)
            and (self.recorded_to is None or event.recorded_at <= self.recorded_to)
        )


class Page(msgspec.Struct, frozen=True):
    """Some events. `next` is where the next page begins, None when there is none (yet): the `after` of the same question, or
    its `until` where the newest come first. What lies before `archived_through` was read from the archives.
    """

    events: list[RecordedEvent]
    next: int | None
    head: int
    archived_through: int


class LogHead(msgspec.Struct, frozen=True, rename="camel"):
    """The end of the log, its size, and what of it is in the database: `events` of them, those after `archived_through`."""

    position: int
    hash: str
    recorded_at: str | None
    events: int
    archived_through: int
    archives: int
    database_bytes: int
    wal_bytes: int


class State(msgspec.Struct, frozen=True):
    """The facts after `position`, as JSON; `at` is when its event was recorded (None for the empty log)."""

    position: int
    at: str | None
    state: msgspec.Raw


class History:
    """Answers questions about the log, beside the work of the gateway and without holding it up."""

    def __init__(self, journal: Journal):
        self._journal = journal
        self._log = journal.store
        self._folding = trio.CapacityLimiter(1)
        self._encoding = trio.CapacityLimiter(1)
        self._catching_up = trio.CapacityLimiter(FEEDS_READING_MAX)
        self.closed = False
        """nobody follows the log any more: the gateway stops"""

    def __repr__(self) -> str:
        return f"<History {'closed' if self.closed else 'open'} head={self._journal.facts.position}>"

    def close(self) -> None:
        """Every feed ends."""
        self.closed = True
        self._journal.recent.wake()

    async def head(self) -> LogHead:
        """The end of the log as it is on disk."""
        head, counts = self._log.head, self._log.statistics()
        log = self._journal.facts.log
        return LogHead(
            position=head.position,
            hash=head.hash.hex(),
            recorded_at=await self._recorded_at(head.position),
            events=head.position - log.archived_through,
            archived_through=log.archived_through,
            archives=log.archives,
            database_bytes=counts.database_bytes,
            wal_bytes=counts.wal_bytes,
        )

    async def page(
        self, wanted: Wanted, *, after: int = 0, until: int | None = None, limit: int, newest_first: bool = False
    ) -> Page:
        """At most `limit` events with `after` < position <= `until`. Looks at SCAN_POSITIONS_MAX positions at most, except
        where `wanted` names streams: what of these is in the database is found by an index.
        """
        head = self._journal.facts.position
        archived = self._journal.facts.log.archived_through
        first, last = after, min(head if until is None else until, head)
        low, high = first, last
        if newest_first:
            low = max(first, archived if wanted.streams and last > archived else last - SCAN_POSITIONS_MAX)
        elif not wanted.streams or first < archived:
            high = min(last, first + SCAN_POSITIONS_MAX)
        events = await self._read(wanted, low, high, limit, newest_first) if low < high else []
        if newest_first:
            reached = events[-1].position - 1 if len(events) == limit else low
            following = reached if reached > first else None
        else:
            reached = events[-1].position if len(events) == limit else high
            following = reached if reached < last else None
        return Page(events, following, head, archived)

    async def _read(
        self, wanted: Wanted, after: int, until: int, limit: int, newest_first: bool = False
    ) -> list[RecordedEvent]:
        return await self._log.read(
            after=after,
            until=until,
            limit=limit,
            streams=wanted.streams,
            types=wanted.types,
            principal=wanted.principal,
            recorded_from=wanted.recorded_from,
            recorded_to=wanted.recorded_to,
            newest_first=newest_first,
        )

    def follow(self, wanted: Wanted, *, after: int) -> "Feed":
        """What the log has after this position and will have. Raises ClientFailure when it has not come so far yet."""
        head = self._journal.facts.position
        if after > head:
            raise ClientFailure(
                f"The log ends at position {head}: nothing can be followed from {after} on.", param="after"
            )
        return Feed(self, wanted, after)

    async def story(self, id: str) -> Story:
        """What became of the request with this id. Raises ClientFailure (400, 404)."""
        return await story_of(self._log, id)

    async def streams(self, request: str) -> frozenset[str]:
        """The streams with the events of a request. Raises ClientFailure (400, 404)."""
        return frozenset(await streams_of(self._log, request))

    async def state(self, at: str | None = None, actor: str | None = None) -> State:
        """The facts of all actors, or of one, now or `at` a moment: a position, or a time.

        Only one past state is folded at a time, in pages, so that the gateway's work goes on. Raises ClientFailure for a
        moment or an actor that is none, and Overloaded while another one is being folded.
        """
        if actor is not None and actor not in FOLDS:
            known = ", ".join(FOLDS)
            raise ClientFailure(f"actor: there is no '{printable(actor, 40)}'. There are: {known}.", param="actor")
        facts = await self.facts(at)
        state = await trio.to_thread.run_sync(_told, facts, actor, limiter=self._encoding)
        return State(facts.position, await self._recorded_at(facts.position), state)

    async def facts(self, at: str | None = None) -> Facts:
        """The facts now, or `at` a moment: a position, or a time. Raises as `state` does."""
        return self._journal.facts if at is None else await self._facts_at(at)

    async def _facts_at(self, at: str) -> Facts:
        until = await position_at(self._log, at)
        try:
            self._folding.acquire_nowait()
        except trio.WouldBlock:
            raise Overloaded("Another state of the past is being folded. Try again when that is done.") from None
        try:
            return await replay(self._log, until=until, page=FOLDED_AT_ONCE)
        finally:
            self._folding.release()

    async def _recorded_at(self, position: int) -> str | None:
        found = await self._log.read(after=position - 1, limit=1, until=position) if position else []
        return iso(found[0].recorded_at) if found else None


class Feed:
    """The events of the log as they come: `while events := await feed.next()`. Holds no event that was not asked for."""

    def __init__(self, history: History, wanted: Wanted, after: int):
        self._history, self._wanted = history, wanted
        self._recent = history._journal.recent
        self.position = after
        """up to here everything that matches has been returned"""
        self._gave_at = float("-inf")

    def __repr__(self) -> str:
        return f"<Feed at {self.position} of {self._recent.position}>"

    async def next(self) -> list[RecordedEvent]:
        """The next events that match, at least one; none when the gateway stops. Can be cancelled and called again."""
        while not self._history.closed:
            recent = self._recent.after(self.position, FEED_EVENTS)
            if recent is None:
                found = await self._from_disk()
            elif recent:
                if len(recent) < FEED_EVENTS:
                    await trio.sleep_until(self._gave_at + FEED_PACE_S)
                    recent = self._recent.after(self.position, FEED_EVENTS)
                found = self._matching(recent or [])
            else:
                await self._recent.news()
                continue
            if found:
                self._gave_at = trio.current_time()
                return found
        return []

    def _matching(self, recent: list[RecordedEvent]) -> list[RecordedEvent]:
        if recent:
            self.position = recent[-1].position
        return [event for event in recent if self._wanted.matches(event)]

    async def _from_disk(self) -> list[RecordedEvent]:
        until = min(self.position + SCAN_POSITIONS_MAX, self._recent.position)
        async with self._history._catching_up:
            found = await self._history._read(self._wanted, self.position, until, FEED_EVENTS)
        self.position = found[-1].position if len(found) == FEED_EVENTS else until
        return found


def _told(facts: Facts, actor: str | None) -> msgspec.Raw:
    """The facts of all actors, or of one, as JSON. Facts never change: any thread may read them."""
    state = fold.plain(facts) if actor is None else {actor: FOLDS[actor].plain(getattr(facts, actor))}
    state.pop("position", None)
    return msgspec.Raw(json_of(state))


def known_types(types: Collection[str]) -> frozenset[str]:
    """These types, each of which an event can have. Raises ClientFailure."""
    for each in types:
        if each not in TYPES:
            raise ClientFailure(f"type: no event is called '{printable(each, 60)}'.", param="type")
    return frozenset(types)
