"""Fixtures that many tests share."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import trio
import trio.testing

from llmux.eventstore import thread as store_thread

# `make test` tries the same examples every time; HYPOTHESIS_PROFILE=search looks for new ones, and many more of them.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("search", max_examples=2_000, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    """Trio's clock jumps to the next deadline as soon as everybody waits, but never while a thread is at work: the log's
    own, or one that writes or reads a file.

    (trio's plain autojump clock does not see threads, and would let every deadline pass during a commit.)
    """
    clock = trio.testing.MockClock(autojump_threshold=0.001)
    jump = clock._autojump
    working = 0

    def counted(run):
        async def running(*args, **options):
            nonlocal working
            working += 1
            try:
                return await run(*args, **options)
            finally:
                working -= 1

        return running

    monkeypatch.setattr(store_thread.LoopThread, "run", counted(store_thread.LoopThread.run))
    monkeypatch.setattr(trio.to_thread, "run_sync", counted(trio.to_thread.run_sync))
    monkeypatch.setattr(clock, "_autojump", lambda: None if working else jump())
    return clock


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
