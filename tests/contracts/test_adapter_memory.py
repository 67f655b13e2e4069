"""However much a program says, the adapter's memory is bounded, with the limits that a gateway has."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts.measuring import BABBLES

ROOT = Path(__file__).parents[2]
BYTES_MAX = 64 * 1024 * 1024


@pytest.mark.parametrize("provider", ["claude", "codex", "gemini", "ollama"])
def test_a_program_that_babbles_without_end_is_cut_off_and_takes_little_memory(provider: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.contracts.measuring", provider, str(tmp_path)]
    measured = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=120).stdout)
    print(measured)
    assert measured["ends"] == {**dict.fromkeys(BABBLES, "garbled"), "then": "good answer"}
    assert measured["peak_bytes"] < BYTES_MAX
