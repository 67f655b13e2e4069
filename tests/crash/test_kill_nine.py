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

KILLS = int(os.environ.get("LLMUX_TEST_KILLS", "200"))
LOGS = 4
SEED = int(os.environ.get("LLMUX_TEST_SEED", "20261122"))
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
    """A few logs, each killed again and again: what was acknowledged is there each time, the chain and the file are whole."""
    logs = [Log(tmp_path / f"{number}", SEED + number) for number in range(LOGS)]
    async with trio.open_nursery() as nursery:
        for log in logs:
            nursery.start_soon(log.die_again_and_again, appenders, KILLS // LOGS)
    for log in logs:
        async with open_reader(log.directory, Limits()) as reader:
            stored = (await verify(reader)).events
        assert stored == log.position or not log.acknowledged  # a machine under load may have come to none
    acknowledged = sum(len(log.acknowledged) for log in logs)
    print(f"seed {SEED}: {acknowledged} events acknowledged, {sum(log.position for log in logs)} stored, {KILLS} kills")
    assert acknowledged > KILLS


class Log:
    """A log, what its appenders have been told, and what was found in it so far."""

    def __init__(self, directory: Path, seed: int):
        directory.mkdir()
        self.directory, self.seed = directory, seed
        self.acknowledged: set[str] = set()
        self.stored: set[str] = set()
        self.position = 0

    async def die_again_and_again(self, appenders: Appenders, kills: int) -> None:
        chance = random.Random(self.seed)
        for kill in range(kills):
            pid = appenders(f"{self.directory} {chance.randrange(2**32)}")
            await trio.sleep(chance.uniform(0, 0.12))  # the moment of a real kill is real time
            assert appenders(f"end {pid}") == "gone"
            await self.look(f"kill {kill} of seed {self.seed}")

    async def look(self, where: str) -> None:
        """What was acknowledged is there, and what came since the last look is whole."""
        if (self.directory / "acknowledged").exists():
            lines = (self.directory / "acknowledged").read_text().split("\n")
            self.acknowledged = {line for line in lines[:-1] if line}
        if not self.acknowledged:
            return  # killed before its first append, maybe before its tables were there
        async with open_reader(self.directory, Limits()) as reader:
            result = await verify(reader, first=self.position + 1)
            while events := await reader.read(after=self.position, limit=1000):
                self.stored.update(event.event_id for event in events)
                self.position = events[-1].position
        assert not self.acknowledged - self.stored, where
        assert len(self.stored) == self.position == result.head.position, where
