"""Moves the older part of the log into compressed files, and keeps its state at hand. Everything that reads the log reads on.

Part by part: the state at the end of the part is folded, the part is sealed in a file and read back, and then one transaction
takes it out of the database and records LogArchived. Whatever stops it, the log is whole; doing it again finishes it.
"""

import re
from collections.abc import Callable

import msgspec
import structlog
import trio

from llmux.actors.actor import Actor, Message
from llmux.actors.facts import SCHEMA, Facts
from llmux.actors.journal import Journal
from llmux.actors.moments import time_of
from llmux.actors.replaying import replay
from llmux.actors.snapshots import encoded
from llmux.actors.upkeep import Job
from llmux.clock import Clock
from llmux.config import Settings
from llmux.events import LogArchived, NewEvent
from llmux.eventstore import Keys, Store, seal, tidy
from llmux.failures import ClientFailure, printable

STREAM = "log-archives"
EVENTS_MAX = 50_000
"""in one file, and in the one transaction in which nobody else can append: a quarter of a second"""
YOUNGEST_MS = 3_600_000
"""what was recorded since then stays: an append is told from its repetition by the event id, which is looked for in the database"""
FOLDED_AT_ONCE = 1_500
LOOKED_AT = 10_000
"""events at the beginning of the database: a clock may have been ahead when the first ones were recorded"""
PAGES = 256
"""of the database that go back to the file system at one go: some 10 ms"""
_AGE = re.compile(r"([0-9]{1,5})([dh])")
_AGES_MS = {"d": 86_400_000, "h": 3_600_000}
_POSITION = re.compile(r"[0-9]{1,18}")

log = structlog.get_logger()


class Archived(msgspec.Struct, frozen=True, rename="camel"):
    """What was moved: the positions `first` to `through` into `files` with `archive_bytes`, none when nothing was that old.

    The database had `bytes_before` and has `bytes_after`, its write-ahead log included. Files that `set_aside` names were
    among the archives, and hold events that are no part of this log.
    """

    first: int
    through: int
    events: int
    files: tuple[str, ...]
    archive_bytes: int
    bytes_before: int
    bytes_after: int
    set_aside: tuple[str, ...] = ()


class ArchiveLog(Message[Archived], frozen=True):
    """Move everything before `before` into archives: an age such as 30d or 12h, a time, or a position."""

    before: str
    principal: str = "admin"


class Archiver(Actor):
    """Archives on demand, one demand after the other."""

    def __init__(self, journal: Journal, settings: Settings, clock: Clock):
        limits = settings.limits
        super().__init__("archiver", mailbox_max=limits.archivings_waiting_max, ask_ms_max=limits.archive_ms_max)
        self._journal, self._settings, self._clock = journal, settings, clock

    async def handle(self, message: ArchiveLog) -> Archived:
        done = await archive(self._journal, self._settings, self._clock, message, _note)
        for name in done.set_aside:
            log.warning("an archive that is no part of this log was set aside", file=f"archives/{name}")
        return done

    async def holds_older_than(self, days: int) -> bool:
        """Whether the database begins with events that were recorded longer ago than that, if not with the very first one."""
        store = self._journal.store
        origin = (await store.origin()).head.position
        limit = self._clock.now() - days * _AGES_MS["d"]
        return bool(
            await store.read(limit=1, after=origin, until=origin + LOOKED_AT, recorded_to=limit - 1, archived=False)
        )


async def archive(
    journal: Journal,
    settings: Settings,
    clock: Clock,
    command: ArchiveLog,
    progress: Callable[[LogArchived], object] | None = None,
) -> Archived:
    """Does it; the caller sees to it that it is done once at a time. `progress` is told of each part.

    Raises ClientFailure for a `before` that is none or too young, LogDamaged when the log is not whole, StoreFailure when a
    file cannot be written or something cannot be recorded. What was moved by then is moved.
    """
    store = journal.store
    through = await _cut(store, command.before, clock.now())
    first = (await store.origin()).head.position + 1
    before = _bytes(store)
    aside = await tidy(store)
    facts: list[LogArchived] = []
    while (at := (await store.origin()).head.position) < through:
        state = await replay(store, until=min(at + EVENTS_MAX, through), page=FOLDED_AT_ONCE, snapshots=False)
        content = await trio.to_thread.run_sync(encoded, state)  # facts never change: any thread may read them
        sealed = await seal(store, state.position, content, SCHEMA, ended=_ended(state), keys=Keys(settings.chain_keys))
        await journal.move(sealed, NewEvent(STREAM, sealed.fact, clock.new_id(), command.principal))
        facts.append(sealed.fact)
        if progress is not None:
            progress(sealed.fact)
        await _shrink(store)
    await _shrink(store)
    return Archived(
        first=first,
        through=max(first - 1, through),
        events=max(0, through - first + 1),
        files=tuple(fact.file for fact in facts),
        archive_bytes=sum(fact.file_bytes for fact in facts),
        bytes_before=before,
        bytes_after=_bytes(store),
        set_aside=tuple(aside),
    )


