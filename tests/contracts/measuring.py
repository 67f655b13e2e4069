"""Measures how much memory an adapter takes while its program babbles: `python -m tests.contracts.measuring PROVIDER DIRECTORY`.

A process of its own, so that nothing else has taken and freed memory before. Prints the peak over the beginning, in bytes, and
what became of each attempt.
"""

import json
import sys
from pathlib import Path

import trio

from llmux.failures import ProviderFailure
from llmux.prompts import Chunk
from tests.contracts.misbehaving import misbehaving
from tests.providers.hearing import Heard

BABBLES = ("line without an end", "answer without an end")
LETTERS = "letters without an end"
"""where the adapter reads ahead of its reader: what waits is many small things"""


def babbles(provider: str) -> tuple[str, ...]:
    return (*BABBLES, LETTERS) if provider in ("claude", "codex") else BABBLES


class Forgetful(Heard):
    """Takes chunks and keeps none."""

    async def emit(self, chunk: Chunk) -> None:
        await trio.lowlevel.checkpoint()


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (the most there was), in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


async def measure(provider: str, directory: Path) -> dict[str, object]:
    ends: dict[str, str] = {}
    async with misbehaving(provider, "", directory) as program:
        await program.ask()
        before = resident("VmRSS")
        for babble in babbles(provider):
            program.be(babble)
            try:
                with trio.fail_after(60):
                    await program.ask(Forgetful())
            except ProviderFailure as failure:
                ends[babble] = failure.kind
        program.be("")
        ends["then"] = (await program.ask_patiently()).text
    return {"peak_bytes": resident("VmHWM") - before, "ends": ends}


if __name__ == "__main__":
    print(json.dumps(trio.run(measure, sys.argv[1], Path(sys.argv[2]))))
