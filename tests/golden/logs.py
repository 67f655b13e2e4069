"""Logs that earlier versions wrote. They are never written again, and every later version reads them.

`log-N.db.gz` is a whole database whose tables are of version N, with events of every type that there was.
"""

import gzip
from pathlib import Path

FOLDER = Path(__file__).parent
LOGS = sorted(FOLDER.glob("log-*.db.gz"), key=lambda path: int(path.name.split("-")[1].split(".")[0]))


def unpacked_into(directory: Path, golden: Path) -> Path:
    """The log as `events.db` in `directory`, as its version left it."""
    path = directory / "events.db"
    path.write_bytes(gzip.decompress(golden.read_bytes()))
    return path
