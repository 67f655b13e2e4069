"""Archives until it is killed. A server of such processes, like `appender`.

Reads lines from stdin and answers each with one line:

    steps DIRECTORY N     archives all but the newest events of the log there, and is killed before its Nth step (0: never). A step is
                          a call of SQLite's driver, or one that changes a file. Its steps are written to DIRECTORY/steps; answers
                          "killed" or "done"
    begin DIRECTORY SEED  makes a process that appends (as `appender`: what is acknowledged stands in DIRECTORY/acknowledged) and
                          archives at the same time, for ever; answers with its id
    end PID               kills that process; answers "gone"
"""

import os
import random
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from sqlite3 import dbapi2
from typing import Any

import trio

from llmux.actors import archiver
from llmux.actors.archiver import ArchiveLog, archive
from llmux.actors.journal import Journal
from llmux.actors.opening import open_journal
from llmux.clock import SystemClock
from llmux.config import Settings
from llmux.events import CacheCleared, NewEvent
from llmux.eventstore.sealing import _Part

OLD = 40
"""events of the log that `steps` archives, into two files"""


class Steps:
    """Counts what is done to the disk, and kills this process before one of them."""

    def __init__(self, directory: Path, last: int):
        self._file = os.open(directory / "steps", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._left = last

    def take(self, name: str, work: Callable[[], Any]) -> Any:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(self._file, f"{name}\n".encode())
        return work()

    def over(self, owner: Any, name: str, shown: str) -> None:
        """From now on, each call of that function is a step."""
        real = getattr(owner, name)
        setattr(owner, name, lambda *args, **options: self.take(shown, lambda: real(*args, **options)))


class _Cursor(sqlite3.Cursor):
    def execute(self, sql: str, *args: Any) -> Any:
        return _taken(" ".join(sql.split())[:40], lambda: super(_Cursor, self).execute(sql, *args))

    def executemany(self, sql: str, *args: Any) -> Any:
        return _taken(" ".join(sql.split())[:40], lambda: super(_Cursor, self).executemany(sql, *args))


class _Connection(sqlite3.Connection):
    def cursor(self, *_: Any) -> sqlite3.Cursor:
        return super().cursor(_Cursor)

    def execute(self, *args: Any) -> Any:
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> Any:
        return self.cursor().executemany(*args)

    def executescript(self, sql: str) -> Any:
        return _taken(sql, lambda: super(_Connection, self).executescript(sql))

    def commit(self) -> None:
        if self.in_transaction:
            _taken("commit", super().commit)


_steps: Steps | None = None


def _taken(name: str, work: Callable[[], Any]) -> Any:
    return work() if _steps is None else _steps.take(name, work)


def _connect(*args: Any, **options: Any) -> sqlite3.Connection:
    return _opened(*args, **options, factory=_Connection)


_opened = sqlite3.connect


async def archive_with_steps(directory: Path, last: int) -> None:
    global _steps
    sqlite3.connect = dbapi2.connect = _connect
    archiver.EVENTS_MAX, archiver.PAGES, archiver.YOUNGEST_MS = OLD // 2, 2, 0
    settings, clock = Settings(data_dir=directory), SystemClock()
    async with open_journal(settings, clock) as journal:
        steps = _steps = Steps(directory, last)
        for name in ("put", "write", "finish"):
            steps.over(_Part, name, f"file: {name}")
        steps.over(os, "fsync", "file: fsync")
        steps.over(os, "rename", "file: rename")
        steps.over(os, "unlink", "file: unlink")
        await archive(journal, settings, clock, ArchiveLog(str(OLD + 1)))
        _steps = None


async def append_and_archive(directory: Path, seed: int) -> None:
    chance, clock = random.Random(seed), SystemClock()
    archiver.EVENTS_MAX, archiver.PAGES, archiver.YOUNGEST_MS = 60, 4, -1
    settings = Settings(data_dir=directory)
    acknowledged = os.open(directory / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def append(journal: Journal) -> None:
        while True:
            streams = [f"stream-{chance.randrange(20)}" for _ in range(chance.randint(1, 4))]
            new = [NewEvent(each, CacheCleared(entries=chance.randrange(10**9)), clock.new_id()) for each in streams]
            events = await journal.append(*new)
            os.write(acknowledged, "".join(f"{event.event_id}\n" for event in events).encode())

    async with open_journal(settings, clock) as journal, trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(append, journal)
        while True:
            before = max(1, journal.facts.position - 10)
            await archive(journal, settings, clock, ArchiveLog(str(before)))
            await trio.sleep(0.01)


def serve() -> None:
    for line in sys.stdin:
        what, *words = line.split()
        if what == "end":
            os.kill(int(words[0]), signal.SIGKILL)
            os.waitpid(int(words[0]), 0)
            print("gone", flush=True)
            continue
        work = archive_with_steps if what == "steps" else append_and_archive
        if (pid := os.fork()) == 0:
            os.close(0)
            os.dup2(2, 1)  # answers are the server's alone
            trio.run(work, Path(words[0]), int(words[1]))
            os._exit(0)
        if what == "begin":
            print(pid, flush=True)
            continue
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print("killed" if killed else "done" if status == 0 else f"failed {status}", flush=True)


if __name__ == "__main__":
    serve()
