"""Reading the log: by position, by stream, by filter. Takes no lock and writes nothing, whoever else has the file open.

What has moved into archives is read from there. While a page is asked for, its events may just be moving: so after each page
the origin is looked at, and what lies before it is taken from the archives.
"""

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
from llmux.eventstore.archive import EVERYTHING, Asked, event_in, line_in
from llmux.eventstore.archives import FOLDER, Archives
from llmux.eventstore.chain import Head
from llmux.eventstore.origin import Origin, origin_of, origin_position
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
        self.archives = Archives(path.parent / FOLDER)

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
        archived: bool = True,
    ) -> list[RecordedEvent]:
        """At most `limit` (1 to `read_rows_max`) events with `after` < position <= `until`, in the order of positions.

        Every filter that is given must match; of `streams` and of `types` any one. Both times (ms) are included. Fewer than
        `limit` events mean that there are no more (yet). With `newest_first` the last ones come, in falling order.
        What lies in archives is read from there, unless `archived` is False: then the file alone is asked.
        Raises ValueError for another limit, LogDamaged for a row that is no event, ArchiveMissing.
        """
        if not 1 <= limit <= self.limits.read_rows_max:
            raise ValueError(f"a page has 1 to {self.limits.read_rows_max} events, not {limit}")
        end = POSITION_MAX if until is None else until
        named = frozenset(streams if stream is None else (stream,))
        asked = Asked(named, frozenset(types), principal, correlation_id, recorded_from, recorded_to)
        events, origin = await self._from_file(asked, stream, after, end, limit, newest_first)
        if not archived or origin <= after or end <= after:
            return events
        if named and named <= {event.stream for event in events if event.version == 0}:
            return events  # all these streams began after what is archived
        until = min(end, origin)
        if newest_first:
            events = [event for event in events if event.position > origin]
            left = limit - len(events)
            return events + await self.archives.newest(
                asked, event_in, after=after, until=until, limit=left, origin=origin
            )
        old: list[RecordedEvent] = []
        while len(old) < limit and after < min(end, origin):  # the origin may go on meanwhile
            until, left = min(end, origin), limit - len(old)
            old += await self.archives.page(asked, event_in, after=after, until=until, limit=left, origin=origin)
            after = until
            if len(old) < limit and after < end:
                events, origin = await self._from_file(asked, stream, after, end, limit - len(old), newest_first)
        return old + events if len(old) < limit and after < end else old

    async def _from_file(
        self, asked: Asked, stream: str | None, after: int, until: int, limit: int, newest_first: bool
    ) -> tuple[list[RecordedEvent], int]:
        """A page of what the file holds, and where the file begins: after this position, or before it."""
        chosen = query(
            after=after,
            until=until,
            limit=limit,
            stream=stream,
            streams=asked.streams if stream is None else (),
            types=asked.types,
            principal=asked.principal,
            correlation_id=asked.correlation_id,
            recorded_from=asked.recorded_from,
            recorded_to=asked.recorded_to,
            newest_first=newest_first,
        )

        async def page(connection: AsyncConnection) -> tuple[list[RecordedEvent], int]:
            events = [event_of(row) for row in await connection.execute(chosen)]
            return events, await origin_position(connection)

        return await self._ask(page)

    async def lines(self, *, limit: int, after: int = 0, until: int | None = None) -> list[Line]:
        """Events with `after` < position <= `until`, as folding needs them: 1 to `limit`, or none when there are none.

        Not for a wish from outside: a page may be larger than `read_rows_max`, and it is made at one go. Raises LogDamaged,
        ArchiveMissing.
        """
        end = POSITION_MAX if until is None else until

        async def page(connection: AsyncConnection) -> tuple[Sequence[Any], int]:
            rows = await sqlite.rows_of(connection, LINES, (after, end, limit))
            return rows, 0 if rows and rows[0][0] == after + 1 else await origin_position(connection)

        rows, origin = await self._ask(page)
        if origin <= after or end <= after:
            return [line_of(row) for row in rows]
        return await self.archives.page(
            EVERYTHING, line_in, after=after, until=min(end, origin), limit=limit, origin=origin
        )

    async def rows(self, *, limit: int, after: int, until: int) -> Sequence[Any]:
        """The same events with all columns, as they are stored. What lies in archives is not among them."""
        return await self._ask(lambda connection: sqlite.rows_of(connection, ROWS, (after, until, limit)))

    async def span(self, after: int, until: int) -> tuple[bytes, int, int] | None:
        """Of the events with `after` < position <= `until`: the hash of the last, and the first and the last time at which one
        was recorded. None unless the file holds all of them.
        """
        return await self._ask(lambda connection: sqlite.span(connection, after, until))

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
            reader.archives.close()
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
