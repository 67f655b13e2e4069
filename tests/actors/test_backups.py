"""Backups are made while the gateway writes, and a restore leaves the old log or the new one, whatever happens."""

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import trio

from llmux.actors.backups import Restored, back_up_log, restore_log
from llmux.actors.mending import accept_loss, rekey
from llmux.actors.opening import open_system
from llmux.clock import SeededClock, SystemClock
from llmux.config import Settings, replaced
from llmux.events import ChainKeyChanged, LogRestored, LossAccepted
from llmux.eventstore import (
    CONTENT_FILE,
    FILE,
    KeptContent,
    KeptText,
    Keys,
    Reader,
    Verified,
    backup,
    check_witness,
    open_content,
    open_reader,
    open_store,
    own_directory,
    read_witness,
    seal,
    tidy,
    verify,
)
from llmux.eventstore.archive import name_of
from llmux.failures import (
    ArchiveMissing,
    ChainKeyWrong,
    ConfigurationWrong,
    DirectoryInUse,
    LLMuxError,
    LogDamaged,
    StoreFailure,
    TailMissing,
)
from llmux.migrations import upgrade
from llmux.prompts import Prompt, user
from tests.actors.house import house_settings, wish
from tests.eventstore.archived import archive, files
from tests.eventstore.logs import tampered
from tests.golden.logs import LOGS, unpacked_into

KEY = "a key that is long enough for the chain, 0123456789"
NEW_KEY = "another key that is long enough for it, 0123456789"


async def check(reader: Reader, keys: Keys) -> Verified:
    return await verify(reader, keys=keys)


async def ran(settings: Settings, requests: int = 2) -> int:
    """A gateway runs, answers so many requests, and stops. Returns the last position."""
    async with open_system(settings, SystemClock()) as system:
        for number in range(requests):
            await system.request(wish(f"prompt {number}")).answer()
    return system.facts.position


async def state_of(settings: Settings, *, file: str = FILE, directory: Path | None = None) -> Verified:
    """What is there, verified whole and against its witness."""
    async with open_reader(directory or settings.data_dir, settings.limits, file=file) as reader:
        if directory is None:
            await check_witness(reader, read_witness(settings.witness))
        return await verify(reader, keys=Keys(settings.chain_keys))


async def last_of(settings: Settings, kind: type) -> object:
    async with open_reader(settings.data_dir, settings.limits) as reader:
        (event,) = await reader.read(types=(kind.__name__,), newest_first=True, limit=1)
        return event.fact


# --- backup ----------------------------------------------------------------------------------------------------------


async def test_a_backup_while_the_gateway_writes_is_a_whole_log(tmp_path: Path) -> None:
    """Its chain holds, it holds all that was acknowledged before it began, and nobody waited for it."""
    settings, copy = house_settings(tmp_path), tmp_path / "copy.db"
    async with open_system(settings, SystemClock()) as system:
        stop = trio.Event()

        async def ask_on() -> None:
            number = 0
            while not stop.is_set():
                await system.request(wish(f"prompt {number}")).answer()
                number += 1

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask_on)
            for _ in range(5):
                await system.request(wish("one more")).answer()
                before = system.facts.position
                made = await back_up_log(settings, copy, check, force=True)
                assert before <= made.position <= system.facts.position
                assert (await state_of(settings, directory=tmp_path, file="copy.db")).head.position == made.position
            stop.set()
    assert copy.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.glob("copy*")] == ["copy.db"]
    connection = sqlite3.connect(copy)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()


async def test_a_long_backup_need_not_begin_again_when_something_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "PAGES_AT_ONCE", 1)
    settings = house_settings(tmp_path)
    position = await ran(settings, 5)
    other = sqlite3.connect(settings.data_dir / FILE, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE noise (x)")
    seen: list[int] = []

    def write(done: int, pages: int) -> None:
        other.execute("INSERT INTO noise VALUES (zeroblob(5000))")
        seen.append(done)

    made = await back_up_log(settings, tmp_path / "copy.db", check, progress=write)
    other.close()
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) > 5
    assert made.position == position


