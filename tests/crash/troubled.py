"""A log on a disk that gets into trouble and out of it again. Run as `python -m tests.crash.troubled DIRECTORY TROUBLE...`.

A TROUBLE is a kind of call ("write", "sync", "read"), the name of the error it fails with, and how many bytes may be written
before: "write:ENOSPC:4096". Those come from the preloaded `disk.c`. "limit:EFBIG:4096" needs no such help: the process may make its
files that much larger. For each trouble a line of JSON tells what callers of the journal heard, and in which state it left the log.
"""

import errno
import json
import mmap
import os
import resource
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from llmux.actors.facts import plain
from llmux.actors.journal import Journal
from llmux.actors.replaying import replay
from llmux.clock import SeededClock
from llmux.eventstore import Store, verify
from llmux.failures import LLMuxError, OutcomeUnknown
from tests.crash.journals import new, running

CALLS = ("write", "sync", "read")
CONTROL_BYTES = 40
ROOM_AT = 24
TRIES = 6
IDS = SeededClock(17)


class Tally:
    """What was acknowledged, and what was refused for sure."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()
        self.heard: list[str] = []

    async def append(self, journal: Journal, number: int) -> bool:
        event = new(f"key-{number}", number, IDS)
        try:
            await journal.append(event)
        except LLMuxError as failure:
            self.heard.append(failure.code)
            if not isinstance(failure, OutcomeUnknown):
                self.refused.add(event.event_id)
            return False
        self.acknowledged.add(event.event_id)
        return True


@contextmanager
def trouble(disk: mmap.mmap, directory: Path, told: str) -> Iterator[None]:
    """The disk is in this trouble within the block."""
    call, error, room = told.split(":")
    if call == "limit":
        largest = max((directory / name).stat().st_size for name in ("events.db", "events.db-wal"))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + int(room), before[1]))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    else:
        disk[ROOM_AT : ROOM_AT + 8] = struct.pack("q", int(room))
        at = 8 * CALLS.index(call)
        disk[at : at + 8] = struct.pack("q", getattr(errno, error))
        yield
        disk[at : at + 8] = struct.pack("q", 0)


async def suffer(store: Store, journal: Journal, disk: mmap.mmap, told: str) -> dict[str, Any]:
    tally = Tally()
    for number in range(5):
        assert await tally.append(journal, number)
    tally.heard.clear()
    reads = []
    with trouble(disk, store.path.parent, told):
        for number in range(TRIES):
            await tally.append(journal, number)
            try:
                reads.append(len(await store.read(limit=1000)))
            except LLMuxError as failure:
                reads.append(failure.code)
    resumed = await tally.append(journal, 99)
    ids = [event.event_id for event in await store.read(limit=1000)]
    return {
        "trouble": told,
        "heard": tally.heard,
        "reads": reads,
        "resumed": resumed,
        "lost": len(tally.acknowledged - set(ids)),
        "undead": len(tally.refused & set(ids)),
        "doubled": len(ids) - len(set(ids)),
        "verified": (await verify(store)).head == store.head,
        "facts": plain(journal.facts) == plain(await replay(store, snapshots=False)),
    }


async def main(directory: Path, *troubles: str) -> None:
    with open(os.environ["LLMUX_TEST_DISK"], "r+b") as file, mmap.mmap(file.fileno(), CONTROL_BYTES) as disk:
        for number, told in enumerate(troubles):
            async with running(directory / str(number)) as (store, journal):
                print(json.dumps(await suffer(store, journal, disk, told)), flush=True)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), *sys.argv[2:])
