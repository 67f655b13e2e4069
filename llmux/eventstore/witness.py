"""The head of the log, witnessed outside the database: so that a cut end, or an end written anew, is noticed.

A hash chain shows what was changed within it. It does not show that its end is missing, and without a key not even that all of
it was written anew. A witness does: a small file with a position and the hash there. It may lag behind the log, never run ahead.
"""

import os
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog
import trio

from llmux.eventstore.archive import MALFORMED, event_in
from llmux.eventstore.archives import Archive, Place, damaged
from llmux.eventstore.chain import Head
from llmux.eventstore.reader import Reader
from llmux.eventstore.vouching import archived_facts
from llmux.failures import ArchiveMissing, ConfigurationWrong, LogDamaged, TailMissing

_BYTES_MAX = 4096

log = structlog.get_logger()


class Witness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The log had the hash `hash` (64 hex digits) at `position`. `at` is wall time in ms."""

    position: int
    hash: str
    at: int

    @property
    def head(self) -> Head:
        return Head(self.position, bytes.fromhex(self.hash))


def write_witness(path: Path, head: Head, at: int) -> Witness:
    """Writes the file anew (mode 0600): after a crash it holds the old witness or the new one. Raises OSError."""
    witness = Witness(head.position, head.hash.hex(), at)
    part = path.with_name(f"{path.name}.part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(witness) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    sync_directory(path.parent)
    return witness


def read_witness(path: Path) -> Witness | None:
    """What the file says; None when there is none. Raises ConfigurationWrong when it cannot be read or is something else."""
    try:
        with open(path, "rb") as file:
            content = file.read(_BYTES_MAX)
        witness = msgspec.json.decode(content, type=Witness)
        if len(witness.head.hash) != 32 or witness.position < 0:
            raise ValueError
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error.strerror or type(error).__name__) from None
    except (ValueError, msgspec.DecodeError):
        raise _unusable(path, "it is no witness of a log") from None
    return witness


def _unusable(path: Path, why: str) -> ConfigurationWrong:
    return ConfigurationWrong(
        f"The witness of the log, {path}, cannot be read: {why}. Restore it, set LLMUX_WITNESS_FILE to where it is, or move it "
        "away if you know that the log is whole (`llmux verify`)."
    )


async def check_witness(reader: Reader, witness: Witness | None) -> bool:
    """Whether the log could be compared with the witness, and is the same; also True when there is no witness.

    False: the position lies in an archive that is not there, or is not the one that the log says, and the log itself does not
    tell the hash there. Raises TailMissing when the log does not reach as far as it once did, or was written anew there;
    StoreFailure.
    """
    last, ever = await reader.ends()
    origin = (await reader.origin()).head
    last, ever = max(last, origin.position), max(ever, origin.position)
    if witness is not None and witness.position > last:
        raise TailMissing(
            f"The log ends at position {last}, but its end was witnessed at position {witness.position}: "
            f"{_some(witness.position - last)} missing.",
            last + 1,
        )
    if ever > last:
        raise TailMissing(
            f"The log ends at position {last}, but its last position was {ever} once: {_some(ever - last)} missing.",
            last + 1,
        )
    if witness is None or witness.position == 0:
        return True
    found = await _hash_at(reader, witness.position)
    if found is None:
        return False
    if found != witness.hash:
        raise TailMissing(
            f"Position {witness.position} has another hash than the one that was witnessed: the log was written anew, up to "
            "there at least.",
            witness.position,
        )
    return True


def _some(events: int) -> str:
    return "one event is" if events == 1 else f"{events} events are"


async def _hash_at(reader: Reader, position: int) -> str | None:
    """The hash that the log has there (hex; "" = nothing is there); None when it is archived, and nobody can tell it."""
    rows = await reader.rows(after=position - 1, until=position, limit=1)
    if rows:
        hash: bytes = rows[0][12]
        return hash.hex()
    origin = (await reader.origin()).head
    if position >= origin.position:
        return origin.hash.hex() if position == origin.position else ""
    facts = {fact.through: fact for fact in await archived_facts(reader, origin.position)}
    if position in facts:
        return facts[position].head
    with suppress(ArchiveMissing, LogDamaged):
        archive = reader.archives.holding(position, origin.position)
        fact = facts.get(archive.through)
        return await trio.to_thread.run_sync(_hash_in, archive, position, fact.sha256 if fact else None)
    return None


def _hash_in(archive: Archive, position: int, sha256: str | None) -> str | None:
    """The hash at this position of the file; None when the file has another SHA-256 than the log says, where it says one."""
    with Place(archive, hashing=True) as place:
        place.skip(position - 1)
        try:
            (event,) = map(event_in, place.lines(position))
        except MALFORMED as error:
            raise damaged(archive, position - 1) from error
        if event.position != position or sha256 not in (None, place.sha256):
            return None
        return event.hash.hex()


def sync_directory(directory: Path) -> None:
    """Makes a rename in `directory` durable, as far as the file system can."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


WAY_ON = (
    "Restore a backup (`llmux restore FILE --replace`), or the missing files of the data directory. If the loss is known and "
    "cannot be mended, type: llmux witness --accept --reason '...'"
)
"""What to do about a TailMissing before the gateway starts again."""


async def check_at_start(reader: Reader, path: Path) -> None:
    """Raises TailMissing, with what to do about it, when the log is not as it was witnessed; ConfigurationWrong; StoreFailure.

    What cannot be compared is a warning: the archive with the witnessed position is not where it should be.
    """
    witness = read_witness(path)
    try:
        if not await check_witness(reader, witness) and witness is not None:
            log.warning(
                "the witness could not be compared: its position is in an archive that is not there, or is another one",
                position=witness.position,
            )
    except TailMissing as missing:
        raise TailMissing(f"{missing} {WAY_ON}", missing.position) from None
