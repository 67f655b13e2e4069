"""The kept text of prompts and answers: a file of its own beside the log, out of which a text can be removed without a trace."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import msgspec

from llmux.config import Limits
from llmux.events import ContentForgotten
from llmux.eventstore.content_file import (
    CONTENT_FILE,
    ERRORS,
    PAGE_BYTES,
    ZEROS,
    connected,
    failure_of,
    used_bytes,
    wipe,
)
from llmux.eventstore.thread import LoopThread, open_thread
from llmux.prompts import Prompt, ToolCall

T = TypeVar("T")

_DELETE = {
    "request": "DELETE FROM kept WHERE request = :request",
    "key": "DELETE FROM kept WHERE key = :key",
    "before": "DELETE FROM kept WHERE recorded_at < :before",
    "retention": "DELETE FROM kept WHERE until <= :now OR recorded_at < :before",
}
"""Scope of a ContentForgotten -> what it deletes."""


class KeptText(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was asked and what was answered. `answer` is as much as there was when the request ended."""

    prompt: Prompt
    answer: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


class KeptContent(msgspec.Struct, frozen=True):
    """The text of one request. `key` is the id of its principal; `recorded_at` and `until` are wall time in ms.

    `finish` is how the answer ended ("" = it did not), `code` why there is no whole one ("" = there is).
    """

    request: str
    key: str
    recorded_at: int
    until: int
    finish: str
    code: str
    text: KeptText


class Keeping(msgspec.Struct, frozen=True):
    """What became of some texts that were to be kept."""

    kept: int = 0
    too_large: int = 0
    no_room: int = 0


class Forgetting(msgspec.Struct, frozen=True):
    """A deletion whose fact is to be recorded in the log, under this very event id, however often that takes."""

    event_id: str
    principal: str
    fact: ContentForgotten


