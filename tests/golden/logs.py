"""Logs that earlier versions wrote. They are never written again, and every later version reads them.

`log-N.db.gz` is a whole database with the tables of its time, with events of every type that there was. `log-N.state.json` is
what follows from it as of now: a new fact changes it, deliberately, by `python -m tests.golden.write states`. `sums.txt` holds
the SHA-256 of every log.
"""

import gzip
import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

from llmux.actors.facts import plain
from llmux.actors.replaying import replay
from llmux.config import Limits
from llmux.eventstore import open_reader

FOLDER = Path(__file__).parent
SUMS = FOLDER / "sums.txt"


def number_of(golden: Path) -> int:
    """The N of `log-N.db.gz`."""
    return int(golden.name.split("-")[1].split(".")[0])


LOGS = sorted(FOLDER.glob("log-*.db.gz"), key=number_of)


def state_file(golden: Path) -> Path:
    """Where the state that follows from a golden log is written down."""
    return golden.with_name(golden.name.replace(".db.gz", ".state.json"))


def state_text(state: dict[str, Any]) -> str:
    """A state in the one form in which it is written down."""
    return json.dumps(state, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def unpacked_into(directory: Path, golden: Path) -> Path:
    """The log as `events.db` in `directory`, as its version left it."""
    path = directory / "events.db"
    path.write_bytes(gzip.decompress(golden.read_bytes()))
    return path


async def state_in(directory: Path) -> dict[str, Any]:
    """What follows from the log in `directory`, every event of it folded."""
    async with open_reader(directory, Limits()) as reader:
        return plain(await replay(reader, snapshots=False))


def recorded_in(database: Path) -> list[tuple[str, int, bytes]]:
    """Type, schema and data of every event."""
    connection = sqlite3.connect(database)
    rows = connection.execute("SELECT type, schema, data FROM events ORDER BY position").fetchall()
    connection.close()
    return [(type, schema, data.encode()) for type, schema, data in rows]


def tables_of(database: Path) -> str:
    """The version of the tables."""
    connection = sqlite3.connect(database)
    (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    connection.close()
    return str(version)


def sum_of(golden: Path) -> str:
    """The line of a golden log in `sums.txt`."""
    return f"{hashlib.sha256(golden.read_bytes()).hexdigest()}  {golden.name}"