async def test_a_backup_replaces_no_file_unless_it_is_told_to(tmp_path: Path) -> None:
    settings, copy = house_settings(tmp_path), tmp_path / "copy.db"
    position = await ran(settings)
    copy.write_text("mine")
    with pytest.raises(ConfigurationWrong, match=r"exists already.*--force"):
        await back_up_log(settings, copy, check)
    assert copy.read_text() == "mine"
    assert (await back_up_log(settings, copy, check, force=True)).position == position
    for place in (tmp_path, tmp_path / "missing" / "copy.db"):
        with pytest.raises(ConfigurationWrong, match="name a file in a directory that exists"):
            await back_up_log(settings, place, check)


@pytest.mark.parametrize(
    "where",
    ["the log", "a new file", "an archive", "a link", "a hard link", "a linked folder", "a loose link", "the witness"],
)
async def test_a_backup_is_never_written_where_the_gateway_has_its_files(tmp_path: Path, where: str) -> None:
    settings = house_settings(tmp_path, witness_file=str(tmp_path / "witness.json"))
    position = await ran(settings)
    data, target = settings.data_dir, tmp_path / "copy.db"
    (data / "archives").mkdir(exist_ok=True)
    (data / "archives" / "one.gz").write_bytes(b"one")
    match where:
        case "the log":
            target = data / FILE
        case "a new file":
            target = data / "copy.db"
        case "an archive":
            target = data / "archives" / "one.gz"
        case "a link":
            target.symlink_to(data / FILE)
        case "a hard link":
            target.hardlink_to(data / FILE)
        case "a linked folder":
            (tmp_path / "linked").symlink_to(data)
            target = tmp_path / "linked" / "copy.db"
        case "a loose link":
            target.symlink_to(data / "copy.db")
        case _:
            target = settings.witness
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    with pytest.raises(ConfigurationWrong, match=r"a place of the gateway itself.*Name a file elsewhere"):
        await back_up_log(settings, target, check, force=True)
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
    assert (await state_of(settings)).head.position == position
    with pytest.raises(ConfigurationWrong, match="in the data directory"):
        await back_up_log(settings, tmp_path / "other.db", check, archives=data / "archives")


async def test_a_backup_replaces_no_device(tmp_path: Path) -> None:
    settings, pipe, link = house_settings(tmp_path), tmp_path / "pipe", tmp_path / "link"
    await ran(settings)
    os.mkfifo(pipe)
    link.symlink_to("/dev/null")
    for target in (pipe, link, Path("/dev/full")):
        with pytest.raises(ConfigurationWrong, match="is a device or something like it: name a file"):
            await back_up_log(settings, target, check, force=True)
    assert pipe.is_fifo()


async def test_a_backup_through_a_link_is_in_the_file_that_the_link_names(tmp_path: Path) -> None:
    settings, link = house_settings(tmp_path), tmp_path / "link.db"
    await ran(settings)
    (tmp_path / "copy.db").write_text("mine")
    link.symlink_to(tmp_path / "copy.db")
    await back_up_log(settings, link, check, force=True)
    assert link.is_symlink()
    await state_of(settings, directory=tmp_path, file="copy.db")


@pytest.mark.parametrize("force", [True, False])
async def test_two_backups_to_one_file_do_not_meet(tmp_path: Path, force: bool) -> None:
    """Each has a file of its own until it is whole. Without --force the second one finds the name taken."""
    settings, copy = house_settings(tmp_path), tmp_path / "copy.db"
    position = await ran(settings)
    (tmp_path / "copy.db.part").write_text("mine")
    ends: list[str] = []

    async def back_up_once() -> None:
        try:
            assert (await back_up_log(settings, copy, check, force=force)).position == position
        except ConfigurationWrong as wrong:
            ends.append(str(wrong))
        else:
            ends.append("done")

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(back_up_once)
    taken = f"{copy} exists by now: somebody else has just written it."
    assert sorted(ends) == (["done"] * 3 if force else sorted(["done", taken, taken]))
    assert (await state_of(settings, directory=tmp_path, file="copy.db")).head.position == position
    assert sorted(each.name for each in tmp_path.glob("copy*")) == ["copy.db", "copy.db.part"]
    assert (tmp_path / "copy.db.part").read_text() == "mine"


