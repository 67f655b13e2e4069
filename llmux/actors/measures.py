"""How much of a key's limits by time is taken, and when there is room again. Pure.

A minute slides: what the minute before it counted weighs as much as of it is still within the last sixty seconds. Days and
months are those of UTC, and begin with nothing.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

import msgspec

from llmux.actors.facts.usage import DAY_MS
from llmux.actors.facts.windows import MINUTE_MS, Window
from llmux.events import KeyLimits

Unit = Literal["requests", "tokens"]
Span = Literal["minute", "day", "month"]


class Held(msgspec.Struct):
    """What the open requests of one key have claimed and the facts do not count yet. `open` is how many requests they are."""

    requests: int = 0
    tokens: int = 0
    open: int = 0


class Measure(msgspec.Struct, frozen=True):
    """One limit, and how much of it is taken.

    `present` counts since the window began, `before` is of the minute before it (0 for days and months), `held` is claimed.
    `ends` is when the next window begins. All times are wall time in ms.
    """

    unit: Unit
    span: Span
    limit: int
    present: int
    before: int
    held: int
    ends: int

    def used(self, now: int) -> int:
        """How much is taken: never less than the truth."""
        return self.present + self.held + still_counting(self.before, self.ends, now)

    def left(self, now: int) -> int:
        return max(0, self.limit - self.used(now))

    def free_at(self, need: int, now: int) -> int | None:
        """The first moment at which `need` fits, when nothing else happens until then; None: it never does."""
        if need > self.limit:
            return None
        if self.used(now) + need <= self.limit:
            return now
        taken = self.present + self.held
        if self.span != "minute":
            return max(now, self.ends)
        if taken + need <= self.limit:  # then it waits for the minute before
            return self.ends - (self.limit - taken - need) * MINUTE_MS // self.before
        return self.ends + MINUTE_MS - (self.limit - need) * MINUTE_MS // taken

    def renewed_at(self, now: int) -> int:
        """When nothing of it is taken any more, if nothing else happens until then."""
        if self.present + self.held:
            return max(now, self.ends + (MINUTE_MS if self.span == "minute" else 0))
        return max(now, self.ends) if self.before else now


def still_counting(before: int, ends: int, now: int) -> int:
    """What the minute before still weighs at `now`, rounded up; the present minute `ends` then."""
    return -(-before * min(MINUTE_MS, max(0, ends - now)) // MINUTE_MS)


def measures_of(limits: KeyLimits, window: Window, held: Held) -> tuple[Measure, ...]:
    """All limits by time that the key has. `window` is rolled to the present."""
    found: list[Measure] = []
    for unit, span, name, present, before in _LIMITS:
        limit = getattr(limits, name)
        if limit is None:
            continue
        if span == "minute":
            ends = (window.minute + 1) * MINUTE_MS
        else:
            ends = (window.day + 1) * DAY_MS if span == "day" else end_of_month(window.month)
        taken = held.requests if unit == "requests" else held.tokens
        slides = getattr(window, before) if before else 0
        found.append(Measure(unit, span, limit, getattr(window, present), slides, taken, ends))
    return tuple(found)


_LIMITS: tuple[tuple[Unit, Span, str, str, str], ...] = (
    ("requests", "minute", "requests_per_minute", "requests_minute", "requests_minute_before"),
    ("requests", "day", "requests_per_day", "requests_day", ""),
    ("requests", "month", "requests_per_month", "requests_month", ""),
    ("tokens", "minute", "tokens_per_minute", "tokens_minute", "tokens_minute_before"),
    ("tokens", "day", "tokens_per_day", "tokens_day", ""),
    ("tokens", "month", "tokens_per_month", "tokens_month", ""),
)
"""unit, span, the limit's name, and the names of what the window holds of it"""


@lru_cache(maxsize=8)
def end_of_month(month: int) -> int:
    """When the month with this number (12 a year from the year 0) is over."""
    year, index = divmod(month + 1, 12)
    return int(datetime(year, index + 1, 1, tzinfo=UTC).timestamp() * 1000)
