"""The only place that asks the time or draws randomness.

Everything else is handed a `Clock`, so that a test can put time and chance under its own control. Wall time (`now`) is for
people and for comparing with what vendors say; `monotonic` measures durations; positions in the log give the order.
"""

import os
import random
import time
from typing import Protocol

import trio


class Clock(Protocol):
    """Where time, randomness and ids come from."""

    def now(self) -> int:
        """Wall time in milliseconds since 1970-01-01 UTC. It can jump in either direction."""

    def monotonic(self) -> float:
        """Seconds of trio's clock: only differences mean anything, and they never go backwards."""

    def draw(self, below: int) -> int:
        """A random integer in `range(below)`."""

    def secret(self, size_bytes: int) -> bytes:
        """Random bytes fit for keys."""

    def new_id(self) -> str:
        """A new UUIDv7 in its canonical text form; ids made by one clock sort in the order they were made."""


class _Ids:
    """UUIDv7 with a 12-bit counter inside each millisecond (RFC 9562, section 6.2, method 1)."""

    def __init__(self) -> None:
        self._last_ms = -1
        self._counter = 0

    def next(self, now_ms: int, tail: int) -> str:
        if now_ms > self._last_ms:
            self._last_ms, self._counter = now_ms, 0
        else:  # same millisecond, or the wall clock went back: keep the order
            self._counter += 1
            if self._counter > 0xFFF:
                self._last_ms, self._counter = self._last_ms + 1, 0
        high = (self._last_ms & (1 << 48) - 1) << 16 | 0x7 << 12 | self._counter
        digits = f"{high:016x}{0b10 << 62 | tail & (1 << 62) - 1:016x}"  # several times as fast as uuid.UUID
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class SystemClock:
    """The machine's own clock and its cryptographic randomness."""

    def __init__(self) -> None:
        self._ids = _Ids()
        self._random = random.SystemRandom()

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return trio.current_time()

    def draw(self, below: int) -> int:
        return self._random.randrange(below)

    def secret(self, size_bytes: int) -> bytes:
        return os.urandom(size_bytes)

    def new_id(self) -> str:
        return self._ids.next(self.now(), int.from_bytes(os.urandom(8), "big"))


class SeededClock:
    """A clock for tests: wall time follows trio's (virtual) clock from `start_ms` on, and chance follows `seed`.

    `shift(ms)` moves the wall time alone, as an administrator or a time server would.
    """

    def __init__(self, seed: int = 0, start_ms: int = 1_790_000_000_000) -> None:
        self.seed = seed
        self._ids = _Ids()
        self._random = random.Random(seed)
        self._start_ms = start_ms
        self._origin: float | None = None

    def now(self) -> int:
        try:
            current = trio.current_time()
        except RuntimeError:  # outside trio.run, time stands still
            return self._start_ms
        if self._origin is None:
            self._origin = current
        return self._start_ms + int((current - self._origin) * 1000)

    def shift(self, ms: int) -> None:
        self._start_ms += ms

    def monotonic(self) -> float:
        return trio.current_time()

    def draw(self, below: int) -> int:
        return self._random.randrange(below)

    def secret(self, size_bytes: int) -> bytes:
        return self._random.randbytes(size_bytes)

    def new_id(self) -> str:
        return self._ids.next(self.now(), self._random.getrandbits(64))
