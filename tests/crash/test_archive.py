"""Archiving is killed at every step, and at any moment while others append: the log is whole, and the next archiving finishes."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from llmux.actors import archiver
from llmux.actors.archiver import ArchiveLog, archive
from llmux.actors.audit import audit
from llmux.actors.facts import EMPTY, Facts, evolve, plain
from llmux.actors.journal import Journal
from llmux.actors.opening import open_journal
from llmux.actors.replaying import replay
from llmux.clock import SeededClock
from llmux.config import Limits, Settings
from llmux.events import RecordedEvent
from llmux.eventstore import Reader, open_reader
from llmux.failures import LLMuxError
from tests.crash.archiving import OLD
from tests.crash.faults import CODES, WHEN, Faults
from tests.crash.journals import new, running
from tests.eventstore.logs import foreign

ALL = bool(os.environ.get("LLMUX_TEST_ALL_FAULTS"))
ROUNDS = int(os.environ.get("LLMUX_TEST_ROUNDS", "1")) * 6
SEED = int(os.environ.get("LLMUX_TEST_SEED", "20261122"))
LOG = OLD + 25
DAY_MS = 86_400_000
MUST = {
    "before the file": "file: write",
    "half a file": "file: put",
    "before its name": "file: rename",
    "with its name": "DROP TRIGGER events_are_never_removed",
    "in the transaction": "DELETE FROM events WHERE position <= ?",
    "before the commit": "commit",
    "during the vacuum": "PRAGMA incremental_vacuum(2)",
    "before the checkpoint": "PRAGMA wal_checkpoint(TRUNCATE)",
}


@pytest.fixture
def archivers(in_process: Callable[..., subprocess.Popen]) -> Iterator[Callable[[str], str]]:
    """Sends a line to a server of archiving processes and returns its answer."""
    server = in_process(
        "-m", "tests.crash.archiving",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip

    def ask(line: str) -> str:
        server.stdin.write(f"{line}\n")
        server.stdin.flush()
        answer = server.stdout.readline().strip()
        assert answer, "the server of archiving processes has died"
        return answer

    yield ask
    server.stdin.close()
    server.wait(10)


async def everything(reader: Reader) -> list[RecordedEvent]:
    """All events, those in archives included."""
    events: list[RecordedEvent] = []
    while page := await reader.read(after=len(events), limit=1000):
        events += page
    return events


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of some events, with streams that go on and streams that end."""
    directory = tmp_path_factory.mktemp("original")
    ids = SeededClock(5)

    async def make() -> None:
        async with running(directory) as (_, journal):
            for number in range(LOG):
                await journal.append(new(f"key-{number % 7}" if number % 2 else "cache", number, ids))

    trio.run(make)
    return directory


