"""How much longer a request takes through the gateway than through the same command-line tool without it.

    python -m benchmarks.cli_overhead [--requests 20] [--only claude]

Real tools, a stand-in of each vendor on loopback that notes when a request's first byte arrives. A round is a pair, the bare
protocol with a program that waits and the gateway over HTTP, each first in every other round; what the gateway adds is the
median of the differences within the pairs, beside which the machine's other work, which changes slowly, cancels out. Every
fourth round begins with the tool started for one request (cold), and with what LLMux 3.0 did (one command per request). Memory,
cancellation, the first token and many requests at one time stand beside them.
"""

import http.client
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from benchmarks import raw
from benchmarks.drivers import Ask, Driver, Shot
from benchmarks.drivers.claude import Claude
from benchmarks.drivers.codex import Codex
from benchmarks.drivers.gemini import Gemini
from benchmarks.figures import Figure, at_most, shown
from benchmarks.timing import spread
from tests.gateway import GatewayProcess, gateway_process
from tests.providers.hearing import descendants
from tests.upstreams.running import Upstream, upstream

DRIVERS: tuple[type[Driver], ...] = (Claude, Codex, Gemini)
RESULTS = Path(".cache/benchmarks")
OVERHEAD_MS_MAX, FIRST_TOKEN_MS_MAX, CANCELLED_MS_MAX = 10.0, 5.0, 100.0
APART = ("cold", "one command per request")
APART_EVERY = 4  # rounds: each starts a program, and takes as long as many pairs
CROWDS = 3
SETTLED_S_MAX, QUIET_S_MAX = 15.0, 0.03  # a worker that waits takes next to nothing in a fifth of a second


class Timing(msgspec.Struct, frozen=True):
    """One request: from its beginning to its first byte at the vendor, and from the vendor's first byte to its reader."""

    to_upstream_ms: float
    to_reader_ms: float


@click.command(help=__doc__)
@click.option("--requests", default=20, show_default=True, help="Requests of each kind, for each login.")
@click.option("--only", multiple=True, type=click.Choice([driver.name for driver in DRIVERS]))
@click.option("--directory", type=click.Path(path_type=Path), default=RESULTS, help="Where the results go.")
def main(requests: int, only: tuple[str, ...], directory: Path) -> None:
    console = Console(width=None if Console().is_terminal else 170)
    directory.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="clis-", dir=directory)).absolute()
    figures: list[Figure] = []
    try:
        fsync_ms, load = raw.fsync(work)[0] * 1000, os.getloadavg()[0]
        console.print(f"{os.cpu_count()} CPUs, load {load:.1f}, fsync p50 {fsync_ms:.2f} ms", highlight=False)
        for kind in DRIVERS:
            driver = kind()
            for login in driver.logins:
                if not only or driver.name in only:
                    console.print(f"  {driver.name}, {login} ...", style="dim")
                    figures += measured(driver, login, work / driver.name / login.replace(" ", "-"), requests)
                    console.print(f"    load {os.getloadavg()[0]:.1f}", style="dim", highlight=False)
        if not only:
            figures.append(idle_installation(work / "idle"))
    finally:
        shutil.rmtree(work)
    shown(figures, console)
    path = directory / time.strftime("clis-%Y%m%d-%H%M%S.json", time.gmtime())
    path.write_bytes(msgspec.json.format(msgspec.json.encode({"load": load, "fsync_ms": fsync_ms, "figures": figures})))
    console.print(f"Written to {path}", style="dim")


