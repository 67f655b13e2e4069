"""A clock for tests that really use the log's thread, and never really sleep."""

import pytest
import trio
import trio.testing

from llmux.eventstore import thread as store_thread


def jumping_clock(monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    """A clock that jumps to the next deadline as soon as everybody waits, but never while a thread is at work: the log's
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

    for name in ("run", "run_at"):
        monkeypatch.setattr(store_thread.LoopThread, name, counted(getattr(store_thread.LoopThread, name)))
    monkeypatch.setattr(trio.to_thread, "run_sync", counted(trio.to_thread.run_sync))
    monkeypatch.setattr(clock, "_autojump", lambda: None if working else jump())
    return clock
