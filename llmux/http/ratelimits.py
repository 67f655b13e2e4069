"""The headers that tell a key how much of its limits is left: OpenAI's on every answer, and Anthropic's where its clients ask.

Of several limits of one unit (a minute's, a day's, a month's) it is the tightest that is told: the one of which the fewest are
left. What open requests hold counts as taken.
"""

from collections.abc import Iterable

from llmux.actors.measures import Measure, Unit
from llmux.http.exchange import iso

ANTHROPIC = "/v1/messages"
"""where the paths of Anthropic's dialect begin"""


def headers_of(measures: Iterable[Measure], path: str, now: int) -> dict[str, str]:
    """The headers for a response to `path`; {} for a caller without limits. `now` is wall time in ms."""
    headers: dict[str, str] = {}
    for unit, (left, measure) in tightest(measures, now).items():
        limit, renewed_at = str(measure.limit), measure.renewed_at(now)
        headers[f"x-ratelimit-limit-{unit}"] = limit
        headers[f"x-ratelimit-remaining-{unit}"] = str(left)
        headers[f"x-ratelimit-reset-{unit}"] = lasting(renewed_at - now)
        if path.startswith(ANTHROPIC):
            headers[f"anthropic-ratelimit-{unit}-limit"] = limit
            headers[f"anthropic-ratelimit-{unit}-remaining"] = str(left)
            headers[f"anthropic-ratelimit-{unit}-reset"] = iso(renewed_at)
    return headers


def tightest(measures: Iterable[Measure], now: int) -> dict[Unit, tuple[int, Measure]]:
    """By unit, the limit of which the fewest are left, and how many; of two such, the one of the longer span."""
    found: dict[Unit, tuple[int, Measure]] = {}
    for each in measures:  # the shortest span of a unit first
        left, other = each.left(now), found.get(each.unit)
        if other is None or left <= other[0]:
            found[each.unit] = left, each
    return found


def lasting(ms: int) -> str:
    """A duration as OpenAI's clients know it: "0s", "12ms", "1.5s", "6m0s", "23h59m0s"."""
    if 0 < ms < 1000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(max(0, ms), 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest_ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + seconds