def measured(driver: Driver, login: str, home: Path, requests: int) -> list[Figure]:
    """All figures of one provider with one kind of login."""
    (home / "gateway").mkdir(parents=True)
    certificates = ("--certificates", str(home)) if driver.certificates else ()
    with upstream(driver.stand_in, *certificates) as api:
        environ = driver.prepare(home / "gateway", login, api)
        driver.prepare(home, login, api)
        toml = driver.toml(home / "gateway", login, api)
        with (
            driver.warm(home, login, api) as bare,
            gateway_process(
                home / "gateway", toml=toml, CACHE_TTL="0", DEFAULT_PROVIDER=driver.name, **environ
            ) as gateway,
        ):
            time.sleep(3 * driver.settle_s)
            memory = _memory_mb(gateway)

            def rested(ask: Ask) -> Ask:
                """What the gateway does after an answer is to slow neither side of a pair."""

                def asked(text: str) -> Shot:
                    _settled(driver, gateway)
                    return ask(text)

                return asked

            ways: dict[str, Ask] = {
                "cold": lambda text: driver.cold(home, login, api, text),
                "one command per request": lambda text: driver.one_shot(home, login, api, text),
                "bare": rested(bare),
                "gateway": rested(lambda text: _asked(gateway, driver, text)),
            }
            timings: dict[str, list[Timing]] = {way: [] for way in ways}
            fsyncs: list[float] = []
            for number in range(requests):
                pair = ("bare", "gateway") if number % 2 else ("gateway", "bare")
                for way in (APART if number % APART_EVERY == 0 else ()) + pair:
                    timings[way].append(_timed(driver, api, ways[way], f"Say hello, {way} {number}."))
                fsyncs.append(raw.fsync(home, 5)[0] * 1000)
            cancelled = [_cancelled(driver, gateway, api, number) for number in range(requests)]
            mixed_up = _mixed_up(driver, gateway, api)
    return _figures(f"{driver.name}, {login}", timings, cancelled, memory, statistics.median(fsyncs)) + mixed_up


def idle_installation(home: Path) -> Figure:
    """The memory of a gateway with the defaults of all three tools, each logged in and none asked yet."""
    home.mkdir(parents=True)
    with ExitStack() as stack:
        environ, tables, settle_s = {}, [], 0.0
        for kind in DRIVERS:
            driver = kind()
            certificates = ("--certificates", str(home)) if driver.certificates else ()
            api = stack.enter_context(upstream(driver.stand_in, *certificates))
            environ |= driver.prepare(home, driver.logins[0], api)
            tables.append(driver.toml(home, driver.logins[0], api))
            settle_s = max(settle_s, 3 * driver.settle_s)
        gateway = stack.enter_context(gateway_process(home, toml="".join(tables), **environ))
        time.sleep(settle_s)
        _settled(driver, gateway)
        programs = len(descendants(gateway.process.pid))
        return Figure("all tools, idle", f"memory of gateway and {programs} programs (PSS)", "MB", _memory_mb(gateway))


def _timed(driver: Driver, api: Upstream, ask: Ask, text: str) -> Timing:
    api.reset()
    shot = ask(text)
    seen = next(seen for seen in api.log() if driver.is_model_call(seen) and text in seen["body"])
    return Timing((seen["arrived_ns"] - shot.asked_ns) / 1e6, (shot.heard_ns - seen["spoke_ns"]) / 1e6)


def _figures(
    subject: str, timings: dict[str, list[Timing]], cancelled: list[float], memory: float, fsync_ms: float
) -> list[Figure]:
    arrived = {way: [timing.to_upstream_ms for timing in timed] for way, timed in timings.items()}
    heard = {way: [timing.to_reader_ms for timing in timed] for way, timed in timings.items()}
    added = [ours - bare for ours, bare in zip(arrived["gateway"], arrived["bare"], strict=True)]
    held_back = [ours - bare for ours, bare in zip(heard["gateway"], heard["bare"], strict=True)]
    limit = round(OVERHEAD_MS_MAX + fsync_ms, 1)
    return [
        at_most(subject, "added on the way to the vendor, p50 of pairs", "ms", added, limit),
        at_most(subject, "added on the way of the first token, p50 of pairs", "ms", held_back, FIRST_TOKEN_MS_MAX),
        at_most(subject, "cancelled to closed upstream, p99", "ms", [spread(cancelled)[1]], CANCELLED_MS_MAX),
        *(
            Figure(subject, f"request to the vendor, {way}, p50", "ms", statistics.median(times))
            for way, times in arrived.items()
        ),
        Figure(subject, "memory of gateway and warm workers (PSS)", "MB", memory),
    ]


# --- the gateway ---------------------------------------------------------------------------------------------------


