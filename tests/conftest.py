"""Fixtures that many tests share."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog
import trio.testing

from tests.virtual_time import jumping_clock

# `make test` tries the same examples every time; HYPOTHESIS_PROFILE=search looks for new ones, and many more of them.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("search", max_examples=2_000, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    """Trio's clock jumps to the next deadline as soon as everybody waits: see tests/virtual_time.py."""
    return jumping_clock(monkeypatch)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that was run inside a test has set structlog up for its own process."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def in_process(tmp_path: Path) -> Iterator:
    """Starts Python programs, and kills at the end those that are still there: `in_process("-m", "llmux", env=...)`."""
    started: list[subprocess.Popen] = []

    def start(*args: str, env: dict[str, str] | None = None, **options) -> subprocess.Popen:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **(env or {})}
        process = subprocess.Popen([sys.executable, *args], env=environment, start_new_session=True, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
