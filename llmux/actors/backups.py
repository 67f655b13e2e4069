"""Backing up a log while a gateway runs on it, and putting a backup in the place of a log while none does."""

import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import trio

from llmux import migrations
from llmux.actors.backup_places import checked_folder, checked_target
from llmux.clock import Clock
from llmux.config import Settings
from llmux.events import LogRestored, NewEvent
from llmux.eventstore import (
    FILE,
    Append,
    Keys,
    Reader,
    Verified,
    back_up,
    check_is_log,
    check_tables,
    claimed,
    copy_archives,
    discard,
    install,
    named,
    open_reader,
    open_store,
    own_directory,
    sync_directory,
    write_witness,
)
from llmux.failures import ChainKeyWrong, ConfigurationWrong, LLMuxError, LogDamaged, SchemaUnknown, StoreFailure

ARCHIVES = "archives"

Check = Callable[[Reader, Keys], Awaitable[Verified]]
"""Verifies a log. Raises LogDamaged, or ChainKeyWrong when nothing is wrong but the keys do not tell everything."""


class BackedUp(msgspec.Struct, frozen=True):
    """What is in the backup. `unsure` is why its chain could not be checked wholly ("" = it was)."""

    position: int
    archived_through: int
    """the events up to there are not in the file, but in archives"""
    bytes: int
    archives: int
    unsure: str


class Restored(msgspec.Struct, frozen=True):
    """The log goes on after `position`. `aside` is where the log before it is now, if there was one."""

    position: int
    aside: Path | None
    archives: int


