"""Writes what the golden tests compare with. Look at the difference before you commit it: it is what users' logs would meet.

python -m tests.golden.write log       a new golden log, of the present tables and events (then also its state)
python -m tests.golden.write states    the states that follow from all golden logs, after a fact was added or changed
python -m tests.golden.write fields    the fields and defaults of events that are not written down yet
"""

import gzip
import json
import sqlite3
import sys
import tempfile
from pathlib import Path

import trio

from llmux import migrations
from tests.golden import fields
from tests.golden.life import written
from tests.golden.logs import FOLDER, LOGS, SUMS, number_of, state_file, state_in, state_text, sum_of, unpacked_into


def new_log() -> Path:
    """Writes the next golden log, and its sum."""
    number = max(map(number_of, LOGS), default=0) + 1
    golden = FOLDER / f"log-{number}.db.gz"
    with tempfile.TemporaryDirectory() as directory:
        written(Path(directory), seed=number)
        database = Path(directory, "data", "events.db")
        connection = sqlite3.connect(database)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        golden.write_bytes(gzip.compress(database.read_bytes(), mtime=0))
    SUMS.write_text(SUMS.read_text() + sum_of(golden) + "\n")
    return golden


def write_state(golden: Path) -> None:
    """Writes what follows from a golden log as of now."""
    with tempfile.TemporaryDirectory() as directory:
        migrations.upgrade(unpacked_into(Path(directory), golden))
        state_file(golden).write_text(state_text(trio.run(state_in, Path(directory))))


def write_fields() -> None:
    """Adds what is not written down yet. What is written down stays as it is."""
    table = fields.written_down()
    for name, now in fields.present().items():
        known = table.setdefault(name, {})
        for field, default in now.items():
            if not known.get(field):  # new, or it had no default so far
                known[field] = default
    fields.FILE.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")


def main(what: str) -> None:
    if what == "log":
        golden = new_log()
        write_state(golden)
        print(f"{golden.name} is new.")
    elif what == "states":
        for golden in LOGS:
            write_state(golden)
    elif what == "fields":
        write_fields()
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else "")
