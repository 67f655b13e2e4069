"""Moves sealed events out of the database, in the transaction that says so, and gives their room back afterwards.

The trigger that refuses every DELETE is away only within that transaction, which nobody else can see into. SQLite keeps the
pages that become free inside the file; a few at a time go back to the file system, so that appends go on in between.
"""

from typing import Any

import aiosqlite

from llmux.eventstore.origin import ORIGIN
from llmux.eventstore.sealing import Sealed
from llmux.failures import LogDamaged

_FOUND = """
SELECT (SELECT position FROM origin), (SELECT hash FROM origin), (SELECT hash FROM events WHERE position = ?),
       (SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = 'events_are_never_removed')
"""
_PUT = "INSERT OR REPLACE INTO origin (one, position, hash, state, state_schema, streams) VALUES (?, ?, ?, ?, ?, ?)"


async def move(driver: aiosqlite.Connection, sealed: Sealed) -> None:
    """Within a transaction: the sealed events leave the table, and the log goes on from their end.

    Raises LogDamaged, and then nothing may be committed, when the database does not hold what was sealed.
    """
    origin, before = sealed.origin, sealed.before
    rows: Any = await driver.execute_fetchall(_FOUND, (origin.head.position,))
    position, hash, last, trigger = next(iter(rows))
    if (position or 0, hash if position else before.hash) != (before.position, before.hash) or last != origin.head.hash:
        raise LogDamaged("The log is not what it was when a part of it was sealed. Nothing was moved.")
    if trigger is None:
        raise LogDamaged(
            "The log has no trigger events_are_never_removed: somebody has changed its tables. Nothing was moved."
        )
    await driver.execute("DROP TRIGGER events_are_never_removed")
    removed = (await driver.execute("DELETE FROM events WHERE position <= ?", (origin.head.position,))).rowcount
    if removed != origin.head.position - before.position:
        raise LogDamaged("The log has other positions than were sealed. Nothing was moved.")
    await driver.execute(trigger)
    await driver.execute(_PUT, tuple(origin.row()[column.name] for column in ORIGIN.columns))


async def give_back(driver: aiosqlite.Connection, pages: int) -> int:
    """Gives at most so many free pages back to the file system, in a transaction of its own. Returns how many are left."""
    await driver.executescript(f"PRAGMA incremental_vacuum({pages})")  # `execute` would stop after the first page
    return await _number(driver, "PRAGMA freelist_count")


async def empty_the_wal(driver: aiosqlite.Connection) -> bool:
    """Brings the write-ahead log into the database and cuts it to nothing, unless somebody reads from it at this moment.

    Only by that the file becomes shorter. Returns whether it was done; if not, the next checkpoint does it.
    """
    patience = await _number(driver, "PRAGMA busy_timeout")
    await driver.execute("PRAGMA busy_timeout = 0")  # whoever appends must not wait for a reader
    try:
        return await _number(driver, "PRAGMA wal_checkpoint(TRUNCATE)") == 0
    finally:
        await driver.execute(f"PRAGMA busy_timeout = {patience}")


async def _number(driver: aiosqlite.Connection, pragma: str) -> int:
    rows: Any = await driver.execute_fetchall(pragma)
    return int(next(iter(rows))[0])
