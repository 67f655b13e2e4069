"""An acknowledged event survives kill -9, at any moment."""

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from llmux.config import Limits
from llmux.eventstore import open_reader, verify

KILLS = int(os.environ.get("LLMUX_TEST_KILLS", "50"))
Appenders = Callable[[str], str]


@pytest.fixture
def appenders(in_process: Callable[..., subprocess.Popen]) -> Iterator[Appenders]:
    """Sends a line to a server of appending processes and returns its answer."""
    server = in_process(
        "-m", "tests.crash.appender",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip

    def ask(line: str) -> str:
        server.stdin.write(f"{line}\n")
        server.stdin.flush()
        answer = server.stdout.readline().strip()
        assert answer, "the server of appending processes has died"
        return answer

    yield ask
    server.stdin.close()
    server.wait(10)


async def test_an_acknowledged_event_survives_kill_nine(tmp_path: Path, appenders: Appenders) -> None:
    """One log, killed again and again: what was acknowledged is there each time, the chain and the file are whole."""
    seed = int(os.environ.get("LLMUX_TEST_SEED", "20261122"))
    chance = random.Random(seed)
    acknowledged: set[str] = set()
    stored: set[str] = set()
    position = 0
    for kill in range(KILLS):
        where = f"kill {kill} of seed {seed}"
        pid = appenders(f"{tmp_path} {chance.randrange(2**32)}")
        await trio.sleep(chance.uniform(0, 0.12))  # the moment of a real kill is real time
        assert appenders(f"end {pid}") == "gone"
        if not (tmp_path / "events.db").exists() or not (tmp_path / "acknowledged").exists():
            continue
        lines = (tmp_path / "acknowledged").read_text().split("\n")
        acknowledged = {line for line in lines[:-1] if line}
        if not acknowledged:
            continue  # killed before its first append, maybe before its tables were there
        async with open_reader(tmp_path, Limits()) as reader:
            result = await verify(reader, first=position + 1)
            while events := await reader.read(after=position, limit=1000):
                stored.update(event.event_id for event in events)
                position = events[-1].position
        assert not acknowledged - stored, where
        assert len(stored) == position == result.head.position, where
    async with open_reader(tmp_path, Limits()) as reader:
        assert (await verify(reader)).events == position
    print(f"seed {seed}: {len(acknowledged)} events acknowledged, {position} stored, {KILLS} kills")
    assert len(acknowledged) > KILLS