def _note(fact: LogArchived) -> None:
    log.info("archived", first=fact.first, through=fact.through, file=fact.file)


def _ended(state: Facts) -> Callable[[str], bool]:
    """Tells of a stream whether no event will follow in it: that of a request, or of a flight, which has its end."""
    flights = {request.flight for request in state.requests.open.values()} | set(state.requests.attempts)

    def ended(stream: str) -> bool:
        category, _, id = stream.partition("-")
        return (category == "request" and id not in state.requests.open) or (category == "flight" and id not in flights)

    return ended


async def _shrink(store: Store) -> None:
    """The room that became free goes back to the file system, a little at a time: appends go on in between."""
    left = await store.give_back(PAGES)
    while left and (now := await store.give_back(PAGES)) < left:
        left = now
        await trio.lowlevel.checkpoint()


def _bytes(store: Store) -> int:
    counts = store.statistics()
    return counts.database_bytes + counts.wal_bytes


# --- where to cut ---------------------------------------------------------------------------------------------------


async def _cut(store: Store, before: str, now: int) -> int:
    """The last position that is to move. Raises ClientFailure."""
    head = (await store.head_on_disk()).position
    if _POSITION.fullmatch(before):
        if int(before) > head + 1:
            raise ClientFailure(f"before: the log ends at position {head}.", param="before")
        through = max(0, int(before) - 1)
        youngest = await _before(store, now - YOUNGEST_MS + 1, now)
        if through > youngest:
            raise _too_young(await _why(store, youngest + 1, now), youngest)
        return through
    age = _AGE.fullmatch(before)
    limit = now - int(age[1]) * _AGES_MS[age[2]] if age else _time(before)
    if limit > now - YOUNGEST_MS:
        youngest = await _before(store, now - YOUNGEST_MS + 1, now)
        raise _too_young("this is within the last hour, or in the future", youngest)
    return await _before(store, limit, now)


def _time(text: str) -> int:
    try:
        return time_of(text, "before")
    except ClientFailure:
        raise ClientFailure(
            f"before: '{printable(text, 60)}' is no age such as 30d, no time such as 2026-11-22T18:30:00Z, and no position.",
            param="before",
        ) from None


async def _before(store: Store, time_ms: int, now: int) -> int:
    """The last position with a time before this one; but no event of the last hour is up to there.

    A single event with a time in the future, when a clock was ahead, changes nothing: those after it tell that it is as old.
    """
    origin = (await store.origin()).head.position
    older = await store.read(limit=1, recorded_to=time_ms - 1, newest_first=True, archived=False)
    last = max(origin, older[0].position) if older else origin
    young = await store.read(
        limit=1, until=last, recorded_from=now - YOUNGEST_MS + 1, recorded_to=now, archived=False
    )  # a clock that was set back later
    return young[0].position - 1 if young else last


async def _why(store: Store, position: int, now: int) -> str:
    (event,) = await store.read(limit=1, after=position - 1)
    when = "within the last hour" if event.recorded_at <= now else "at a time in the future"
    return f"position {position} was recorded {when}"


def _too_young(what: str, youngest: int) -> ClientFailure:
    return ClientFailure(
        f"before: {what}, and the last hour stays in the database. What can move now are the positions up to {youngest}.",
        param="before",
        code="too_young",
    )


# --- day by day -----------------------------------------------------------------------------------------------------

INTERVAL_S = 3_600.0
"""so that a gateway that is started every morning archives too"""


def nightly(archiver: Archiver, days: int) -> Job:
    """Archives what is older than so many days, as soon as a whole day of it has come together."""

    async def work() -> None:
        if await archiver.holds_older_than(days + 1):
            await archiver.ask(ArchiveLog(f"{days}d", principal="gateway"))

    return Job("archive", INTERVAL_S, work)
