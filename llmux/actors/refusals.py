"""What is said to a key that has reached a limit: which one, and when there is room again. Pure."""

from collections.abc import Sequence

import msgspec

from llmux.actors.measures import Measure
from llmux.actors.moments import iso
from llmux.failures import LimitReached

HELD_WAIT_MS = 1_000
"""what open requests hold may be free at any moment: after so long it is worth another try"""
SOON, LATER = "rate_limit_exceeded", "insufficient_quota"
"""codes that clients know: the first passes by itself while they wait, the second does not"""


class Short(msgspec.Struct, frozen=True):
    """A limit that has no room for `need` more."""

    measure: Measure
    need: int

    def free_at(self, now: int) -> int | None:
        """When there may be room; None: never. Tokens that open requests hold may be given back before."""
        bare = self.measure if self.measure.unit == "requests" else msgspec.structs.replace(self.measure, held=0)
        at = bare.free_at(self.need, now)
        return None if at is None else max(at, now + HELD_WAIT_MS) if self.held_up(now) else at

    def held_up(self, now: int) -> bool:
        """Whether only what open requests hold is in the way."""
        return (
            self.measure.unit == "tokens"
            and self.measure.used(now) - self.measure.held + self.need <= self.measure.limit
        )


def refusal(short: Sequence[Short], now: int) -> LimitReached:
    """Of all limits in the way, the one that has room again last is what the client is told."""
    times = [(each.free_at(now), each) for each in short]
    for at, each in times:
        if at is None:
            return LimitReached(_never(each), code=SOON, retry_after_ms=None)
    last, each = max(((at or now, each) for at, each in times), key=lambda pair: pair[0])
    soon = each.measure.span == "minute" or each.held_up(now)
    return LimitReached(_until(each, now, last), code=SOON if soon else LATER, retry_after_ms=max(1, last - now))


def too_many_open(limit: int) -> LimitReached:
    """All places for requests that are under way at once are taken."""
    if limit == 0:
        return LimitReached("This key may have no requests under way.", code=SOON, retry_after_ms=None)
    what = "1 request" if limit == 1 else f"{limit} requests"
    return LimitReached(
        f"This key may have {what} under way at once, and has. Try again when one has ended.",
        code=SOON,
        retry_after_ms=HELD_WAIT_MS,
    )


def _never(short: Short) -> str:
    measure = short.measure
    if measure.unit == "requests":
        return f"This key may make no requests: its limit is 0 per {measure.span}."
    return (
        f"This request may take {short.need} tokens, more than the {measure.limit} per {measure.span} that this key may spend. "
        "Send a shorter prompt, or allow fewer tokens for the answer."
    )


def _until(short: Short, now: int, at: int) -> str:
    measure = short.measure
    if measure.unit == "requests":
        what = "1 request" if measure.limit == 1 else f"{measure.limit} requests"
        return f"This key may make {what} per {measure.span}, and has. It may make the next at {iso(at)}."
    left = f"This key may spend {measure.limit} tokens per {measure.span}; {measure.left(now)} are left"
    if short.held_up(now):
        return (
            f"{left} beside what its open requests hold, and this one needs {short.need}. Try again when one has ended."
        )
    return f"{left}, and this request needs {short.need}. There is room again at {iso(at)}."