class ContentStore:
    """The file of kept texts. Made by `open_content`; it is made on disk when the first text is kept, with mode 0600.

    Methods raise StoreFailure: StoreFull, SchemaUnknown (the file is of a newer LLMux), or a plain one.
    """

    def __init__(self, path: Path, thread: LoopThread, limits: Limits):
        self.path = path
        self._thread = thread
        self._limits = limits
        self._connection: aiosqlite.Connection | None = None
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<ContentStore {self.path} of {self.file_bytes} bytes>"

    @property
    def file_bytes(self) -> int:
        """How large the file is, without its write-ahead log; 0 when there is none."""
        with suppress(FileNotFoundError):
            return self.path.stat().st_size
        return 0

    async def keep(self, contents: Sequence[KeptContent]) -> Keeping:
        """Keeps these texts, in one transaction that is on disk afterwards; a request whose text is kept already stays as it is.

        What is larger than `content_row_bytes_max`, or would make the file larger than `content_bytes_max`, is left out.
        """
        rows, too_large = [], 0
        for each in contents:
            text = ZEROS + msgspec.json.encode(each.text)
            if len(text) > self._limits.content_row_bytes_max + PAGE_BYTES:
                too_large += 1
            else:
                rows.append((each.request, each.key, each.recorded_at, each.until, each.finish, each.code, text))

        async def insert(connection: aiosqlite.Connection) -> int:
            room = self._limits.content_bytes_max - await used_bytes(connection)
            fitting = []
            for row in rows:
                needed = len(row[-1]) + 2 * PAGE_BYTES
                if needed <= room:
                    fitting.append(row)
                    room -= needed
            await connection.executemany(
                "INSERT INTO kept VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (request) DO NOTHING", fitting
            )
            return len(fitting)

        kept = await self._transact(insert, make=True, otherwise=0) if rows else 0
        return Keeping(kept, too_large, len(rows) - kept)

    async def read(self, request: str) -> KeptContent | None:
        """The text of a request, or None where none is kept."""

        async def select(connection: aiosqlite.Connection) -> KeptContent | None:
            rows: Any = await connection.execute_fetchall("SELECT * FROM kept WHERE request = ?", (request,))
            for id, key, recorded_at, until, finish, code, text in rows:
                decoded = msgspec.json.decode(text[PAGE_BYTES:], type=KeptText)
                return KeptContent(id, key, recorded_at, until, finish, code, decoded)
            return None

        return await self._transact(select, make=False, otherwise=None)

    async def forget(self, forgetting: Forgetting, now: int) -> list[Forgetting]:
        """Deletes what `forgetting.fact` names, for good, and returns all deletions that the log does not know of yet.

        The number of deleted texts is added to `fact.answers`; where the sum is 0 there is nothing to record. When this
        returns, neither the file nor its write-ahead log holds anything of the texts. The caller records the facts and says
        so with `recorded`; until then, and over a crash, they come back here.
        """
        fact = forgetting.fact
        named = {"request": fact.request, "key": fact.key, "before": fact.before or 0, "now": now}

        async def delete(connection: aiosqlite.Connection) -> list[Forgetting]:
            cursor = await connection.execute(_DELETE[fact.scope], named)
            answers = fact.answers + cursor.rowcount
            await cursor.close()
            if answers:
                counted = msgspec.json.encode(msgspec.structs.replace(fact, answers=answers)).decode()
                row = (forgetting.event_id, forgetting.principal, counted)
                await connection.execute_fetchall("INSERT INTO forgetting VALUES (?, ?, ?)", row)
            rows = await connection.execute_fetchall("SELECT * FROM forgetting ORDER BY event_id")
            return [
                Forgetting(id, principal, msgspec.json.decode(text, type=ContentForgotten))
                for id, principal, text in rows
            ]

        pending: list[Forgetting] = await self._transact(delete, make=fact.answers > 0, otherwise=[])
        if pending:
            await self._run(wipe, make=False, otherwise=None)
        return pending

    async def recorded(self, event_id: str) -> None:
        """The log knows of this deletion."""

        async def settle(connection: aiosqlite.Connection) -> None:
            await connection.execute_fetchall("DELETE FROM forgetting WHERE event_id = ?", (event_id,))

        await self._transact(settle, make=False, otherwise=None)

    # --- the connection ---------------------------------------------------------------------------------------------

    async def _transact(self, work: Callable[[aiosqlite.Connection], Awaitable[T]], *, make: bool, otherwise: T) -> T:
        """Runs `work` in a transaction of its own. `otherwise` is the result where there is no file and none is to be made."""

        async def whole(connection: aiosqlite.Connection) -> T:
            await connection.execute_fetchall("BEGIN IMMEDIATE")
            try:
                result = await work(connection)
                await connection.commit()
            except BaseException:
                await connection.rollback()
                raise
            return result

        return await self._run(whole, make=make, otherwise=otherwise)

    async def _run(self, work: Callable[[aiosqlite.Connection], Awaitable[T]], *, make: bool, otherwise: T) -> T:
        async def turn() -> T:
            async with self._turn:
                if self._connection is None:
                    if not make and not self.path.exists():
                        return otherwise
                    self._connection = await connected(self.path, self._limits.busy_ms_max)
                try:
                    return await work(self._connection)
                except ERRORS as error:
                    if self._connection.in_transaction:  # not even rolled back: the next one gets a new connection
                        await self._disconnect()
                    raise failure_of(error) from error

        return await self._thread.run(turn)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*ERRORS):
                await connection.close()

    async def close(self) -> None:
        """Waits for what is under way and closes the file. Not cancellable."""
        await self._thread.finish(self._disconnect)


@asynccontextmanager
async def open_content(directory: Path, limits: Limits) -> AsyncGenerator[ContentStore, None]:
    """The kept texts of the data directory, which this process owns (`own_directory`). Touches no file by itself."""
    async with open_thread() as thread:
        store = ContentStore(directory / CONTENT_FILE, thread, limits)
        try:
            yield store
        finally:
            await store.close()
