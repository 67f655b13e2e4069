"""`make bench`: measures everything and prints one table.

python -m benchmarks [--events 100000] [--only append --only replay] [--directory DIR]
"""

import os
import platform
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import msgspec
import trio
from rich.console import Console

from benchmarks import append, limits, raw, replay, space, start
from benchmarks.figures import Figure, shown
from benchmarks.story import written

SUBJECTS = ("append", "replay", "start", "library", "space", "limits")
RESULTS = Path(".cache/benchmarks")


@click.command(help="Measures LLMux beside the limits of this machine. Every figure is the median of three rounds.")
@click.option("--events", default=100_000, show_default=True, help="Length of the log that is replayed.")
@click.option(
    "--only", multiple=True, type=click.Choice(SUBJECTS), help="Only this subject; can be given several times."
)
@click.option(
    "--directory", type=click.Path(path_type=Path), default=RESULTS, help="Where the logs and the results go."
)
def main(events: int, only: tuple[str, ...], directory: Path) -> None:
    console = Console(width=None if Console().is_terminal else 150)
    directory.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="logs-", dir=directory))
    try:
        machine = described(work)
        console.print(machine["line"], highlight=False)
        figures: list[Figure] = []
        for subject, measure in subjects(work, events).items():
            if not only or subject in only:
                console.print(f"  {subject} ...", style="dim")
                figures += measure()
    finally:
        shutil.rmtree(work)
    shown(figures, console)
    path = directory / time.strftime("%Y%m%d-%H%M%S.json", time.gmtime())
    path.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "figures": figures})))
    console.print(f"Written to {path}", style="dim")


def subjects(work: Path, events: int) -> dict[str, Callable[[], list[Figure]]]:
    """What there is to measure, in this order; the last ones change the log that the first ones share."""
    log = work / "log"

    def made(measure: Callable[[Path], list[Figure]]) -> list[Figure]:
        if not log.exists():
            trio.run(written, log, events)
        return measure(log)

    def library() -> list[Figure]:
        from benchmarks import peer  # needs a package that only `make bench` installs

        return peer.measured(work / "library")

    return {
        "append": partial(append.measured, work / "append"),
        "library": library,
        "space": partial(space.measured, work / "space"),
        "limits": partial(limits.measured, work / "limits"),
        "replay": partial(made, replay.measured),
        "start": partial(made, start.measured),
    }


def described(work: Path) -> dict[str, object]:
    """The machine, as far as it explains the figures."""
    p50, p99 = (seconds * 1000 for seconds in raw.fsync(work))
    cores, load = os.cpu_count(), os.getloadavg()[0]
    python, sqlite = platform.python_version(), sqlite3.sqlite_version
    return {
        "line": f"{cores} CPUs, load {load:.1f}, fsync p50 {p50:.2f} ms, p99 {p99:.2f} ms, Python {python}, SQLite {sqlite}",
        "cpus": cores,
        "load": load,
        "fsync_p50_ms": p50,
        "fsync_p99_ms": p99,
        "python": python,
        "sqlite": sqlite,
        "at": int(time.time()),
    }


if __name__ == "__main__":
    main()