@contextmanager
def _streaming(
    gateway: GatewayProcess, driver: Driver, text: str
) -> Iterator[tuple[int, http.client.HTTPResponse, Any]]:
    """A request for a stream: when it was made, the response, and the connection."""
    message = {"role": "user", "content": text}
    body = {"model": driver.model, "provider": driver.name, "messages": [message], "stream": True}
    connection = gateway.connect()
    connection.connect()
    data, headers = json.dumps(body).encode(), {"content-type": "application/json"}
    before = time.monotonic_ns()
    try:
        connection.request("POST", "/v1/chat/completions", data, headers)
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{driver.name} answered {response.status}: {response.read()!r}")
        yield before, response, connection
    finally:
        connection.close()


def _asked(gateway: GatewayProcess, driver: Driver, text: str) -> Shot:
    with _streaming(gateway, driver, text) as (before, response, _):
        _first_words(response)
        heard = time.monotonic_ns()
        response.read()
    return Shot(before, heard)


def _mixed_up(driver: Driver, gateway: GatewayProcess, api: Upstream) -> list[Figure]:
    """How many of many requests at one time were answered with anything but their own words, in a few rounds."""
    if not driver.at_once:
        return []

    def wrong(number: int) -> bool:
        words = f"These are the words of number {number}, {number * number}."
        with _streaming(gateway, driver, words) as (_, response, _connection):
            heard = b"".join(response).split(b"data: ")
        pieces = [json.loads(line)["choices"] for line in heard if line.startswith(b"{")]
        return "".join(piece[0]["delta"].get("content", "") for piece in pieces if piece).strip() != words

    api.reset()
    api.control(**driver.echo)
    with ThreadPoolExecutor(driver.at_once) as crowd:
        mixed = sum(crowd.map(wrong, range(CROWDS * driver.at_once)))
    name = f"answers mixed up, {CROWDS} x {driver.at_once} at one time"
    return [at_most(f"{driver.name}, {driver.at_once} at once", name, "", [mixed], 0)]


def _first_words(response: http.client.HTTPResponse) -> None:
    for line in response:
        if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
            return
    raise RuntimeError("the stream said nothing")


def _cancelled(driver: Driver, gateway: GatewayProcess, api: Upstream, number: int) -> float:
    """How many ms after a client has gone its request to the vendor is closed."""
    _settled(driver, gateway)
    api.reset()
    api.control(**driver.stall)
    with _streaming(gateway, driver, f"Stall, please, {number}.") as (_, response, connection):
        _first_words(response)
        response.close()
        left = time.monotonic_ns()
        connection.close()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        calls = [seen for seen in api.log() if driver.is_model_call(seen)]
        if calls and "closed_ns" in calls[-1]:
            return float(calls[-1]["closed_ns"] - left) / 1e6
        time.sleep(0.02)
    raise RuntimeError("a client left, and its request to the vendor went on for 20 s")


def _settled(driver: Driver, gateway: GatewayProcess) -> None:
    """Leaves the gateway alone until the workers that follow those it has used up have started: on a busy machine that takes
    many times as long as on an idle one, and a request meanwhile would be measured against them."""
    time.sleep(driver.settle_s)
    end, before = time.monotonic() + SETTLED_S_MAX, _busy_s(gateway)
    while time.monotonic() < end:
        time.sleep(0.2)
        now = _busy_s(gateway)
        if now - before <= QUIET_S_MAX:
            return
        before = now


def _busy_s(gateway: GatewayProcess) -> float:
    """How many seconds of a processor all that the gateway has started, and that still runs, has taken."""
    ticks = 0
    for pid in descendants(gateway.process.pid):
        with suppress(OSError):  # it has ended meanwhile
            user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory_mb(gateway: GatewayProcess) -> float:
    """Proportional set size of the gateway and all that it has started."""
    kilobytes = 0
    for pid in (gateway.process.pid, *descendants(gateway.process.pid)):
        with suppress(OSError):  # a short-lived one has ended meanwhile
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kilobytes += int(line.split()[1])
    return kilobytes / 1024


if __name__ == "__main__":
    main()
