"""The one that writes: a batch of appends becomes one transaction. Lives on the asyncio thread, but for the short way.

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
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiosqlite
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from llmux.events import RecordedEvent
from llmux.eventstore.append import Appended, Outcome, Plan, Prepared
from llmux.eventstore.batch import Batch, Counts, all_failed
from llmux.eventstore.chain import EMPTY, Head
from llmux.eventstore.moving import empty_the_wal, give_back, move
from llmux.eventstore.origin import origin_of
from llmux.eventstore.sealing import Sealed
from llmux.eventstore.sqlite import BEGIN, DATABASE_ERRORS, failure_of, head_of, insert_after, look_up
from llmux.eventstore.table import EVENTS, INSERT, event_of, row_of
from llmux.eventstore.versions import Versions, guess
from llmux.failures import LogDamaged, OutcomeUnknown, StoreFailure, StoreFull

AT_ONCE_ROWS_MAX = 128
"""what one statement writes; a batch with more rows waits for the disk longer than for the detour"""


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
        self._gate = threading.Lock()
        self._stepping = False
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
            await self._connected()
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
        async with self._steps():
            await self._disconnect()

    @asynccontextmanager
    async def _steps(self) -> AsyncGenerator[None, None]:
        """Within the block nobody else uses the connection; what was handed to its thread before comes before."""
        async with self._turn:
            with self._gate:
                self._stepping = True
            try:
                yield
            finally:
                self._stepping = False

    async def append(self, batch: Batch) -> list[Outcome]:
        """One outcome per entry, in their order: the careful way. Never raises a StoreFailure."""
        async with self._steps():
            if batch.tried is not None and batch.tried.code == "store_busy" and await self._unmoved():
                outcomes = all_failed(batch.entries, batch.tried)  # the careful way would wait as long again
            else:
                if batch.tried is not None:
                    self._doubt()
                    await self._roll_back()
                outcomes = await self._carefully(batch.entries, batch.now)
            self.counts.count(outcomes)
        return outcomes

    # --- archives ---------------------------------------------------------------------------------------------------

    async def move(self, sealed: Sealed, entry: Prepared | StoreFailure, now: int) -> Outcome:
        """The sealed events leave the file, and `entry` says so, in one transaction. Never raises a StoreFailure."""
        async with self._steps():
            outcome = (await self._carefully([entry], now, partial(move, sealed=sealed)))[0]
            if isinstance(outcome, Appended) and not outcome.repeated:
                self._go_on_from(sealed.origin.head, sealed.origin.streams)
            self.counts.count([outcome])
        return outcome

    async def give_back(self, pages: int) -> int:
        """Gives free pages back to the file system and returns how many are left; with none left, also the room of the
        write-ahead log. Raises StoreFailure.
        """
        async with self._steps():
            try:
                driver = await self._connected()
                left = await give_back(driver, pages)
                if not left:
                    await empty_the_wal(driver)
                return left
            except DATABASE_ERRORS as error:
                raise failure_of(error) from error

    # --- the short way ----------------------------------------------------------------------------------------------

    def take(self, errand: Callable[[], None]) -> bool:
        """Has the connection's own thread call `errand`, in its turn; False while a transaction of several steps is open.

        From any thread. The loop's thread would only pass it on and back, and each change of threads costs more than SQLite
        needs for an event. (aiosqlite has no public name for its queue; SQLAlchemy puts into it as well.)
        """
        with self._gate:
            if self._stepping or self._driver is None or not self._driver._running:
                return False
            self._driver._tx.put_nowait((None, errand))
        return True

    def at_once(self, batch: Batch) -> list[Outcome] | None:
        """Writes the batch with one statement and returns its outcomes; None where `append` has to decide.

        On the connection's own thread, see `take`.
        """
        entries = batch.entries
        if not self._sure or self.head.position == 0:
            return None
        if not 0 < sum(len(entry.drafts) for entry in entries if isinstance(entry, Prepared)) <= AT_ONCE_ROWS_MAX:
            return None
        plan = guess(entries, self.head, self._versions, batch.now, self._key)
        if plan is None:
            return None
        try:
            self._write(*insert_after(self.head, [row_of(event) for event in plan.events]))
        except sqlite3.IntegrityError:
            return None
        except DATABASE_ERRORS as error:
            self.counts.failed += 1
            batch.tried = failure_of(error)
            if batch.tried.code != "store_busy":
                self._doubt()
            return None
        self._committed(plan)
        self.counts.count(plan.outcomes)
        return plan.outcomes

    def _write(self, statement: str, parameters: Sequence[Any]) -> None:
        assert self._driver is not None
        self._driver._conn.execute(statement, parameters)

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
            return all_failed(entries, failure)
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
