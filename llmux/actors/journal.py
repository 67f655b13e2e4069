"""The one door to the log: groups the appends of all who wait into one transaction, then moves all facts, then replies.

Commit -> evolve -> reply: a reply means that the fact is on disk and that every reader sees it.

A store in trouble stops nobody for good. What was committed without our hearing of it is read from the log before anything
later is folded, and an end that nobody could record in time is owed: it is recorded as soon as the store can.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec
import structlog
import trio

from llmux.actors.actor import Actor, Message, Reply
from llmux.actors.facts import Facts, evolve
from llmux.actors.recent import Recent
from llmux.config import Limits
from llmux.events import NewEvent, RecordedEvent
from llmux.eventstore import Append, Outcome, Sealed, Store
from llmux.failures import (
    EventIdReused,
    EventMalformed,
    LLMuxError,
    OutcomeUnknown,
    Overloaded,
    ShuttingDown,
    StoreFailure,
    WrongExpectedVersion,
)

END_TRIES = 3
END_WAIT_S = 1.0

log = structlog.get_logger()

Watch = Callable[[tuple[RecordedEvent, ...]], None]
"""Called after each commit with what was recorded. Never waits, never raises."""


class Record(Message[tuple[RecordedEvent, ...]], frozen=True):
    """Append these events, all or none. `expected` names the version that a stream must have."""

    events: tuple[NewEvent, ...]
    expected: Mapping[str, int] = {}


class Move(Record, frozen=True, kw_only=True):
    """Append this one event, which says that a part of the log is sealed in an archive; that part leaves the database with it."""

    sealed: Sealed


class JournalStatistics(msgspec.Struct, frozen=True):
    """Commits, events and refused appends since the start, how many wait, how many ends are owed, and how long appends take."""

    waiting: int
    commits: int
    events: int
    refused: int
    position: int
    owed: int
    append_ms_last: float
    """from handing a batch over to the log until its events are on disk and known"""
    append_ms_mean: float


class Journal(Actor):
    """Appends, and publishes the facts that follow.

    A crash in here, or an `evolve` that raises, is not survivable: `run` ends with the exception and so does the process.
    """

    def __init__(self, store: Store, facts: Facts, limits: Limits, watch: Watch):
        super().__init__("journal", mailbox_max=limits.mailbox_max, ask_ms_max=limits.append_ms_max)
        self._store = store
        self._limits = limits
        self._watches = [watch]
        self.facts = facts
        """the facts as of the last commit: frozen, anybody in the process may read them"""
        self.recent = Recent(facts.position)
        """the newest events, for those who follow the log"""
        self._commits = self._events = self._refused = self._batches = 0
        self._append_s_last = self._append_s_all = 0.0
        self._owed: list[Record] = []
        """ends that could not be recorded in time"""
        self._unheard = False
        """the log may hold events that the facts do not know of"""
        self._idle = trio.CancelScope()
        """the wait for the next append, which has an end where there is something to make up for"""

    @property
    def store(self) -> Store:
        """The log itself, to read it: what appends to it passes by everybody's facts."""
        return self._store

    def watch(self, watch: Watch) -> None:
        """Tells `watch` of every commit from now on."""
        self._watches.append(watch)

    def counts(self) -> JournalStatistics:
        return JournalStatistics(
            self.statistics().waiting,
            self._commits,
            self._events,
            self._refused,
            self.facts.position,
            len(self._owed),
            self._append_s_last * 1000,
            self._append_s_all * 1000 / max(1, self._batches),
        )

    async def append(self, *events: NewEvent, expected: Mapping[str, int] | None = None) -> tuple[RecordedEvent, ...]:
        """Records `events` atomically and returns them as recorded, once they are on disk and in the facts.

        Raises a StoreFailure, or Overloaded or ShuttingDown when the append was not even taken. An outcome that is unknown
        is found out by appending again, once; if it stays unknown, OutcomeUnknown is raised. Cancelling the caller does not
        take the events back.
        """
        return await self._recorded(Record(events, expected or {}))

    async def move(self, sealed: Sealed, event: NewEvent) -> tuple[RecordedEvent, ...]:
        """As `append`, for the event that says that a part of the log is sealed: that part leaves the database with it."""
        return await self._recorded(Move((event,), sealed=sealed))

    async def _recorded(self, record: Record) -> tuple[RecordedEvent, ...]:
        try:
            return await self._ask(record)
        except OutcomeUnknown as unknown:
            try:
                return await self._ask(record)
            except (WrongExpectedVersion, EventIdReused, EventMalformed):
                raise
            except LLMuxError:  # of the first time, this says nothing
                raise unknown from None

    async def _ask(self, record: Record) -> tuple[RecordedEvent, ...]:
        """As `ask`, without a deadline of its own, which would cost more than the fold: `_record` has one for the whole batch."""
        reply = Reply()
        self._post(record, reply)
        recorded: tuple[RecordedEvent, ...] = await reply.get()
        return recorded

    async def append_end(self, *events: NewEvent) -> None:
        """Records events that end something, which nobody else will do: as `append`, but a store in trouble is tried again.

        Not cancellable, and bounded: END_TRIES tries, END_WAIT_S apart. Raises what the last of them failed with; the events
        are then owed (see `owe`).
        """
        with trio.CancelScope(shield=True):
            for tries_left in reversed(range(END_TRIES)):
                try:
                    await self.append(*events)
                    return
                except (StoreFailure, Overloaded):
                    if not tries_left:
                        self.owe(*events)
                        raise
                    await trio.sleep(END_WAIT_S)

    def owe(self, *events: NewEvent) -> None:
        """Records `events` as soon as the store can, in the order of these calls. A crash before that forgets them."""
        if len(self._owed) < self._limits.mailbox_max:  # the next start closes what stays open
            self._owed.append(Record(events))
            self._idle.deadline = min(self._idle.deadline, trio.current_time() + END_WAIT_S)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            while True:
                await self._commit(await self._next_batch())
        finally:
            self.leave(
                ShuttingDown("The event log is closed.")
            )  # there is no second journal: nobody shall wait for one

    async def _next_batch(self) -> list[tuple[Record, Reply | None]]:
        """What is owed, the next append, and all others that wait behind it, as far as one transaction goes.

        With something to make up for, the next append is awaited for END_WAIT_S at most.
        """
        batch: list[tuple[Any, Reply | None]] = []
        wait_s = END_WAIT_S if self._owed or self._unheard else math.inf
        self._idle = trio.CancelScope(deadline=trio.current_time() + wait_s)
        with self._idle:
            batch.append(await self._receive.receive())
        rows = sum(len(record.events) for record, _ in batch)
        while batch and rows < self._limits.append_rows_max:
            try:
                batch.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                break
            rows += len(batch[-1][0].events)
        return batch

    async def _commit(self, batch: list[tuple[Record, Reply | None]]) -> None:
        owed = self._owed[: self._limits.append_rows_max]
        records = [*owed, *(record for record, _ in batch)]
        asking = [reply for _, reply in batch]
        try:
            outcomes, recorded = await self._record(records)
        except BaseException:
            _fail(asking, OutcomeUnknown("The log was closed while the event was being recorded."))
            raise
        self.facts = evolve(self.facts, recorded)
        self._commits += bool(recorded)
        self._events += len(recorded)
        for watch in self._watches:
            watch(recorded)
        self.recent.add(recorded)
        self._settle(owed, outcomes[: len(owed)])
        for reply, outcome in zip(asking, outcomes[len(owed) :], strict=True):
            if isinstance(outcome, LLMuxError):
                self._refused += 1
                _fail([reply], outcome)
            elif reply is not None:
                reply.give(outcome.events)

    async def _record(self, records: Sequence[Record]) -> tuple[Sequence[Outcome], tuple[RecordedEvent, ...]]:
        """One outcome per record, and all that the facts have not seen yet; after `append_ms_max` at the latest."""
        began = trio.current_time()
        with trio.move_on_at(began + self._limits.append_ms_max / 1000):
            outcomes = await self._outcomes(records)
            self._append_s_last = trio.current_time() - began
            self._append_s_all += self._append_s_last
            self._batches += 1
            return outcomes
        self._unheard = True  # the store goes on with it, and the next append waits for that
        self._turn_away()
        return [OutcomeUnknown("The event log did not answer in time.")] * len(records), ()

    def _turn_away(self) -> None:
        """Whoever waits behind an append that takes too long has waited as long, and may as well know."""
        busy = StoreFailure("The event log is busy: an append that came before takes too long.")
        busy.code = "store_busy"
        waiting = self._receive.statistics().current_buffer_used
        _fail([self._receive.receive_nowait()[1] for _ in range(waiting)], busy)

    async def _outcomes(self, records: Sequence[Record]) -> tuple[Sequence[Outcome], tuple[RecordedEvent, ...]]:
        outcomes: list[Outcome] = []
        if not records:
            await self._append(())  # only to wait for one that is still under way
        for moves, group in groupby(records, lambda record: isinstance(record, Move)):
            together = self._move if moves else self._append
            outcomes += await together(list(group))
        try:
            return outcomes, await self._news(outcomes)
        except StoreFailure as failure:  # recorded, but not to be seen: to who asks that is as good as unknown
            self._unheard = True
            return [each if isinstance(each, LLMuxError) else _unseen(failure) for each in outcomes], ()

    async def _append(self, records: Sequence[Record]) -> Sequence[Outcome]:
        try:
            return await self._store.append([Append(record.events, record.expected) for record in records])
        except StoreFailure as failure:
            return [failure] * len(records)

    async def _move(self, records: Sequence[Any]) -> Sequence[Outcome]:
        try:
            return [await self._store.move(record.sealed, *record.events) for record in records]
        except StoreFailure as failure:
            return [failure] * len(records)

    async def _news(self, outcomes: Sequence[Outcome]) -> tuple[RecordedEvent, ...]:
        """All events that the facts have not seen yet, in their order. Raises StoreFailure when they cannot be read.

        Nearly always they are those of `outcomes`. Events whose commit we did not hear of stand before them, or alone.
        """
        after = self.facts.position
        unknown = any(isinstance(outcome, OutcomeUnknown) for outcome in outcomes)
        fresh = {  # a repeated append was folded the first time; two equal ones in a batch are one
            event.position: event
            for outcome in outcomes
            if not isinstance(outcome, LLMuxError)
            for event in outcome.events
            if event.position > after
        }
        if not (self._unheard or unknown) and max(fresh, default=after) == after + len(fresh):
            return tuple(fresh[position] for position in sorted(fresh))
        events: list[RecordedEvent] = []
        while page := await self._store.read(after=after + len(events), limit=self._limits.read_rows_max):
            events += page
        self._unheard = unknown  # then once more, when the store has had time to settle it
        return tuple(events)

    def _settle(self, owed: Sequence[Record], outcomes: Sequence[Outcome]) -> None:
        """Forgets what is owed no more: what is recorded, and what can never be."""
        for record, outcome in zip(owed, outcomes, strict=True):
            if isinstance(outcome, EventIdReused | EventMalformed):
                log.error("an end cannot be recorded", code=outcome.code)
            elif isinstance(outcome, LLMuxError):
                continue
            self._owed.remove(record)


def _unseen(failure: StoreFailure) -> OutcomeUnknown:
    return OutcomeUnknown(f"The events were recorded, but the log cannot be read now. {failure}")


def _fail(asking: Sequence[Reply | None], failure: LLMuxError) -> None:
    for reply in asking:
        if reply is not None:
            reply.fail(failure)
