"""How many cached answers a gateway serves per second of one core, over HTTP on loopback, with the log on.

    python -m benchmarks.cached [--rounds 5] [--seconds 2] [--profile FILE]

By turns, each a process of its own on the first core, the load on the last: a gateway with a key and a few answers, one with
10,000 keys and 100,000 answers, and hypercorn with an empty Quart application that sends as many bytes.
What counts is a process's own processor time (user and system, the log's thread included), so that other work on the machine
shows less.
"""

import cProfile
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import hypercorn.trio
import msgspec
import trio
from hypercorn.config import Config
from quart import Response, request
from quart_trio import QuartTrio
from rich.console import Console

from benchmarks.figures import compared, shown
from llmux import logs
from llmux.actors.cached_answer import CachedAnswer
from llmux.actors.key_registry import IssueKey
from llmux.actors.opening import open_system
from llmux.actors.system import System
from llmux.clock import SystemClock
from llmux.config import ProviderSettings, Settings
from llmux.http.app import make_app
from llmux.http.server import serve
from llmux.prompts import Finish, TextDelta, Usage

SUBJECT = "cached answers"
ANSWERS_PER_S_MIN = 2_000
KEYS, ENTRIES = 10_000, 100_000
CONNECTIONS, PROMPTS = 32, 16
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
RESULTS = Path(".cache/benchmarks")


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="Of load, for each gateway in each round.")
@click.option("--profile", type=click.Path(), default="", help="Where the profile of the small gateway goes.")
@click.option("--serve", "filled", type=(int, int), default=None, hidden=True)
def main(rounds: int, seconds: float, profile: str, filled: tuple[int, int] | None) -> None:
    if filled is not None:
        _serve(*filled, profile)
        return
    console = Console(width=None if Console().is_terminal else 170)
    console.print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}", highlight=False)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with _gateway(1, 0, profile) as small, _gateway(KEYS, ENTRIES) as large, _gateway(0, 0) as bare:
        for each in (small, large, bare):
            each.load(0.5)  # the first answers are made here
        found = [(small.load(seconds), large.load(seconds), bare.load(seconds)) for _ in range(rounds)]
    beside = compared(
        SUBJECT,
        "per second of one core, over HTTP, with the log on",
        "/s",
        [each[::2] for each in found],
        against="empty app",
    )
    met = beside.ours >= ANSWERS_PER_S_MIN
    name = f"the same with {KEYS:,} keys and {ENTRIES:,} answers"
    figures = [
        msgspec.structs.replace(beside, wanted=f"at least {ANSWERS_PER_S_MIN:,}/s", met=met),
        compared(SUBJECT, name, "/s", [(large, small) for small, large, _ in found], against="with few", at_least=0.9),
    ]
    shown(figures, console)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / time.strftime("cached-%Y%m%d-%H%M%S.json", time.gmtime())
    path.write_bytes(msgspec.json.format(msgspec.json.encode(figures)))
    console.print(f"Written to {path}", style="dim")


class Gateway:
    """A running gateway and the load on it."""

    def __init__(self, pid: int, port: int, key: str):
        self._pid, self._port, self._key = pid, port, key

    def load(self, seconds: float) -> float:
        """Loads it for so long: answers per second of its processor time."""
        before, end = self._cpu_s(), time.monotonic() + seconds
        counts = [0] * CONNECTIONS
        threads = [threading.Thread(target=self._ask, args=(end, counts, number)) for number in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (self._cpu_s() - before)

    def _ask(self, end: float, counts: list[int], number: int) -> None:
        body = msgspec.json.encode({"prompt": f"prompt {number % PROMPTS}"})
        head = (
            f"POST /api/smart HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {self._key}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as connection:
            while time.monotonic() < end:
                connection.sendall(head.encode() + body)
                answer = b""
                while (blank := answer.find(b"\r\n\r\n")) < 0:
                    answer += connection.recv(65_536)
                at = answer.index(b"content-length: ") + 16
                length = int(answer[at : answer.index(b"\r", at)])
                while len(answer) < blank + 4 + length:
                    answer += connection.recv(65_536)
                if not answer.startswith(b"HTTP/1.1 200"):
                    raise SystemExit(answer.decode())
                counts[number] += 1

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@contextmanager
def _gateway(keys: int, entries: int, profile: str = ""):
    command = [sys.executable, "-m", "benchmarks.cached", "--serve", str(keys), str(entries), "--profile", profile]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        port, key = process.stdout.readline().split()
        yield Gateway(process.pid, int(port), key)
    finally:
        process.stdin.close()  # which is its sign to stop
        process.wait(60)


def _serve(keys: int, entries: int, profile: str) -> None:
    """The gateway's process: fills itself, prints its port and a key, and serves until its input ends."""
    logs.configure()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    RESULTS.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="cached-", dir=RESULTS)).absolute()
    profiler = cProfile.Profile() if profile else None
    try:
        if keys:
            trio.run(_serving, directory, keys, entries, profiler)
        else:
            trio.run(_serving_nothing)
    finally:
        shutil.rmtree(directory)
    if profiler is not None:
        profiler.dump_stats(profile)


async def _serving(directory: Path, keys: int, entries: int, profiler: cProfile.Profile | None) -> None:
    settings = Settings(
        data_dir=directory / "data",
        port=0,
        api_key_required=True,
        admin_key="an admin key of no use",
        default_provider="one",
        providers={"one": ProviderSettings(kind="scripted", default_model="say=some+words+of+an+answer,chunks=20")},
        cache_entries_max=2 * ENTRIES,
        cache_bytes_max=2**31,
    )
    async with open_system(settings, SystemClock(), environ={}) as system, trio.open_nursery() as nursery:
        key = await _filled(system, keys, entries)
        stop = trio.Event()
        serving = partial(serve, make_app(system), settings, shutdown_trigger=stop.wait)
        print(await nursery.start(serving), key, flush=True)
        if profiler is not None:
            profiler.enable()
        await trio.to_thread.run_sync(sys.stdin.read)
        if profiler is not None:
            profiler.disable()
        stop.set()


async def _serving_nothing() -> None:
    """hypercorn with an application that does nothing but read the body and answer."""
    app, stop = QuartTrio("nothing"), trio.Event()

    @app.post("/api/smart")
    async def answer() -> Response:
        await request.get_data()
        return Response(b"{" + b" " * 500 + b"}", content_type="application/json")

    async with trio.open_nursery() as nursery:
        config = Config()
        config.bind, config.errorlog = ["127.0.0.1:0"], None
        (url,) = await nursery.start(partial(hypercorn.trio.serve, app, config, shutdown_trigger=stop.wait))
        print(url.rpartition(":")[2], "nobody", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        stop.set()


async def _filled(system: System, keys: int, entries: int) -> str:
    """Puts keys into the log and answers into the cache; returns one of the keys."""
    issued: list[str] = []

    async def issue(count: int) -> None:
        for _ in range(count):
            issued.append((await system.key_registry.ask(IssueKey("ann", "poems"))).secret_key)

    async with trio.open_nursery() as nursery:
        for share in (keys // 100,) * 100 if keys >= 100 else (keys,):
            nursery.start_soon(issue, share)
    chunks = (*(TextDelta(f"word {number} ") for number in range(20)), Finish("stop", Usage(10, 20)))
    for number in range(entries):
        system.cache.keep(f"{number:032x}", CachedAnswer("one", "default", "m", chunks))
    return issued[-1]


if __name__ == "__main__":
    main()
