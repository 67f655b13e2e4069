"""How much each principal has asked for and spent lately: what limits by minute, day and month are compared with.

A fold like any other, so that a restart forgives nobody. It counts; what is too much, the limits of the key say.
"""

from datetime import UTC, datetime

import msgspec

from llmux.actors.facts.fold import Draft, change, of_map
from llmux.actors.facts.usage import DAY_MS
from llmux.events import AttemptSucceeded, Recorded, RequestAccepted

MINUTE_MS = 60_000


class Window(msgspec.Struct, frozen=True):
    """Requests and tokens of one principal in the minute, day and month (UTC) of its latest event, and the minute before.

    `minute` and `day` count from 1970-01-01, `month` as 12 a year from the year 0. A request counts when it is accepted,
    tokens when the attempt that cost them ends well.
    """

    minute: int = 0
    day: int = 0
    month: int = 0
    requests_minute: int = 0
    requests_minute_before: int = 0
    requests_day: int = 0
    requests_month: int = 0
    tokens_minute: int = 0
    tokens_minute_before: int = 0
    tokens_day: int = 0
    tokens_month: int = 0


def month_of(at: int) -> int:
    """The month of a wall time in ms."""
    moment = datetime.fromtimestamp(at / 1000, UTC)
    return moment.year * 12 + moment.month - 1


def rolled(window: Window, at: int) -> Window:
    """The window as it is at `at` (wall time in ms), when nothing has happened since. A clock that is set back changes nothing."""
    if at // MINUTE_MS <= window.minute:
        return window
    own = msgspec.structs.replace(window)
    _roll(own, at)
    return own


def _roll(own: Window, at: int) -> None:
    minute = at // MINUTE_MS
    if minute <= own.minute:
        return
    adjacent = minute == own.minute + 1
    change(own, "requests_minute_before", own.requests_minute if adjacent else 0)
    change(own, "tokens_minute_before", own.tokens_minute if adjacent else 0)
    change(own, "requests_minute", 0)
    change(own, "tokens_minute", 0)
    change(own, "minute", minute)
    if (day := at // DAY_MS) > own.day:
        change(own, "requests_day", 0)
        change(own, "tokens_day", 0)
        if (month := month_of(at)) > own.month:
            change(own, "requests_month", 0)
            change(own, "tokens_month", 0)
            change(own, "month", month)
        change(own, "day", day)


def _own(draft: Draft[Window], event: Recorded) -> Window:
    own = draft.own(event.principal) or draft.put(event.principal, Window())
    _roll(own, event.recorded_at)
    return own


def _accepted(draft: Draft[Window], event: Recorded, fact: RequestAccepted) -> None:
    own = _own(draft, event)
    change(own, "requests_minute", own.requests_minute + 1)
    change(own, "requests_day", own.requests_day + 1)
    change(own, "requests_month", own.requests_month + 1)


def _succeeded(draft: Draft[Window], event: Recorded, fact: AttemptSucceeded) -> None:
    own, tokens = _own(draft, event), fact.usage.total_tokens
    change(own, "tokens_minute", own.tokens_minute + tokens)
    change(own, "tokens_day", own.tokens_day + tokens)
    change(own, "tokens_month", own.tokens_month + tokens)


WINDOWS = of_map(Window, {"RequestAccepted": _accepted, "AttemptSucceeded": _succeeded})
