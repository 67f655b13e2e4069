"""Side by side with the `eventsourcing` library, on SQLite with the same settings (WAL, synchronous=FULL, its default).

Both record the same facts, for many callers at once (here tasks, there threads) and for one alone: here as events of the log,
with fold and hash chain; there as events of an aggregate, in the library's own JSON. Replay is there: select all notifications
and decode them; here: select all events, decode and fold them.
"""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from benchmarks.append import events_of, journal_in, together
from benchmarks.figures import SHORT_ROUNDS, Figure, compared
from benchmarks.replay import replayed_in
from benchmarks.timing import Stopwatch, elapsed
from llmux.events import NewEvent, canonical

try:
    from eventsourcing.application import Application
    from eventsourcing.domain import Aggregate
except ImportError:
    raise SystemExit("The library to compare with is not installed here: type `make bench`.") from None

ONE_BY_ONE = 160
CALLERS = 64
BATCH = 64
BATCHES = 40
PAGE = 1_000


class Happened(Aggregate.Event):
    """A fact of an aggregate, as plain fields."""

    type: str
    fields: dict[str, Any]


def measured(directory: Path) -> list[Figure]:
    """Rounds of ours and theirs by turns."""
    events = events_of(max(ONE_BY_ONE, BATCH * BATCHES) // 4)
    facts = [(type(event.fact).__name__, msgspec.json.decode(canonical(event.fact))) for event in events]
    single, many, batched, replayed = [], [], [], []
    for number in range(SHORT_ROUNDS):
        ours, theirs = directory / f"ours-{number}", directory / f"theirs-{number}"
        single.append(
            (trio.run(_ours, ours / "one", events[:ONE_BY_ONE], 1), _theirs(theirs / "one", facts[:ONE_BY_ONE], 1))
        )
        many.append((trio.run(together, ours / "together"), _theirs_together(theirs / "together", facts)))
        batched.append((trio.run(_ours, ours / "many", events, BATCH), _theirs(theirs / "many", facts, BATCH)))
        seconds = trio.run(replayed_in, ours / "many", len(events))
        replayed.append((len(events) / seconds, _select(theirs / "many", len(events))))
    compare = partial(compared, "library", unit="events/s", against="eventsourcing", at_least=1.0, wanted="ahead of it")
    return [
        compare(f"append, {CALLERS} callers", pairs=many),
        compare("append, one caller, one by one", pairs=single),
        compare(f"append, one caller, batches of {BATCH}", pairs=batched),
        compare(f"replay of {len(events):,} events", pairs=replayed),
    ]


async def _ours(directory: Path, events: list[NewEvent], batch: int) -> float:
    async with journal_in(directory) as journal:
        with Stopwatch() as watch:
            for at in range(0, len(events), batch):
                await journal.append(*events[at : at + batch])
    return len(events) / watch.seconds


def _application(directory: Path) -> Application:
    directory.mkdir(parents=True, exist_ok=True)
    path = str(directory / "library.db")
    with closing(sqlite3.connect(path)) as connection:
        if connection.execute("PRAGMA synchronous").fetchone() != (2,):
            raise AssertionError("synchronous is not FULL by default here")
    return Application({"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": path})


def _theirs(directory: Path, facts: list[tuple[str, dict[str, Any]]], batch: int) -> float:
    """Events a second: so many are triggered on an aggregate and saved with it, then the next ones."""
    with closing(_application(directory)) as application:
        aggregate = Aggregate()
        application.save(aggregate)

        def append(part: list[tuple[str, dict[str, Any]]]) -> None:
            for type, fields in part:
                aggregate.trigger_event(Happened, type=type, fields=fields)
            application.save(aggregate)

        def everything() -> None:
            for at in range(0, len(facts), batch):
                append(facts[at : at + batch])

        return len(facts) / elapsed(everything)


def _theirs_together(directory: Path, facts: list[tuple[str, dict[str, Any]]]) -> float:
    """Events a second: each caller is a thread with an aggregate of its own, and saves it after every event."""
    with closing(_application(directory)) as application, ThreadPoolExecutor(CALLERS) as threads:

        def append(mine: list[tuple[str, dict[str, Any]]]) -> None:
            aggregate = Aggregate()
            for type, fields in mine:
                aggregate.trigger_event(Happened, type=type, fields=fields)
                application.save(aggregate)

        share = len(facts) // CALLERS
        parts = [facts[at : at + share] for at in range(0, share * CALLERS, share)]
        return share * CALLERS / elapsed(lambda: list(threads.map(append, parts)))


def _select(directory: Path, count: int) -> float:
    """Events a second: all notifications are selected, page by page, and decoded."""
    with closing(_application(directory)) as application:
        decoded, start = 0, 1

        def everything() -> None:
            nonlocal decoded, start
            while page := application.recorder.select_notifications(start=start, limit=PAGE):
                for notification in page:
                    application.mapper.to_domain_event(notification)
                decoded, start = decoded + len(page), page[-1].id + 1

        seconds = elapsed(everything)
    if decoded <= count:
        raise AssertionError(f"decoded {decoded} events of {count}")
    return decoded / seconds
