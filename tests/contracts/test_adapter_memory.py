"""However much a program says, the adapter's memory is bounded, with the limits that a gateway has."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.measuring import babbles

ROOT = Path(__file__).parents[2]
BYTES_MAX = 64 * 1024 * 1024


PROVIDERS = ("claude", "codex", "gemini", "ollama")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """The measurements, which all go on at the same time."""
    started = {}
    for provider in PROVIDERS:
        directory = str(tmp_path_factory.mktemp(provider))
        command = [sys.executable, "-m", "tests.contracts.measuring", provider, directory]
        started[provider] = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_program_that_babbles_without_end_is_cut_off_and_takes_little_memory(
    measured: dict[str, subprocess.Popen[bytes]], provider: str
) -> None:
    told, _ = measured[provider].communicate(timeout=120)
    found = json.loads(told)
    print(found)
    assert found["ends"] == {**dict.fromkeys(babbles(provider), "garbled"), "then": "good answer"}
    assert found["peak_bytes"] < BYTES_MAX
