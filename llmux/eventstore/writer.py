"""The one that writes: a batch of appends becomes one transaction. Lives on the asyncio thread.

The careful way is: look up, decide (pure, see `append`), write, commit, and only then move the head. Whatever fails before
the commit leaves the log and the head as they were. A commit that fails in a way that does not say whether it happened makes
the head unsure: the next append takes it from the disk.

The short way is one statement, which is a transaction by itself. It rests on what the writer remembers (the head, and the
versions of streams), and on guesses: a stream it does not remember is new, and so is every event id. The statement breaks a
constraint unless the log ends with the remembered head, and if a stream's version or an event id is there already: so it
holds only if every guess was right. Whatever it comes to otherwise, the careful way decides.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from functools import partial

import aiosqlite
import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from llmux.events import RecordedEvent
from llmux.eventstore.append import ANY, NO_STREAM, Appended, Outcome, Plan, Prepared
from llmux.eventstore.chain import EMPTY, Head
from llmux.eventstore.moving import empty_the_wal, give_back, move
from llmux.eventstore.origin import origin_of
from llmux.eventstore.sealing import Sealed
from llmux.eventstore.sqlite import BEGIN, DATABASE_ERRORS, failure_of, head_of, insert_after, look_up
from llmux.eventstore.table import EVENTS, INSERT, event_of, row_of
from llmux.eventstore.versions import Versions
from llmux.failures import LogDamaged, OutcomeUnknown, StoreFailure, StoreFull

AT_ONCE_ROWS_MAX = 128
"""what one statement writes; a batch with more rows waits for the disk longer than for the detour"""


class Counts(msgspec.Struct):
    """What the writer has done since it was opened."""

    transactions: int = 0
    """commits: each is one fsync"""
    failed: int = 0
    """transactions that came to nothing, or whose outcome is unknown"""
    appends: int = 0
    events: int = 0
    repeated: int = 0
    refused: int = 0


class Writer:
    """Appends to the log through one connection, one batch at a time. `head` is the end of what is committed.

    `origin` and `versions` begin with what the file says about archived events, and go on when events move (`move`).
    """

    def __init__(self, engine: AsyncEngine, key: bytes | None = None):
        self.head = EMPTY
        self._key = key
        self.counts = Counts()
        self._engine = engine
        self._connection: AsyncConnection | None = None
        self._driver: aiosqlite.Connection | None = None
        self._turn = asyncio.Lock()
        self._sure = False
        self._origin = EMPTY
        self._versions = Versions({})

    async def open(self) -> None:
        """Loads the head. Raises StoreFailure."""
        try:
            self._connection = await self._engine.connect()
            origin = await origin_of(self._connection)
            self._go_on_from(origin.head, origin.streams)
            self.head = self._or_origin(await head_of(self._connection))
        except DATABASE_ERRORS as error:
            raise failure_of(error) from error
        self._sure = True

    def _go_on_from(self, head: Head, streams: Mapping[str, int]) -> None:
        """The events up to `head` are in archives now; `streams` holds the versions there of the streams that go on."""
        self._origin = head
        self._versions.floor = streams

    def _or_origin(self, head: Head) -> Head:
        """Where the log ends, if `head` is where its table ends."""
        return self._origin if head == EMPTY else head

    async def close(self) -> None:
        """Waits for the batch under way and closes the connection."""
        async with self._turn:
            await self._disconnect()

    async def append(self, entries: Sequence[Prepared | StoreFailure], now: int) -> list[Outcome]:
        """One outcome per entry, in their order. Never raises a StoreFailure."""
        async with self._turn:
            outcomes = await self._at_once(entries, now) or await self._carefully(entries, now)
        for outcome in outcomes:
            self._count(outcome)
        return outcomes

    def _count(self, outcome: Outcome) -> None:
        if isinstance(outcome, StoreFailure):
            self.counts.refused += 1
        elif outcome.repeated:
            self.counts.repeated += 1
        else:
            self.counts.appends += 1
            self.counts.events += len(outcome.events)

    # --- archives ---------------------------------------------------------------------------------------------------

    async def move(self, sealed: Sealed, entry: Prepared | StoreFailure, now: int) -> Outcome:
        """The sealed events leave the file, and `entry` says so, in one transaction. Never raises a StoreFailure."""
        async with self._turn:
            outcome = (await self._carefully([entry], now, partial(move, sealed=sealed)))[0]
            if isinstance(outcome, Appended) and not outcome.repeated:
                self._go_on_from(sealed.origin.head, sealed.origin.streams)
        self._count(outcome)
        return outcome

    async def give_back(self, pages: int) -> int:
        """Gives free pages back to the file system and returns how many are left; with none left, also the room of the
        write-ahead log. Raises StoreFailure.
        """
        async with self._turn:
            try:
                driver = await self._connected()
                left = await give_back(driver, pages)
                if not left:
                    await empty_the_wal(driver)
                return left
            except DATABASE_ERRORS as error:
                raise failure_of(error) from error

    # --- the short way ----------------------------------------------------------------------------------------------

    async def _at_once(self, entries: Sequence[Prepared | StoreFailure], now: int) -> list[Outcome] | None:
        """Writes the batch with one statement and returns its outcomes; None when the careful way has to decide."""
        plan = self._guess(entries, now)
        if plan is None:
            return None
        try:
            driver = await self._connected()
            await driver.execute(*insert_after(self.head, [row_of(event) for event in plan.events]))
        except sqlite3.IntegrityError:
            return None
        except DATABASE_ERRORS as error:
            failure = failure_of(error)
            self.counts.failed += 1
            if failure.code == "store_busy" and await self._unmoved():  # the careful way would wait as long again
                return _all_failed(entries, failure)
            self._doubt()
            await self._roll_back()
            return None
        self._committed(plan)
        return plan.outcomes

    def _guess(self, entries: Sequence[Prepared | StoreFailure], now: int) -> Plan | None:
        """The plan that follows from what is remembered, if it can be carried out at once and is safe with a wrong guess."""
        if not self._sure or self.head.position == 0:
            return None
        rows, versions = 0, {}
        for entry in entries:
            if isinstance(entry, StoreFailure):
                continue
            rows += len(entry.drafts)
            for draft in entry.drafts:
                version = self._versions.of(draft.event.stream)
                if version is not None:
                    versions[draft.event.stream] = version
            for stream, expected in entry.expected.items():
                version = self._versions.of(stream)
                if version is not None:
                    versions[stream] = version
                elif expected not in (ANY, NO_STREAM) or all(draft.event.stream != stream for draft in entry.drafts):
                    return None  # no row would be refused if the guess were wrong
        if not 0 < rows <= AT_ONCE_ROWS_MAX:
            return None
        plan = Plan(self.head, versions, (), now, self._key).decide(entries)
        for entry, outcome in zip(entries, plan.outcomes, strict=True):
            if entry is not outcome and not (isinstance(outcome, Appended) and not outcome.repeated):
                return None  # a guess is no ground to refuse anybody
        return plan

    # --- the careful way --------------------------------------------------------------------------------------------

    async def _carefully(
        self,
        entries: Sequence[Prepared | StoreFailure],
        now: int,
        also: Callable[[aiosqlite.Connection], Awaitable[None]] | None = None,
    ) -> list[Outcome]:
        good = [entry for entry in entries if isinstance(entry, Prepared)]
        if not good:
            return [entry for entry in entries if isinstance(entry, StoreFailure)]
        committing = False
        try:
            driver = await self._connected()
            await driver.execute(BEGIN)
            plan = (await self._plan(driver, good, now)).decide(entries)
            if not plan.events:
                await self._roll_back()
                return plan.outcomes
            if also is not None:
                await also(driver)
            await driver.executemany(INSERT, [row_of(event) for event in plan.events])
            committing = True
            await driver.commit()
        except Exception as error:
            self.counts.failed += 1
            await self._roll_back()
            if committing:
                self._doubt()
            if not isinstance(error, (*DATABASE_ERRORS, StoreFailure)):
                raise
            failure = failure_of(error)
            if committing and not (_is_harmless(failure) and await self._unmoved()):
                failure = OutcomeUnknown(f"It is not known whether the events were recorded. {failure}")
            failure.__cause__ = error if error is not failure else None
            return _all_failed(entries, failure)
        self._committed(plan)
        return plan.outcomes

    async def _plan(self, driver: aiosqlite.Connection, good: Sequence[Prepared], now: int) -> Plan:
        streams = {stream for entry in good for stream in entry.streams}
        ids = {draft.event.event_id for entry in good for draft in entry.drafts}
        head, versions, positions = await look_up(driver, streams, ids)
        if not self._sure and self._connection is not None:  # it may have been a move that was in doubt
            origin = await origin_of(self._connection)
            self._go_on_from(origin.head, origin.streams)
        head = self._or_origin(head)
        if head != self.head and self._sure:
            raise LogDamaged(
                f"The log ends at position {head.position} with another hash or place than this process left it "
                f"(at {self.head.position}): something else has changed it. Stop the gateway and run `llmux verify`.",
                min(head.position, self.head.position) + 1,
            )
        self.head, self._sure = head, True
        archived = {stream: self._versions.floor[stream] for stream in streams & self._versions.floor.keys()}
        return Plan(head, archived | versions, await self._recorded(positions), now, self._key)

    async def _recorded(self, positions: Sequence[int]) -> list[RecordedEvent]:
        if not positions or self._connection is None:
            return []
        rows = await self._connection.execute(select(EVENTS).where(EVENTS.c.position.in_(positions)))
        return [event_of(row) for row in rows]

    def _committed(self, plan: Plan) -> None:
        self.head = plan.head
        self._versions.note(plan.events)
        self.counts.transactions += 1

    def _doubt(self) -> None:
        """A commit may have happened or not: what is remembered may be too old."""
        self._sure = False
        self._versions.forget()

    async def _connected(self) -> aiosqlite.Connection:
        """The driver's own connection, which SQLAlchemy has opened and settled.

        Each call of the driver changes threads twice, and that costs more than SQLite needs for a small batch. A statement
        through SQLAlchemy is four such calls, a statement through the driver is one.
        """
        if self._connection is None:
            self._connection = await self._engine.connect()
        if self._driver is None:
            driver = (await self._connection.get_raw_connection()).driver_connection
            if not isinstance(driver, aiosqlite.Connection):
                raise TypeError("the engine of the event log is not one of aiosqlite")
            self._driver = driver
        return self._driver

    async def _unmoved(self) -> bool:
        """Whether the log is seen to end where it did before."""
        try:
            await self._connected()
            assert self._connection is not None
            return self._or_origin(await head_of(self._connection)) == self.head
        except DATABASE_ERRORS:
            return False

    async def _roll_back(self) -> None:
        """Ends the transaction, if there is one; a connection that cannot even do that is replaced."""
        try:
            if self._connection is not None:
                await (await self._connected()).rollback()
        except DATABASE_ERRORS:
            await self._disconnect(broken=True)

    async def _disconnect(self, *, broken: bool = False) -> None:
        connection, self._connection = self._connection, None
        self._driver = None
        if connection is None:
            return
        if broken:  # else the pool would hand it out again
            await connection.invalidate()
        await connection.close()


def _is_harmless(failure: StoreFailure) -> bool:
    """Whether it is said before a commit's last page is written. After anything else the events may be on disk or not."""
    return isinstance(failure, StoreFull) or failure.code == "store_busy"


def _all_failed(entries: Sequence[Prepared | StoreFailure], failure: StoreFailure) -> list[Outcome]:
    """The same failure for all that would have been written, as an exception of its own for each who waits."""
    outcomes: list[Outcome] = []
    for entry in entries:
        if not isinstance(entry, StoreFailure):
            entry_failure = copy(failure)
            entry_failure.__cause__ = failure.__cause__
            outcomes.append(entry_failure)
        else:
            outcomes.append(entry)
    return outcomes
