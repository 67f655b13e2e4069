"""The one door to the log: groups the appends of all who wait into one transaction, then moves all facts, then replies.

Commit -> evolve -> reply: a reply means that the fact is on disk and that every reader sees it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import trio

from llmux.actors.actor import Actor, Message, Reply
from llmux.actors.facts import Facts, evolve
from llmux.config import Limits
from llmux.events import NewEvent, RecordedEvent
from llmux.eventstore import Append, Store
from llmux.failures import AskTimedOut, LLMuxError, OutcomeUnknown, ShuttingDown, StoreFailure

END_TRIES = 3
END_WAIT_S = 1.0

Watch = Callable[[tuple[RecordedEvent, ...]], None]
"""Called after each commit with what was recorded. Never waits, never raises."""


class Record(Message[tuple[RecordedEvent, ...]], frozen=True):
    """Append these events, all or none. `expected` names the version that a stream must have."""

    events: tuple[NewEvent, ...]
    expected: Mapping[str, int] = {}


class JournalStatistics(msgspec.Struct, frozen=True):
    """Commits, events and refused appends since the start, and how many wait."""

    waiting: int
    commits: int
    events: int
    refused: int
    position: int


class Journal(Actor):
    """Appends, and publishes the facts that follow.

    A crash in here, or an `evolve` that raises, is not survivable: `run` ends with the exception and so does the process.
    """

    def __init__(self, store: Store, facts: Facts, limits: Limits, watch: Watch):
        super().__init__("journal", mailbox_max=limits.mailbox_max, ask_ms_max=limits.append_ms_max)
        self._store = store
        self._limits = limits
        self._watch = watch
        self.facts = facts
        """the facts as of the last commit: frozen, anybody in the process may read them"""
        self._commits = self._events = self._refused = 0

    def counts(self) -> JournalStatistics:
        return JournalStatistics(
            self.statistics().waiting, self._commits, self._events, self._refused, self.facts.position
        )

    async def append(self, *events: NewEvent, expected: Mapping[str, int] | None = None) -> tuple[RecordedEvent, ...]:
        """Records `events` atomically and returns them as recorded, once they are on disk and in the facts.

        Raises a StoreFailure, or Overloaded or ShuttingDown when the append was not even taken. An outcome that is unknown
        is found out by appending again, once; if it stays unknown, OutcomeUnknown is raised. Cancelling the caller does not
        take the events back.
        """
        record = Record(events, expected or {})
        try:
            return await self.ask(record)
        except (AskTimedOut, OutcomeUnknown):
            pass
        try:
            return await self.ask(record)
        except AskTimedOut:
            raise OutcomeUnknown("The event log did not answer in time.") from None

    async def append_end(self, *events: NewEvent) -> None:
        """Records events that end something, which nobody else will do: as `append`, but a store in trouble is tried again.

        Not cancellable, and bounded: END_TRIES tries, END_WAIT_S apart.
        """
        with trio.CancelScope(shield=True):
            for tries_left in reversed(range(END_TRIES)):
                try:
                    await self.append(*events)
                    return
                except StoreFailure:
                    if not tries_left:
                        raise
                    await trio.sleep(END_WAIT_S)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            while True:
                await self._commit(await self._next_batch())
        finally:
            self.leave(
                ShuttingDown("The event log is closed.")
            )  # there is no second journal: nobody shall wait for one

    async def _next_batch(self) -> list[tuple[Any, Reply | None]]:
        """The next append, and all others that wait behind it, as far as one transaction goes."""
        batch = [await self._receive.receive()]
        rows = len(batch[0][0].events)
        while rows < self._limits.append_rows_max:
            try:
                batch.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                break
            rows += len(batch[-1][0].events)
        return batch

    async def _commit(self, batch: list[tuple[Any, Reply | None]]) -> None:
        asking = [reply for _, reply in batch if reply is not None]
        try:
            outcomes = await self._store.append([Append(record.events, record.expected) for record, _ in batch])
        except StoreFailure as failure:
            self._refused += len(batch)
            for reply in asking:
                reply.fail(failure)
            return
        except BaseException:
            for reply in asking:
                reply.fail(OutcomeUnknown("The log was closed while the event was being recorded."))
            raise
        fresh = {  # a repeated append was folded the first time; two equal ones in a batch are one
            event.position: event
            for outcome in outcomes
            if not isinstance(outcome, LLMuxError)
            for event in outcome.events
            if event.position > self.facts.position
        }
        recorded = tuple(fresh[position] for position in sorted(fresh))
        self.facts = evolve(self.facts, recorded)
        self._commits += 1
        self._events += len(recorded)
        self._watch(recorded)
        for (_, asker), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, LLMuxError):
                self._refused += 1
                if asker is not None:
                    asker.fail(outcome)
            elif asker is not None:
                asker.give(outcome.events)
