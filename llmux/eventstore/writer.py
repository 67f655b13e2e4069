"""The one that writes: a batch of appends becomes one transaction. Lives on the asyncio thread.

The order is: look up, decide (pure, see `append`), write, commit, and only then move the head. Whatever fails before the
commit leaves the log and the head as they were. A commit that fails in a way that does not say whether it happened makes the
head unsure: the next append takes it from the disk.
"""

import asyncio
from collections.abc import Sequence
from copy import copy

import aiosqlite
import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from llmux.events import RecordedEvent
from llmux.eventstore.append import Outcome, Plan, Prepared
from llmux.eventstore.chain import EMPTY
from llmux.eventstore.sqlite import BEGIN, DATABASE_ERRORS, failure_of, head_of, look_up
from llmux.eventstore.table import EVENTS, INSERT, event_of, row_of
from llmux.failures import LogDamaged, OutcomeUnknown, StoreFailure, StoreFull


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
    """Appends to the log through one connection, one batch at a time. `head` is the end of what is committed."""

    def __init__(self, engine: AsyncEngine):
        self.head = EMPTY
        self.counts = Counts()
        self._engine = engine
        self._connection: AsyncConnection | None = None
        self._turn = asyncio.Lock()
        self._sure = False

    async def open(self) -> None:
        """Loads the head. Raises StoreFailure."""
        try:
            self._connection = await self._engine.connect()
            self.head = await head_of(self._connection)
        except DATABASE_ERRORS as error:
            raise failure_of(error) from error
        self._sure = True

    async def close(self) -> None:
        """Waits for the batch under way and closes the connection."""
        async with self._turn:
            await self._disconnect()

    async def append(self, entries: Sequence[Prepared | StoreFailure], now: int) -> list[Outcome]:
        """One outcome per entry, in their order. Never raises a StoreFailure."""
        async with self._turn:
            outcomes = await self._transact(entries, now)
        for outcome in outcomes:
            if isinstance(outcome, StoreFailure):
                self.counts.refused += 1
            elif outcome.repeated:
                self.counts.repeated += 1
            else:
                self.counts.appends += 1
                self.counts.events += len(outcome.events)
        return outcomes

    async def _transact(self, entries: Sequence[Prepared | StoreFailure], now: int) -> list[Outcome]:
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
            await driver.executemany(INSERT, [row_of(event) for event in plan.events])
            committing = True
            await driver.commit()
        except Exception as error:
            self.counts.failed += 1
            await self._roll_back()
            self._sure = self._sure and not committing
            if not isinstance(error, (*DATABASE_ERRORS, StoreFailure)):
                raise
            return _all_failed(entries, _failure(error, committing))
        self.head = plan.head
        self.counts.transactions += 1
        return plan.outcomes

    async def _plan(self, driver: aiosqlite.Connection, good: Sequence[Prepared], now: int) -> Plan:
        streams = {stream for entry in good for stream in entry.streams}
        ids = {draft.event.event_id for entry in good for draft in entry.drafts}
        head, versions, positions = await look_up(driver, streams, ids)
        if head != self.head and self._sure:
            raise LogDamaged(
                f"The log ends at position {head.position} with another hash or place than this process left it "
                f"(at {self.head.position}): something else has changed it. Stop the gateway and run `llmux verify`.",
                min(head.position, self.head.position) + 1,
            )
        self.head, self._sure = head, True
        return Plan(head, versions, await self._recorded(positions), now)

    async def _recorded(self, positions: Sequence[int]) -> list[RecordedEvent]:
        if not positions or self._connection is None:
            return []
        rows = await self._connection.execute(select(EVENTS).where(EVENTS.c.position.in_(positions)))
        return [event_of(row) for row in rows]

    async def _connected(self) -> aiosqlite.Connection:
        """The driver's own connection, which SQLAlchemy has opened and settled.

        Each call of the driver changes threads twice, and that costs more than SQLite needs for a small batch. A statement
        through SQLAlchemy is four such calls, a statement through the driver is one.
        """
        if self._connection is None:
            self._connection = await self._engine.connect()
        driver = (await self._connection.get_raw_connection()).driver_connection
        if not isinstance(driver, aiosqlite.Connection):
            raise TypeError("the engine of the event log is not one of aiosqlite")
        return driver

    async def _roll_back(self) -> None:
        """Ends the transaction, if there is one; a connection that cannot even do that is replaced."""
        try:
            if self._connection is not None:
                await (await self._connected()).rollback()
        except DATABASE_ERRORS:
            await self._disconnect(broken=True)

    async def _disconnect(self, *, broken: bool = False) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if broken:  # else the pool would hand it out again
            await connection.invalidate()
        await connection.close()


def _failure(error: Exception, committing: bool) -> StoreFailure:
    failure = failure_of(error)
    # Full and busy are said before the commit's last page is written; after anything else it may be on disk or not.
    if committing and not (isinstance(failure, StoreFull) or failure.code == "store_busy"):
        failure = OutcomeUnknown(f"It is not known whether the events were recorded. {failure}")
    failure.__cause__ = error if error is not failure else None
    return failure


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
