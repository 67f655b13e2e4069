"""The event log of a gateway: append with group commit, read while writing."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from llmux.clock import Clock
from llmux.config import Limits
from llmux.events import NewEvent
from llmux.eventstore import sqlite
from llmux.eventstore.append import Append, Outcome, prepared
from llmux.eventstore.batch import Batch
from llmux.eventstore.chain import NO_KEYS, Head, Keys
from llmux.eventstore.reader import Reader, closed
from llmux.eventstore.sealing import Sealed
from llmux.eventstore.thread import LoopThread, open_thread
from llmux.eventstore.verify import check_end
from llmux.eventstore.witness import Witness, write_witness
from llmux.eventstore.writer import Writer
from llmux.failures import StoreFailure


class StoreStatistics(msgspec.Struct, frozen=True):
    """What a store has done since it was opened, and how large its files are."""

    position: int
    """of the head"""
    transactions: int
    """commits: each is one fsync"""
    failed: int
    """transactions that came to nothing, or whose outcome is unknown"""
    appends: int
    events: int
    repeated: int
    """appends that were in the log already"""
    refused: int
    """appends that got a failure"""
    database_bytes: int
    wal_bytes: int


class Store(Reader):
    """An open event log: a `Reader` that also appends. Made by `open_store`; one per data directory."""

    def __init__(self, writer: Writer, reader: Reader, thread: LoopThread, clock: Clock, limits: Limits):
        super().__init__(reader.path, reader._reading, thread, limits)
        self.archives = reader.archives
        self._writer = writer
        self._clock = clock
        self._witnessing = asyncio.Lock()

    def __repr__(self) -> str:
        counts = self._writer.counts
        return (
            f"<Store {self.path} at {self.head.position}: {counts.events} events in {counts.transactions} transactions>"
        )

    @property
    def head(self) -> Head:
        """The end of what this store has committed."""
        return self._writer.head

    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        """Records the whole batch in one transaction (one fsync) and returns one outcome per append, in their order.

        An append that is refused (WrongExpectedVersion, EventIdReused, EventMalformed) takes no part and changes nothing
        for its neighbours. Events that are in the log already, with the same content, are returned as they were recorded
        and not written again. When the transaction fails, every other append gets its failure: StoreFull, LogDamaged,
        OutcomeUnknown or a plain StoreFailure (code "store_busy" when another program holds the lock).

        Failures are returned, not raised. A caller that is cancelled does not hear of the outcome, but the transaction goes
        on, and the next append waits for it.
        """
        writer, entries = self._writer, [prepared(append) for append in batch]
        together = Batch(entries, self._clock.now())  # here, because a clock belongs to trio's thread
        return await self._thread.run_at(writer.take, lambda: writer.at_once(together), lambda: writer.append(together))

    async def move(self, sealed: Sealed, event: NewEvent) -> Outcome:
        """The sealed events leave the database, and `event` says so, in one transaction. A failure is returned, as by `append`.

        A move that was made already is answered as an append that comes again.
        """
        entry = prepared(Append((event,)))
        now = self._clock.now()
        return await self._thread.run(lambda: self._writer.move(sealed, entry, now))

    async def give_back(self, pages: int) -> int:
        """Gives at most so many free pages of the database back to the file system, and returns how many are left.

        With none left, the files become as short as they can. Raises StoreFailure.
        """
        return await self._thread.run(lambda: self._writer.give_back(pages))

    async def used_bytes(self) -> int:
        """The room that the log takes: the database without its free pages, and the write-ahead log. Raises StoreFailure."""
        return await self._ask(sqlite.used_bytes) + _size_bytes(self.path.with_name(f"{self.path.name}-wal"))

    async def witness(self, path: Path) -> Witness:
        """Writes the head, as it is committed now, into a file outside the database. Raises StoreFailure.

        Cancelling the caller does not interrupt it; a witness that is written later waits for its turn.
        """

        async def write() -> Witness:
            async with self._witnessing:
                return await asyncio.to_thread(write_witness, path, self.head, now)

        now = self._clock.now()
        try:
            return await self._thread.run(write)
        except OSError as error:
            raise StoreFailure(f"The head of the log cannot be witnessed in {path}: {error.strerror}.") from error

    def statistics(self) -> StoreStatistics:
        """Counts since the opening, and sizes of the files now."""
        counts = msgspec.structs.asdict(self._writer.counts)
        return StoreStatistics(
            position=self.head.position,
            **counts,
            database_bytes=_size_bytes(self.path),
            wal_bytes=_size_bytes(self.path.with_name(f"{self.path.name}-wal")),
        )


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@asynccontextmanager
async def open_store(
    directory: Path,
    *,
    clock: Clock,
    limits: Limits,
    keys: Keys = NO_KEYS,
    rekeying: bool = False,
    file: str = sqlite.FILE,
) -> AsyncGenerator[Store, None]:
    """Opens the log in `directory`, whose tables exist and which this process owns (`own_directory`). Raises StoreFailure.

    The last of `keys` keys what is appended, so the log must end under it already (ChainKeyWrong otherwise), unless `rekeying`
    says that this is about to begin. Leaving the block waits for the append under way and closes the files.
    """
    path = directory / file
    async with open_thread() as thread:
        writing = sqlite.engine_for(path, limits, write=True)
        reading = sqlite.engine_for(path, limits, write=False)
        writer = Writer(writing, keys.present)
        reader = Reader(path, reading, thread, limits)
        try:
            await reader.check_schema()
            await thread.run(writer.open)
            if not rekeying:
                await check_end(reader, keys)
            yield Store(writer, reader, thread, clock, limits)
        finally:
            reader.archives.close()
            await thread.finish(writer.close)
            await closed(thread, reading, writing)