async def test_a_log_that_is_not_whole_gives_no_backup(tmp_path: Path) -> None:
    settings = house_settings(tmp_path)
    await ran(settings)
    tampered(settings.data_dir, "UPDATE events SET principal = 'mallory' WHERE position = 3")
    with pytest.raises(LogDamaged, match="Position 3"):
        await back_up_log(settings, tmp_path / "copy.db", check)
    assert list(tmp_path.glob("copy*")) == []


async def test_who_backs_up_need_not_have_the_key(tmp_path: Path) -> None:
    settings = house_settings(tmp_path, chain_keys=(KEY,))
    await ran(settings)
    made = await back_up_log(replaced(settings, chain_keys=()), tmp_path / "copy.db", check)
    assert "Set LLMUX_CHAIN_KEY" in made.unsure
    assert (await back_up_log(settings, tmp_path / "copy.db", check, force=True)).unsure == ""


# --- restore ---------------------------------------------------------------------------------------------------------


async def backed_up(directory: Path, settings: Settings) -> tuple[Path, int, int]:
    """A backup, its last position, and that of the log, which has gone on since."""
    position = await ran(settings)
    await back_up_log(settings, directory / "copy.db", check)
    return directory / "copy.db", position, await ran(settings, 3)


@pytest.mark.parametrize("keys", [(), (KEY,)], ids=["without a key", "with a key"])
async def test_a_restored_log_goes_on_from_the_backup_and_says_so(tmp_path: Path, keys: tuple[str, ...]) -> None:
    settings = house_settings(tmp_path, chain_keys=keys)
    copy, position, later = await backed_up(tmp_path, settings)
    before = copy.read_bytes()
    restored = await restore_log(settings, SystemClock(), copy, check, replace=True)
    assert restored.position == position
    assert (await state_of(settings)).head.position == position + 1
    fact = await last_of(settings, LogRestored)
    assert isinstance(fact, LogRestored)
    assert fact.position == position
    assert restored.aside is not None
    assert (await state_of(settings, directory=settings.data_dir, file=restored.aside.name)).head.position == later
    assert await ran(settings) > position + 1
    assert copy.read_bytes() == before
    assert not list(settings.data_dir.glob("*.restoring*"))


async def test_a_log_is_restored_where_there_is_none(tmp_path: Path) -> None:
    copy, position, _ = await backed_up(tmp_path, house_settings(tmp_path))
    elsewhere = house_settings(tmp_path / "elsewhere")
    assert await restore_log(elsewhere, SystemClock(), copy, check) == Restored(position, None, 0)
    assert (await state_of(elsewhere)).head.position == position + 1
    assert (elsewhere.data_dir / FILE).stat().st_mode & 0o777 == 0o600


async def test_a_log_that_is_there_is_not_replaced_unless_somebody_says_so(tmp_path: Path) -> None:
    settings = house_settings(tmp_path)
    copy, _, later = await backed_up(tmp_path, settings)
    with pytest.raises(ConfigurationWrong, match="--replace"):
        await restore_log(settings, SystemClock(), copy, check)
    assert (await state_of(settings)).head.position == later


async def test_nothing_is_restored_while_a_gateway_runs(tmp_path: Path) -> None:
    settings = house_settings(tmp_path)
    copy, _, _ = await backed_up(tmp_path, settings)
    with own_directory(settings.data_dir), pytest.raises(DirectoryInUse):
        await restore_log(settings, SystemClock(), copy, check, replace=True)


