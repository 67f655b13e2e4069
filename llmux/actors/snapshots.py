"""Snapshots: the state after some position in a file, so that a start need not fold the whole log. Each can be thrown away.

`SnapshotTaken` in the log holds the file's hash: a snapshot cannot say anything that the log does not vouch for.
"""

import gzip
import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio

from llmux.actors.facts import SCHEMA, Facts, load, plain
from llmux.events import SnapshotTaken, can_read
from llmux.eventstore import Reader

FOLDER = "snapshots"
STREAM = "log-snapshots"
KEPT = 2
"""files: the newest, and the one before it, should the newest not have reached the disk"""

log = structlog.get_logger()


async def take(facts: Facts, directory: Path) -> SnapshotTaken:
    """Writes the facts into a file of the data directory, durably, and returns what is to be recorded. Raises OSError."""
    return await trio.to_thread.run_sync(_write, facts, directory)  # facts never change: any thread may read them


def encoded(facts: Facts) -> bytes:
    """The facts in the one form that is hashed: canonical JSON. Of a large state this takes a second: in a thread, please."""
    return json_of(plain(facts))


def json_of(plain: Mapping[str, Any]) -> bytes:
    """Canonical JSON, made entry by entry: one call for all would let no other thread run until it ends."""
    parts = []
    for name in sorted(plain):
        entries = plain[name]
        text = b",".join(map(_entry, sorted(entries.items()))) if isinstance(entries, dict) else None
        parts.append(_entry((name, entries)) if text is None else b"%s:{%s}" % (msgspec.json.encode(name), text))
    return b"{%s}" % b",".join(parts)


def _entry(item: tuple[str, Any]) -> bytes:
    key, value = item
    return b"%s:%s" % (msgspec.json.encode(key), msgspec.json.encode(value, order="sorted"))


def _write(facts: Facts, directory: Path) -> SnapshotTaken:
    folder = directory / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    content = gzip.compress(encoded(facts), compresslevel=1, mtime=0)
    path = folder / f"state-{facts.position:015d}.json.gz"
    part = path.with_suffix(".part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    _tidy(folder, path)
    for rest in folder.glob("*.part"):
        rest.unlink()
    return SnapshotTaken(
        through=facts.position,
        file=f"{FOLDER}/{path.name}",
        sha256=hashlib.sha256(content).hexdigest(),
        state_schema=SCHEMA,
    )


def _tidy(folder: Path, newest: Path) -> None:
    """Leaves the newest files. One of a later position is of a log that is no more: a backup was restored over it."""
    files = sorted(folder.glob("state-*.json.gz"))
    here = files.index(newest)
    for old in (*files[: max(0, here + 1 - KEPT)], *files[here + 1 :]):
        with suppress(FileNotFoundError):
            old.unlink()


async def latest(reader: Reader, until: int | None = None) -> Facts | None:
    """The newest state up to position `until` that the log vouches for, or None. Reads nothing that is not needed."""
    last = until
    for _ in range(KEPT):
        taken = await reader.last(STREAM, until=last)
        if taken is None:
            return None
        last = taken.position - 1
        if not can_read(taken):  # whoever folds the log meets it and says so
            continue
        fact = taken.fact
        assert isinstance(fact, SnapshotTaken)
        if fact.state_schema != SCHEMA:
            continue
        facts = await trio.to_thread.run_sync(_read, reader.path.parent / fact.file, fact)
        if facts is not None:
            return facts
    return None


def _read(path: Path, fact: SnapshotTaken) -> Facts | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != fact.sha256:
        log.warning("a snapshot is not what the log says; it is left aside", file=str(path))
        return None
    try:
        facts = load(msgspec.json.decode(gzip.decompress(content)))
    except (ValueError, EOFError, msgspec.DecodeError):
        return None
    return facts if facts.position == fact.through else None
