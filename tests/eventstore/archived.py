"""Logs whose beginning is in archives, for tests."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmux.events import LogArchived, NewEvent
from llmux.eventstore import Appended, Store, seal
from tests.eventstore.logs import CLOCK


async def archive(
    store: Store, through: int, *, ended: Callable[[str], bool] = lambda stream: False, state: bytes = b""
) -> LogArchived:
    """Seals and moves what the file holds up to this position."""
    sealed = await seal(store, through, state or b'{"position":%d}' % through, 1, ended=ended)
    outcome = await store.move(sealed, NewEvent("log-archives", sealed.fact, CLOCK.new_id()))
    assert isinstance(outcome, Appended), outcome
    return sealed.fact


def files(directory: Path) -> list[Path]:
    """The archives of a log."""
    return sorted((directory / "archives").glob("*.jsonl.gz"))


def contents(path: Path) -> list[dict[str, Any]]:
    """Every line of an archive, as any other program would read it."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def rewritten(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Puts other lines into an archive, as somebody would who has the file."""
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(change(lines))))