@pytest.mark.parametrize("what", ["changed", "no database", "under a key", "missing"])
async def test_what_is_no_whole_backup_is_not_restored(tmp_path: Path, what: str) -> None:
    settings = house_settings(tmp_path)
    copy, _, later = await backed_up(tmp_path, settings)
    if what == "changed":
        (tmp_path / "b").mkdir()
        copy = copy.rename(tmp_path / "b" / FILE)
        tampered(tmp_path / "b", "UPDATE events SET principal = 'mallory' WHERE position = 3")
    elif what == "no database":
        copy.write_bytes(b"something else " * 1000)
    elif what == "missing":
        copy = tmp_path / "none.db"
    else:
        settings = replaced(settings, chain_keys=(KEY,))
    expected = {
        "changed": LogDamaged,
        "no database": LogDamaged,
        "under a key": ChainKeyWrong,
        "missing": ConfigurationWrong,
    }
    with pytest.raises(expected[what]):
        await restore_log(settings, SystemClock(), copy, check, replace=True)
    assert (await state_of(replaced(settings, chain_keys=()))).head.position == later
    assert not list(settings.data_dir.glob("*restor*"))


def made_with(path: Path, *statements: str) -> Path:
    """The database at `path`, after these statements."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


@pytest.mark.parametrize(
    "what",
    [
        *("empty", "no events", "foreign", "with alembic", "with more", "another trigger", "no trigger"),
        *("newer", "cut", "cut at a page", "kept texts"),
    ],
)
async def test_what_is_not_exactly_a_log_is_not_restored(tmp_path: Path, what: str) -> None:
    settings = house_settings(tmp_path)
    copy, _, later = await backed_up(tmp_path, settings)
    content, said = copy.read_bytes(), "is no backup of a log: it holds no events, or something else"
    match what:
        case "empty":
            copy.write_bytes(b"")
        case "no events":
            copy.unlink()
            upgrade(copy)
        case "foreign":
            made_with(tmp_path / "other.db", "CREATE TABLE secrets (x)")
            copy = tmp_path / "other.db"
        case "with alembic":
            copy.unlink()
            made_with(copy, "CREATE TABLE events (x)", "CREATE TABLE alembic_version (version_num)")
            made_with(copy, "INSERT INTO alembic_version VALUES ('0002')", "INSERT INTO events VALUES (1)")
            said = "was not restored|cannot be"
        case "with more":
            made_with(copy, "CREATE TABLE secrets (x)")
        case "another trigger":
            made_with(copy, "CREATE TRIGGER more AFTER INSERT ON events BEGIN DELETE FROM origin; END")
            said = "was not restored. Its tables or triggers are not those of a log"
        case "no trigger":
            made_with(copy, "DROP TRIGGER events_are_never_removed")
            said = "was not restored. Its tables or triggers are not those of a log"
        case "newer":
            made_with(copy, "UPDATE alembic_version SET version_num = '9999'")
            said = "written by a newer LLMux. Restore it with that one"
        case "cut":
            copy.write_bytes(content[:5000])
            said = "copy.db is no whole log"
        case "cut at a page":
            copy.write_bytes(content[: 4096 * 3])
            said = "copy.db is no whole log"
        case _:
            (tmp_path / "texts").mkdir()
            async with open_content(tmp_path / "texts", settings.limits) as texts:
                text = KeptText(Prompt((user("hello"),)), "an answer")
                await texts.keep([KeptContent("r", "k", 1, 10**15, "stop", "", text)])
            copy = tmp_path / "texts" / CONTENT_FILE
    before = {path: path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file()}
    with pytest.raises(LLMuxError, match=said):
        await restore_log(settings, SystemClock(), copy, check, replace=True)
    after = {path: path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file()}
    assert {path.name for path, held in after.items() if before.get(path) != held} <= {"lock"}
    assert before.keys() <= after.keys()
    assert (await state_of(settings)).head.position == later


async def test_a_backup_of_the_first_version_is_restored_and_brought_up_to_date(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    copy = unpacked_into(tmp_path / "old", LOGS[0])
    settings = house_settings(tmp_path)
    restored = await restore_log(settings, SystemClock(), copy, check)
    assert (await state_of(settings)).head.position == restored.position + 1 > 1
    assert await ran(settings) > restored.position + 1


async def test_a_damaged_log_can_be_replaced_and_is_kept(tmp_path: Path) -> None:
    settings = house_settings(tmp_path)
    copy, position, _ = await backed_up(tmp_path, settings)
    database = settings.data_dir / FILE
    database.write_bytes(b"\x00" * 5000)
    (settings.data_dir / f"{FILE}-wal").write_bytes(b"rubbish")
    restored = await restore_log(settings, SystemClock(), copy, check, replace=True)
    assert restored.aside is not None
    assert restored.aside.read_bytes() == b"\x00" * 5000
    assert (await state_of(settings)).head.position == position + 1


# --- archives ----------------------------------------------------------------------------------------------------------


async def archived(settings: Settings, *through: int) -> list[Path]:
    """Moves the log up to these positions into archives, and returns the files."""
    limits, keys = settings.limits, Keys(settings.chain_keys)
    async with open_store(settings.data_dir, clock=SystemClock(), limits=limits, keys=keys) as store:
        for position in through:
            await archive(store, position)
    return files(settings.data_dir)


async def test_archives_are_copied_with_a_backup_and_back(tmp_path: Path) -> None:
    settings, kept = house_settings(tmp_path), tmp_path / "kept"
    await ran(settings, 6)
    archives = await archived(settings, 4, 9, 15, 24)
    (settings.data_dir / "archives" / "two.jsonl.gz.part").write_bytes(b"not yet")
    made = await back_up_log(settings, tmp_path / "copy.db", check, archives=kept)
    assert (made.archives, sorted(each.name for each in kept.iterdir())) == (4, [each.name for each in archives])
    again = await back_up_log(settings, tmp_path / "copy.db", check, archives=kept, force=True)
    assert again.archives == 0
    elsewhere = house_settings(tmp_path / "elsewhere")
    restored = await restore_log(elsewhere, SystemClock(), tmp_path / "copy.db", check, archives=kept)
    assert restored.archives == 4
    assert [each.read_bytes() for each in files(elsewhere.data_dir)] == [each.read_bytes() for each in archives]


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("what", ["missing", "changed"])
async def test_a_backup_with_archives_fails_and_names_the_one_that_is_missing_or_damaged(
    tmp_path: Path, number: int, what: str
) -> None:
    settings, kept, copy = house_settings(tmp_path), tmp_path / "kept", tmp_path / "copy.db"
    await ran(settings, 6)
    archives = await archived(settings, 4, 9, 24)
    content = bytearray(archives[number].read_bytes())
    content[len(content) // 2] ^= 1
    if what == "missing":
        archives[number].unlink()
    else:
        archives[number].write_bytes(content)
    with pytest.raises(ArchiveMissing if what == "missing" else LogDamaged, match=archives[number].name):
        await back_up_log(settings, copy, check, archives=kept)
    assert not list(tmp_path.glob("copy*"))
    assert not (kept / archives[number].name).exists()
    assert not list(kept.glob("*.part"))


async def test_a_copied_archive_is_known_by_its_content_not_by_its_size(tmp_path: Path) -> None:
    settings, kept, copy = house_settings(tmp_path), tmp_path / "kept", tmp_path / "copy.db"
    await ran(settings, 6)
    (archived_file,) = await archived(settings, 9)
    kept.mkdir()
    mine = kept / archived_file.name
    mine.write_bytes(bytes(archived_file.stat().st_size))
    with pytest.raises(ConfigurationWrong, match=rf"{mine.name} is not the archive of this log"):
        await back_up_log(settings, copy, check, archives=kept)
    assert mine.read_bytes() == bytes(archived_file.stat().st_size)
    assert (await back_up_log(settings, copy, check, archives=kept, force=True)).archives == 1
    assert mine.read_bytes() == archived_file.read_bytes()


async def test_archives_of_the_log_that_is_replaced_are_not_overwritten(tmp_path: Path) -> None:
    """The log that is set aside goes on from them."""
    settings, kept, copy = house_settings(tmp_path), tmp_path / "kept", tmp_path / "copy.db"
    other = house_settings(tmp_path / "other")
    for each in (settings, other):
        await ran(each, 6)
    await archived(other, 9)
    await back_up_log(other, copy, check, archives=kept)
    (own,) = await archived(settings, 9)
    before = own.read_bytes()
    with pytest.raises(ConfigurationWrong, match=rf"{own.name} is not the archive of this log"):
        await restore_log(settings, SystemClock(), copy, check, archives=kept, replace=True)
    assert own.read_bytes() == before
    await state_of(settings)


async def test_archiving_a_restored_log_takes_no_archive_from_the_log_that_was_set_aside(tmp_path: Path) -> None:
    """The restored log holds the same events in its database: to it alone, the file would be a leftover."""
    settings = house_settings(tmp_path)
    copy, position, later = await backed_up(tmp_path, settings)
    (needed,) = await archived(settings, 9)
    content = needed.read_bytes()
    aside = (await restore_log(settings, SystemClock(), copy, check, replace=True)).aside
    assert aside is not None
    async with open_store(settings.data_dir, clock=SystemClock(), limits=settings.limits) as store:
        assert await tidy(store) == [f"{needed.name}.aside"]
        through = (await store.head_on_disk()).position
        await seal(store, through, b"{}", 1, ended=lambda stream: False)  # and then it stopped: this is a leftover
        assert await tidy(store) == []
        await archive(store, position)
    assert [each.name for each in files(settings.data_dir)] == [name_of(1, position)]
    needed.with_name(f"{needed.name}.aside").rename(needed)
    assert needed.read_bytes() == content
    async with open_reader(settings.data_dir, settings.limits, file=aside.name) as reader:
        assert [event.position for event in await reader.read(limit=1000)] == list(range(1, later + 2))


MORTAL = """
import os, sys
from pathlib import Path
import trio
from llmux.actors import backups
from llmux.clock import SystemClock
from llmux.config import Settings
from llmux.eventstore import backup, verify

