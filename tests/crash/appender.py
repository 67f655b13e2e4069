"""Appends until it is killed. A server of such processes: importing everything takes half a second, forking a millisecond.

Reads "DIRECTORY SEED" lines from stdin; each makes a process that appends to the log in the directory and writes the id of every
event whose append has been acknowledged, and only those, to DIRECTORY/acknowledged. Answers with the process's id. A line
"end PID" kills that process with SIGKILL, waits until it is gone, and answers "gone".
"""

import os
import random
import signal
import sys
from pathlib import Path

import trio

from llmux.clock import SystemClock
from llmux.config import Limits
from llmux.events import CacheCleared, NewEvent
from llmux.eventstore import Append, Appended, open_store, own_directory
from llmux.migrations import upgrade


async def append_for_ever(directory: Path, seed: int) -> None:
    chance, clock = random.Random(seed), SystemClock()
    acknowledged = os.open(directory / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with own_directory(directory):
        upgrade(directory / "events.db")
        async with open_store(directory, clock=clock, limits=Limits()) as store:
            while True:
                batch = [
                    Append(
                        tuple(
                            NewEvent(
                                f"stream-{chance.randrange(50)}",
                                CacheCleared(entries=chance.randrange(10**9)),
                                clock.new_id(),
                            )
                            for _ in range(chance.randint(1, 4))
                        )
                    )
                    for _ in range(chance.randint(1, 20))
                ]
                for outcome in await store.append(batch):
                    if not isinstance(outcome, Appended):
                        raise outcome
                    os.write(acknowledged, "".join(f"{event.event_id}\n" for event in outcome.events).encode())


def serve() -> None:
    for line in sys.stdin:
        first, second = line.rsplit(" ", 1)
        if first == "end":
            os.kill(int(second), signal.SIGKILL)
            os.waitpid(int(second), 0)
            print("gone", flush=True)
        elif (pid := os.fork()) == 0:
            os.close(0)
            trio.run(append_for_ever, Path(first), int(second))
            os._exit(0)
        else:
            print(pid, flush=True)


if __name__ == "__main__":
    serve()
