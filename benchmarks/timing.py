"""Seconds, and how they spread."""

import time
from collections.abc import Callable, Sequence


def elapsed(work: Callable[[], object]) -> float:
    """How many seconds `work()` takes."""
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


class Stopwatch:
    """`with Stopwatch() as watch: ...`, and then `watch.seconds`."""

    seconds = 0.0

    def __enter__(self) -> "Stopwatch":
        self._before = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._before


def spread(seconds: Sequence[float]) -> tuple[float, float]:
    """The 50th and the 99th percentile."""
    ordered = sorted(seconds)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
