"""SQLite's driver, counted call by call, with one call that fails.

    faults = Faults(nth=12, code="IOERR", when="after")
    with faults.installed():
        ...

Counted is what reaches the disk, or could find it in trouble: opening a file, each statement, each fetch, each commit, and each
rollback of an open transaction; on all connections that are opened while it is installed, whoever opens them.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from sqlite3 import dbapi2
from typing import Any, NamedTuple, TypeVar
from unittest import mock

T = TypeVar("T")

CODES = ("BUSY", "FULL", "IOERR", "CANTOPEN", "CORRUPT")
WHEN = ("before", "rolled back", "after")
"""the call does nothing; nothing, and SQLite has ended the open transaction too; all that it should, and then says it failed"""


class Call(NamedTuple):
    """A call of the driver, and whether a transaction was open before it."""

    name: str
    within: bool

    @property
    def commits(self) -> bool:
        """Whether it makes something durable."""
        return self.name == "commit" or (not self.within and self.name.upper().startswith(("INSERT", "COMMIT")))

    @property
    def endings(self) -> set[str]:
        """Which of `WHEN` it can fail with."""
        return {"before", *(["rolled back"] if self.within else []), *(["after"] if self.commits else [])}


class Faults:
    """Fails the `nth` call from now on (0: none) with that code, or not at all where `when` makes no sense for that call."""

    def __init__(self, nth: int = 0, code: str = "IOERR", when: str = "before"):
        self.nth, self.code, self.when = nth, code, when
        self.calls: list[Call] = []
        self.fired = ""
        """the call that failed"""
        self.over = False
        """no call fails any more"""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Faults {self.code} {self.when} call {self.nth} ({self.fired or 'not reached'})>"

    @contextmanager
    def installed(self) -> Iterator["Faults"]:
        """Connections that are opened within the block count, and one of their calls fails."""
        opened = sqlite3.connect

        def connect(*args: Any, **options: Any) -> sqlite3.Connection:
            connection = self.call("connect", lambda: opened(*args, **options, factory=_Connection))
            connection.faults = self
            return connection

        with mock.patch.object(sqlite3, "connect", connect), mock.patch.object(dbapi2, "connect", connect):
            yield self

    def call(self, name: str, work: Callable[[], T], connection: "sqlite3.Connection | None" = None) -> T:
        """Does the work, or fails as it is told to."""
        within = connection is not None and connection.in_transaction
        with self._lock:
            self.calls.append(Call(name, within))
            due = not self.over and len(self.calls) == self.nth and self.when in self.calls[-1].endings
        if not due:
            return work()
        self.fired = name
        if self.when == "after":
            work()
        elif self.when == "rolled back":
            sqlite3.Connection.rollback(connection)
        raise self._error()

    def _error(self) -> sqlite3.Error:
        kind = sqlite3.DatabaseError if self.code == "CORRUPT" else sqlite3.OperationalError
        error = kind(f"injected {self.code}")
        error.sqlite_errorname = f"SQLITE_{self.code}"
        error.sqlite_errorcode = getattr(sqlite3, error.sqlite_errorname)
        return error


class _Cursor(sqlite3.Cursor):
    def _call(self, name: str, work: Callable[[], T]) -> T:
        try:
            return self.connection.faults.call(name, work, self.connection)
        except sqlite3.Error:
            self.close()  # else the traceback keeps the statement, and with it the lock, of a connection that is closed
            raise

    def execute(self, sql: str, *args: Any) -> Any:
        return self._call(" ".join(sql.split())[:40], lambda: super(_Cursor, self).execute(sql, *args))

    def executemany(self, sql: str, *args: Any) -> Any:
        return self._call("many", lambda: super(_Cursor, self).executemany(sql, *args))

    def fetchall(self) -> Any:
        return self._call("fetchall", super().fetchall)

    def fetchone(self) -> Any:
        return self._call("fetchone", super().fetchone)

    def fetchmany(self, *args: Any) -> Any:
        return self._call("fetchmany", lambda: super(_Cursor, self).fetchmany(*args))


class _Connection(sqlite3.Connection):
    faults: Faults

    def cursor(self, *_: Any) -> sqlite3.Cursor:
        return super().cursor(_Cursor)

    def execute(self, *args: Any) -> Any:  # the built-in one does not ask the cursor's class
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:
        return self.cursor().executemany(*args)

    def commit(self) -> None:
        if self.in_transaction:
            self.faults.call("commit", super().commit, self)

    def rollback(self) -> None:
        if self.in_transaction:
            self.faults.call("rollback", super().rollback, self)