left = 0

def mortal(work):
    def done(*given, **named):
        global left
        left -= 1
        if left == 0:
            os._exit(9)
        return work(*given, **named)
    return done

settings, copy = Settings(data_dir=Path(sys.argv[1])), Path(sys.argv[2])
for name in ("replace", "link", "fsync", "rename", "unlink"):
    setattr(os, name, mortal(getattr(os, name)))
for name in ("back_up", "install", "discard", "write_witness"):
    setattr(backups, name, mortal(getattr(backups, name)))
backup.settle = mortal(backup.settle)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        left = int(line)
        trio.run(lambda: backups.restore_log(settings, SystemClock(), copy, lambda r, k: verify(r, keys=k), replace=True))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


async def test_a_restore_that_is_killed_at_any_step_leaves_the_old_log_or_the_new_one(
    tmp_path: Path, in_process
) -> None:
    settings = house_settings(tmp_path)
    copy, position, later = await backed_up(tmp_path, settings)
    pristine = {each.name: each.read_bytes() for each in settings.data_dir.iterdir() if each.is_file()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": Path(__file__).parents[2]}
    restoring = in_process("-c", MORTAL, str(settings.data_dir), str(copy), **pipes)
    ends: list[int] = []
    exit_status = 9
    while exit_status == 9:
        for each in settings.data_dir.iterdir():
            if each.is_file():
                each.unlink()
        for name, content in pristine.items():
            (settings.data_dir / name).write_bytes(content)
        restoring.stdin.write(f"{len(ends) + 1}\n")
        restoring.stdin.flush()
        exit_status = int(restoring.stdout.readline())
        ends.append((await state_of(settings)).head.position)
        async with open_system(settings, SeededClock()):  # it starts: nothing is in its way
            pass
    assert exit_status == 0
    assert ends == sorted(ends, reverse=True)
    assert set(ends) == {later, position + 1}
    assert len(ends) > 10


# --- another key, and a loss ------------------------------------------------------------------------------------------


async def test_a_log_gets_a_key_and_another_one_only_when_its_owner_says_so(tmp_path: Path) -> None:
    settings = house_settings(tmp_path)
    await ran(settings)
    with pytest.raises(ConfigurationWrong, match="no key to go on under"):
        await rekey(settings, SystemClock(), check)
    for keys in ((KEY,), (KEY, NEW_KEY)):
        settings = replaced(settings, chain_keys=keys)
        with pytest.raises(ChainKeyWrong, match="llmux rekey"):
            await ran(settings)
        done = await rekey(settings, SystemClock(), check)
        assert done is not None
        assert await last_of(settings, ChainKeyChanged) == ChainKeyChanged(before=done.before, after=Keys(keys).name)
        assert await rekey(settings, SystemClock(), check) is None
        await ran(settings)
        assert (await state_of(settings)).key == Keys(keys).name


async def test_no_key_hides_what_was_changed_before_it_came(tmp_path: Path) -> None:
    settings = house_settings(tmp_path)
    await ran(settings)
    tampered(settings.data_dir, "UPDATE events SET principal = 'mallory' WHERE position = 3")
    with pytest.raises(LogDamaged, match="Position 3"):
        await rekey(replaced(settings, chain_keys=(KEY,)), SystemClock(), check)


async def test_a_lost_key_does_not_end_the_log_and_the_log_says_that_it_is_lost(tmp_path: Path) -> None:
    settings = house_settings(tmp_path, chain_keys=(KEY,))
    position = await ran(settings)
    settings = replaced(settings, chain_keys=(NEW_KEY,))
    with pytest.raises(ChainKeyWrong, match="rekey --lost"):
        await rekey(settings, SystemClock(), check)
    done = await rekey(settings, SystemClock(), check, lost=True)
    assert done is not None
    assert (done.position, done.before) == (position + 1, Keys((KEY,)).name)
    fact = await last_of(settings, ChainKeyChanged)
    assert isinstance(fact, ChainKeyChanged)
    assert fact.lost
    await ran(settings)
    with pytest.raises(ChainKeyWrong, match=f"Positions 1 to .* {Keys((KEY,)).name}"):
        await state_of(settings)
    assert (await state_of(replaced(settings, chain_keys=(KEY, NEW_KEY)))).key == Keys((NEW_KEY,)).name


async def test_a_loss_is_accepted_only_in_words_and_stays_in_the_log(tmp_path: Path) -> None:
    settings = house_settings(tmp_path)
    last = await ran(settings)
    assert await accept_loss(settings, SystemClock(), "nothing") is None
    tampered(settings.data_dir, "DELETE FROM events WHERE position > 6")
    with pytest.raises(TailMissing):
        await ran(settings)
    accepted = await accept_loss(settings, SystemClock(), "the disk died")
    assert accepted is not None
    assert await last_of(settings, LossAccepted) == accepted
    assert (accepted.position, accepted.last_position, accepted.witnessed_position) == (6, last, last)
    assert accepted.reason == "the disk died"
    assert (await state_of(settings)).head.position == 7
    assert await ran(settings) > 7
    await state_of(settings)


async def test_a_loss_is_not_accepted_while_a_gateway_runs(tmp_path: Path) -> None:
    settings = house_settings(tmp_path)
    await ran(settings)
    with own_directory(settings.data_dir), pytest.raises(DirectoryInUse):
        await accept_loss(settings, SystemClock(), "why not")


async def test_a_log_that_somebody_reads_is_not_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its write-ahead log could not be emptied, and without it the log would lose what is there."""
    settings = house_settings(tmp_path)
    copy, _, later = await backed_up(tmp_path, settings)
    reading = sqlite3.connect(settings.data_dir / FILE, isolation_level=None)
    reading.execute("BEGIN")
    reading.execute("SELECT count(*) FROM events").fetchone()
    writing = sqlite3.connect(settings.data_dir / FILE, isolation_level=None)
    writing.execute("CREATE TABLE noise (x)")
    writing.close()
    monkeypatch.setattr(backup, "WAIT_SECONDS_MAX", 0)
    with pytest.raises(StoreFailure, match=r"Another program has .* open"):
        await restore_log(settings, SystemClock(), copy, check, replace=True)
    reading.close()
    async with open_reader(settings.data_dir, settings.limits) as reader:
        assert (await reader.head_on_disk()).position == later
