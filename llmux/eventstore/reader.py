"""Reading the log: by position, by stream, by filter. Takes no lock and writes nothing, whoever else has the file open."""

import errno
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from llmux.config import Limits
from llmux.events import Line, RecordedEvent
from llmux.eventstore import sqlite
from llmux.eventstore.append import NO_STREAM
from llmux.eventstore.chain import Head
from llmux.eventstore.origin import Origin, origin_of
from llmux.eventstore.table import EVENTS, LINES, REVISION, ROWS, event_of, line_of, packed_stream, query
from llmux.eventstore.thread import LoopThread, open_thread
from llmux.failures import SchemaUnknown, StoreFailure, printable

T = TypeVar("T")
POSITION_MAX = 2**63 - 1


class Reader:
    """Reads a log. Every method runs one short transaction on a connection that cannot write; raises StoreFailure."""

    def __init__(self, path: Path, engine: AsyncEngine, thread: LoopThread, limits: Limits):
        self.path = path
        self._reading = engine
        self._thread = thread
        self.limits = limits

    def __repr__(self) -> str:
        return f"<Reader {self.path}>"

    async def _ask(self, question: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async def work() -> T:
            try:
                async with self._reading.connect() as connection:
                    return await question(connection)
            except sqlite.DATABASE_ERRORS as error:
                raise sqlite.failure_of(error) from error

        return await self._thread.run(work)

    async def read(
        self,
        *,
        limit: int,
        after: int = 0,
        until: int | None = None,
        stream: str | None = None,
        streams: Collection[str] = (),
        types: Collection[str] = (),
        principal: str | None = None,
        correlation_id: str | None = None,
        recorded_from: int | None = None,
        recorded_to: int | None = None,
        newest_first: bool = False,
    ) -> list[RecordedEvent]:
        """At most `limit` (1 to `read_rows_max`) events with `after` < position <= `until`, in the order of positions.

        Every filter that is given must match; of `streams` and of `types` any one. Both times (ms) are included. Fewer than
        `limit` events mean that there are no more (yet). With `newest_first` the last ones come, in falling order.
        Raises ValueError for another limit, LogDamaged for a row that is no event.
        """
        if not 1 <= limit <= self.limits.read_rows_max:
            raise ValueError(f"a page has 1 to {self.limits.read_rows_max} events, not {limit}")
        chosen = query(
            after=after,
            until=until,
            limit=limit,
            stream=stream,
            streams=streams,
            types=types,
            principal=principal,
            correlation_id=correlation_id,
            recorded_from=recorded_from,
            recorded_to=recorded_to,
            newest_first=newest_first,
        )

        async def page(connection: AsyncConnection) -> list[RecordedEvent]:
            return [event_of(row) for row in await connection.execute(chosen)]

        return await self._ask(page)

    async def lines(self, *, limit: int, after: int = 0, until: int | None = None) -> list[Line]:
        """At most `limit` events with `after` < position <= `until`, as folding needs them. Raises LogDamaged.

        Not for a wish from outside: a page may be larger than `read_rows_max`, and it is made at one go.
        """
        end = POSITION_MAX if until is None else until
        rows = await self._ask(lambda connection: sqlite.rows_of(connection, LINES, (after, end, limit)))
        return [line_of(row) for row in rows]

    async def rows(self, *, limit: int, after: int, until: int) -> Sequence[Any]:
        """The same events with all columns, as they are stored."""
        return await self._ask(lambda connection: sqlite.rows_of(connection, ROWS, (after, until, limit)))

    async def origin(self) -> Origin:
        """What the events of the file follow."""
        return await self._ask(origin_of)

    async def version(self, stream: str) -> int:
        """The version of the stream's last event, or NO_STREAM."""

        async def last(connection: AsyncConnection) -> int:
            chosen = select(func.max(EVENTS.c.version)).where(EVENTS.c.stream == packed_stream(stream))
            found = (await connection.execute(chosen)).scalar_one()
            return (await origin_of(connection)).streams.get(stream, NO_STREAM) if found is None else int(found)

        return await self._ask(last)

    async def last(self, stream: str, *, until: int | None = None) -> RecordedEvent | None:
        """The last event of the stream that the file holds, up to position `until`; None when there is none."""
        end = POSITION_MAX if until is None else until
        chosen = (
            select(EVENTS)
            .where(EVENTS.c.stream == packed_stream(stream), EVENTS.c.position <= end)
            .order_by(EVENTS.c.version.desc())
            .limit(1)
        )

        async def newest(connection: AsyncConnection) -> RecordedEvent | None:
            row = (await connection.execute(chosen)).first()
            return None if row is None else event_of(row)

        return await self._ask(newest)

    async def head_on_disk(self) -> Head:
        """The head as the file has it now."""
        return await self._ask(sqlite.head_of)

    async def ends(self) -> tuple[int, int]:
        """The last position there is, and the last position that was ever written: equal, unless a tail was cut off."""
        return await self._ask(sqlite.ends)

    async def version_gap(self, after: int, until: int) -> int | None:
        """The first position in `after` < position <= `until` whose version does not follow the one before, or None."""

        async def look(connection: AsyncConnection) -> int | None:
            return await sqlite.version_gap(connection, after, until, (await origin_of(connection)).streams)

        return await self._ask(look)

    async def integrity(self) -> str:
        """What SQLite's check of the whole file, indices included, finds first: "ok" when all is well."""
        return await self._ask(sqlite.integrity)

    async def check_schema(self) -> None:
        """Raises SchemaUnknown unless the tables are those that this program knows."""
        found = await self._ask(_revision)
        if found != REVISION:
            older = found < REVISION  # versions are numbered
            raise SchemaUnknown(
                f"{self.path} has tables of version '{printable(found, 40)}', and this program knows version {REVISION}. "
                + (
                    "Start the gateway once to bring them up to date."
                    if older
                    else "Use the newer LLMux that wrote them."
                )
            )


async def _revision(connection: AsyncConnection) -> str:
    found = await connection.exec_driver_sql("SELECT version_num FROM alembic_version")
    return ", ".join(sorted(str(row[0]) for row in found))


@asynccontextmanager
async def open_reader(directory: Path, limits: Limits, *, file: str = sqlite.FILE) -> AsyncGenerator[Reader, None]:
    """Opens the log in `directory` for reading only, beside a running gateway or without one. Raises StoreFailure."""
    path = directory / file
    _look_for(path)
    async with open_thread() as thread:
        engine = sqlite.engine_for(path, limits, write=False)
        try:
            reader = Reader(path, engine, thread, limits)
            await reader.check_schema()
            yield reader
        finally:
            await closed(thread, engine)


def _look_for(path: Path) -> None:
    """Raises StoreFailure unless there is a file to read. Does not open it: closing it again would end SQLite's own locks."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise StoreFailure(
            f"There is no event log at {path}. `llmux serve` makes it; if yours is elsewhere, set LLMUX_DATA_DIR to its directory."
        ) from None
    except OSError as error:
        raise _unreadable(path, error.strerror) from None
    if not os.access(path, os.R_OK):
        raise _unreadable(path, os.strerror(errno.EACCES))


def _unreadable(path: Path, why: str | None) -> StoreFailure:
    return StoreFailure(
        f"The event log {path} cannot be read: {why}. Run this as the user of `llmux serve`, or set LLMUX_DATA_DIR."
    )


async def closed(thread: LoopThread, *engines: AsyncEngine) -> None:
    """Closes the connections of the engines. Not cancellable."""

    async def work() -> None:
        for engine in engines:
            await engine.dispose()

    await thread.finish(work)