async def back_up_log(
    settings: Settings,
    target: Path,
    check: Check,
    *,
    archives: Path | None = None,
    force: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> BackedUp:
    """Writes the log as it is at this moment into the file `target` (mode 0600), beside a gateway or without one.

    The file appears whole, after its chain was verified. With `archives` the archived events are copied to that folder, each
    file checked with the hash that the log says. Raises ConfigurationWrong for a file of the gateway itself, for what is no
    file, and for one that exists, unless `force`; StoreFailure; ArchiveMissing; LogDamaged when the log is not whole.
    """
    real = checked_target(settings, target, force=force)
    folder = archives and checked_folder(settings, archives)
    keys = Keys(settings.chain_keys)
    async with open_reader(settings.data_dir, settings.limits):
        pass  # says what is wrong, before a file is made
    part = claimed(real)
    try:
        await trio.to_thread.run_sync(back_up, settings.data_dir / FILE, part, progress)
        unsure, copied = "", 0
        async with open_reader(part.parent, settings.limits, file=part.name) as reader:
            try:
                await check(reader, keys)
            except ChainKeyWrong as wrong:  # whoever backs up need not have the key
                unsure = str(wrong)
            except LogDamaged as damage:
                raise LogDamaged(f"{target} was not written: the log is not whole. {damage}", damage.position) from None
            head, archived = await reader.head_on_disk(), (await reader.origin()).head.position
            if folder is not None:  # those that the copy goes on from; what is archived meanwhile is in the copy itself
                copied = await copy_archives(reader, settings.data_dir / ARCHIVES, folder, replace=force)
        size = os.stat(part).st_size
        named(part, real, replace=force)
    except OSError as error:
        raise StoreFailure(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        discard(part)
    return BackedUp(head.position, archived, size, copied, unsure)


async def restore_log(
    settings: Settings, clock: Clock, source: Path, check: Check, *, archives: Path | None = None, replace: bool = False
) -> Restored:
    """Puts the backup `source` in the place of the log, records that, and witnesses the new head.

    The backup is verified first, whole and under the key that is set. A log that is there is kept under another name, and is
    refused unless `replace`. Interrupted at any moment, the old log or the new one is there, whole. Raises DirectoryInUse
    while a gateway runs, ConfigurationWrong (also for a file that is no log), StoreFailure, LogDamaged, ChainKeyWrong.
    """
    directory = settings.data_dir
    database, staged = directory / FILE, directory / f"{FILE}.restoring"
    _check_source(source, staged)
    with own_directory(directory):
        had_one = _check_place(database, replace)
        try:
            position, copied = await _stage(settings, clock, source, staged, check, archives)
            aside = _aside(settings, clock)
            await trio.to_thread.run_sync(_exchange, settings, staged, database, aside)
        finally:
            discard(staged)
        async with open_reader(directory, settings.limits) as reader:
            head = await reader.head_on_disk()
        await trio.to_thread.run_sync(write_witness, settings.witness, head, clock.now())
    return Restored(position, aside if had_one else None, copied)


def _check_source(source: Path, staged: Path) -> None:
    if not source.is_file():
        raise ConfigurationWrong(f"There is no backup at {source}.")
    if staged.exists() and source.samefile(staged):
        raise ConfigurationWrong(f"{source} is what an interrupted restore has left. Name the backup itself.")
    check_is_log(source)


def _check_place(database: Path, replace: bool) -> bool:
    """Whether there is a log to be replaced."""
    if database.exists() and not replace:
        raise ConfigurationWrong(
            f"There is a log in {database.parent} already. Add --replace: it is then kept beside the restored one, under "
            "another name. Or set LLMUX_DATA_DIR to another directory."
        )
    return database.exists()


async def _stage(
    settings: Settings, clock: Clock, source: Path, staged: Path, check: Check, archives: Path | None
) -> tuple[int, int]:
    """Makes the file that the log will be, complete with the event that says where it came from, and copies its archives.

    Returns the backup's last position, and how many archives were copied.
    """
    keys, copied = Keys(settings.chain_keys), 0
    discard(staged)
    await trio.to_thread.run_sync(back_up, source, staged)
    try:
        _bring_up_to_date(staged, source)
        async with open_store(staged.parent, clock=clock, limits=settings.limits, keys=keys, file=staged.name) as store:
            head = (await check(store, keys)).head
            if archives is not None:
                copied = await copy_archives(store, archives, settings.data_dir / ARCHIVES)
            fact = LogRestored(position=head.position, head=head.hash.hex())
            event = NewEvent("log-restores", fact, clock.new_id(), principal="admin")
            (outcome,) = await store.append([Append((event,))])
    except LogDamaged as damage:
        raise LogDamaged(f"{source} was not restored. {damage}", damage.position) from None
    if isinstance(outcome, LLMuxError):
        raise outcome
    return head.position, copied


def _bring_up_to_date(staged: Path, source: Path) -> None:
    """The tables of the copy are those of this LLMux then, and it holds nothing else."""
    pattern = staged.with_name(f"{staged.name}.tables")
    try:
        migrations.upgrade(staged)
        migrations.upgrade(pattern)
        check_tables(staged, pattern)
    except SchemaUnknown:
        raise SchemaUnknown(f"{source} was written by a newer LLMux. Restore it with that one.") from None
    finally:
        discard(pattern)


def _exchange(settings: Settings, staged: Path, database: Path, aside: Path) -> None:
    """The old witness goes first: it is one of the old log, and the new log would be refused for it."""
    if settings.witness.exists():
        os.replace(settings.witness, settings.witness.with_name(f"{settings.witness.name}{aside.name[len(FILE) :]}"))
        sync_directory(settings.witness.parent)
    install(staged, database, aside)


def _aside(settings: Settings, clock: Clock) -> Path:
    """A name for the old log that is not taken."""
    moment = datetime.fromtimestamp(clock.now() / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    names = [f"{FILE}.before-restore-{moment}"] + [f"{FILE}.before-restore-{moment}-{n}" for n in range(2, 100)]
    for name in names:
        if not (settings.data_dir / name).exists():
            return settings.data_dir / name
    raise StoreFailure(f"There are too many logs of {moment} beside {FILE} already; move them away.")