async def judged(directory: Path, truth: list[RecordedEvent], facts: Facts, where: str) -> int:
    """Everything is there once and whole, archives included. Returns up to where it is archived."""
    async with open_reader(directory, Limits()) as reader:
        await audit(reader)
        found = await everything(reader)
        assert found[: len(truth)] == truth, where
        assert {event.type for event in found[len(truth) :]} <= {"LogArchived", "CacheCleared"}, where
        assert plain(await replay(reader, until=len(truth))) == plain(facts), where
        for cut in (0, 1, OLD // 2, OLD // 2 + 1, OLD):
            assert plain(await replay(reader, until=cut)) == plain(evolve(EMPTY, truth[:cut])), where
        return (await reader.origin()).head.position


async def finished(directory: Path, journal: Journal) -> None:
    """Archiving once more: then all that is old is archived, and nothing lies about."""
    clock = SeededClock(9)
    clock.shift(1000 * DAY_MS)
    await archive(journal, Settings(data_dir=directory), clock, ArchiveLog(str(OLD + 1)))
    assert [path.name for path in sorted((directory / "archives").iterdir())] == [
        "events-000000000001-000000000020.jsonl.gz",
        "events-000000000021-000000000040.jsonl.gz",
    ]


async def test_killed_at_any_step_it_loses_and_doubles_nothing(
    tmp_path: Path, original: Path, archivers: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiver, "EVENTS_MAX", OLD // 2)
    async with open_reader(original, Limits()) as reader:
        truth, facts = await everything(reader), await replay(reader)
    steps = _steps(tmp_path, original, archivers, 0, "done")
    reached = set()
    for step in _chosen(steps):
        where = f"killed before step {step} of {len(steps)}: {steps[step - 1]}"
        directory = tmp_path / "log"
        _steps(tmp_path, original, archivers, step, "killed")
        reached.add(await judged(directory, truth, facts, where))
        async with open_journal(Settings(data_dir=directory), SeededClock(3)) as journal:
            await finished(directory, journal)
            await journal.append(new("cache", 99, SeededClock(7)))
    assert reached == {0, OLD // 2, OLD}


def _steps(tmp_path: Path, original: Path, archivers: Callable[[str], str], last: int, ending: str) -> list[str]:
    """Archives a fresh copy of the log, killed before that step; its steps."""
    directory = tmp_path / "log"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(original, directory)
    assert archivers(f"steps {directory} {last}") == ending
    return (directory / "steps").read_text().splitlines()


def _chosen(steps: list[str]) -> list[int]:
    """All steps, or the first and the last of each that must be among them, and some between."""
    assert set(MUST.values()) <= set(steps)
    if ALL:
        return list(range(1, len(steps) + 1))
    places = {name: [number for number, step in enumerate(steps, 1) if step == name] for name in MUST.values()}
    return sorted({each for found in places.values() for each in (found[0], found[-1])} | {len(steps)})


async def test_whichever_call_fails_the_log_is_whole_and_the_next_archiving_finishes(
    tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call of SQLite's driver, and however it can fail."""
    monkeypatch.setattr(archiver, "EVENTS_MAX", OLD // 2)
    monkeypatch.setattr(archiver, "PAGES", 2)
    async with open_reader(original, Limits()) as reader:
        truth, facts = await everything(reader), await replay(reader)
    calls = await _with(Faults(), tmp_path, original)
    failed = 0
    for nth, call in enumerate(calls, 1):
        for when in WHEN:
            changes = call.commits or call.name.startswith(("BEGIN", "INSERT", "many", "DROP", "DELETE", "CREATE"))
            if when not in call.endings or not (ALL or (changes and nth % 2 == WHEN.index(when) % 2)):
                continue
            for code in CODES if ALL else (CODES[nth % len(CODES)],):
                faults = Faults(nth, code, when)
                await _with(faults, tmp_path, original)
                assert faults.fired, repr(faults)
                failed += 1
                await judged(tmp_path / "log", truth, facts, repr(faults))
                async with running(tmp_path / "log") as (_, journal):
                    await finished(tmp_path / "log", journal)
                await judged(tmp_path / "log", truth, facts, repr(faults))
    assert failed > 10


async def _with(faults: Faults, tmp_path: Path, original: Path) -> list:
    """Archives a fresh copy of the log with that fault; the calls of the archiving alone are counted."""
    directory = tmp_path / "log"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(original, directory)
    nth, faults.nth = faults.nth, 0
    clock = SeededClock(8)
    clock.shift(1000 * DAY_MS)
    with faults.installed(), trio.fail_after(20):
        async with running(directory) as (store, journal):
            faults.calls.clear()
            faults.nth = nth
            try:
                await archive(journal, Settings(data_dir=directory), clock, ArchiveLog(str(OLD + 1)))
            except LLMuxError:
                assert nth
            calls, faults.over = list(faults.calls), True
            await journal.append(new("cache", 99, SeededClock(nth + 1000)))  # it goes on all the same
            assert plain(journal.facts) == plain(await replay(store, snapshots=False)), repr(faults)
            assert await store.head_on_disk() == store.head
    return calls


async def test_what_was_acknowledged_while_archiving_was_killed_is_there_once(
    tmp_path: Path, archivers: Callable[[str], str]
) -> None:
    """One log that is appended to and archived at the same time, by a process that is killed again and again."""
    chance = random.Random(SEED)
    archives = 0
    for kill in range(ROUNDS):
        where = f"kill {kill} of seed {SEED}"
        pid = archivers(f"begin {tmp_path} {chance.randrange(2**32)}")
        await trio.sleep(chance.uniform(0.1, 0.6))  # the moment of a real kill is real time
        assert archivers(f"end {pid}") == "gone"
        if not (tmp_path / "acknowledged").exists():
            continue
        lines = (tmp_path / "acknowledged").read_text().split("\n")
        acknowledged = {line for line in lines[:-1] if line}
        async with open_reader(tmp_path, Limits()) as reader:
            archives = (await audit(reader)).archives
            found = [event.event_id for event in await everything(reader)]
        assert len(found) == len(set(found)), where
        assert not acknowledged - set(found), where
    print(f"seed {SEED}: {len(acknowledged)} events acknowledged, {archives} archives, {ROUNDS} kills")
    assert archives > 3


async def test_a_reader_with_an_open_transaction_holds_nothing_up(
    tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on seeing the log as it was; the file gets shorter when it has gone."""
    directory = tmp_path / "log"
    shutil.copytree(original, directory)
    monkeypatch.setattr(archiver, "EVENTS_MAX", OLD // 2)
    other = foreign(directory)
    other.execute("BEGIN")
    before = other.execute("SELECT position, hash FROM events").fetchall()
    async with running(directory) as (store, journal):
        await finished(directory, journal)
        assert other.execute("SELECT position, hash FROM events").fetchall() == before
        assert store.statistics().wal_bytes > 0
        other.execute("COMMIT")
        assert await store.give_back(100) == 0
        assert store.statistics().wal_bytes == 0
        assert other.execute("SELECT min(position) FROM events").fetchone() == (OLD + 1,)
    other.close()
