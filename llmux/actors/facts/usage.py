"""What was spent: tokens and requests by day, principal, provider, account and model. A fold like any other, so that it is
known at any past moment and after any restart.
"""

import msgspec
from pyrsistent import PMap

from llmux.actors.facts.fold import Draft, change, of_map
from llmux.events import (
    AttemptCancelled,
    AttemptFailed,
    AttemptSucceeded,
    Recorded,
    RequestAbandoned,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
)

DAY_MS = 86_400_000
NOBODY = ""
"""provider, account and model of requests whose end names no route"""


class Spent(msgspec.Struct, frozen=True):
    """What one principal spent on one model in one day (UTC; `day` counts from 1970-01-01).

    Tokens are what the whole answers cost, as the providers count them: they are charged to the request that started the
    flight, even if that one had left, on the day the attempt ended. What an attempt cost that failed or was stopped no
    provider says. `requests` counts all that ended on the day, however; the three counts after it say how, where it was not by
    a whole answer, and `cached` and `joined` are those whole answers that cost nothing. `attempts` counts all that ended, and
    `attempts_failed` and `attempts_cancelled` those of them without a whole answer. `duration_ms` is how long the requests
    with a whole answer took, together.

    A request is counted where its end says that it was answered or last tried; one that was cancelled or abandoned names no
    route, and neither does one that failed before any was tried.
    """

    day: int
    principal: str
    provider: str
    account: str
    model: str
    requests: int = 0
    failed: int = 0
    cancelled: int = 0
    abandoned: int = 0
    cached: int = 0
    joined: int = 0
    attempts: int = 0
    attempts_failed: int = 0
    attempts_cancelled: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_tokens: int = 0
    duration_ms: int = 0


Spending = PMap[str, Spent]


def _own(draft: Draft[Spent], event: Recorded, provider: str, account: str, model: str) -> Spent:
    day = event.recorded_at // DAY_MS
    key = f"{day}/{event.principal}/{provider}/{account}/{model}"
    return draft.own(key) or draft.put(key, Spent(day, event.principal, provider, account, model))


def _count(own: Spent, *fields: str) -> None:
    for field in fields:
        change(own, field, getattr(own, field) + 1)


def _completed(draft: Draft[Spent], event: Recorded, fact: RequestCompleted) -> None:
    own = _own(draft, event, fact.provider, fact.account, fact.model)
    change(own, "requests", own.requests + 1)
    change(own, "duration_ms", own.duration_ms + fact.duration_ms)
    if fact.source != "flight":
        _count(own, "cached" if fact.source == "cache" else "joined")


def _failed(draft: Draft[Spent], event: Recorded, fact: RequestFailed) -> None:
    _count(
        _own(draft, event, fact.provider, fact.account if fact.provider else NOBODY, fact.model), "requests", "failed"
    )


def _cancelled(draft: Draft[Spent], event: Recorded, fact: RequestCancelled) -> None:
    _count(_own(draft, event, NOBODY, NOBODY, NOBODY), "requests", "cancelled")


def _abandoned(draft: Draft[Spent], event: Recorded, fact: RequestAbandoned) -> None:
    _count(_own(draft, event, NOBODY, NOBODY, NOBODY), "requests", "abandoned")


def _attempt_succeeded(draft: Draft[Spent], event: Recorded, fact: AttemptSucceeded) -> None:
    own, usage = _own(draft, event, fact.provider, fact.account, fact.model), fact.usage
    change(own, "attempts", own.attempts + 1)
    change(own, "input_tokens", own.input_tokens + usage.input_tokens)
    change(own, "output_tokens", own.output_tokens + usage.output_tokens)
    if usage.cached_input_tokens:
        change(own, "cached_input_tokens", own.cached_input_tokens + usage.cached_input_tokens)
    if usage.cache_write_input_tokens:
        change(own, "cache_write_input_tokens", own.cache_write_input_tokens + usage.cache_write_input_tokens)
    if usage.reasoning_tokens:
        change(own, "reasoning_tokens", own.reasoning_tokens + usage.reasoning_tokens)


def _attempt_failed(draft: Draft[Spent], event: Recorded, fact: AttemptFailed) -> None:
    _count(_own(draft, event, fact.provider, fact.account, fact.model), "attempts", "attempts_failed")


def _attempt_cancelled(draft: Draft[Spent], event: Recorded, fact: AttemptCancelled) -> None:
    _count(_own(draft, event, fact.provider, fact.account, fact.model), "attempts", "attempts_cancelled")


USAGE = of_map(
    Spent,
    {
        "RequestCompleted": _completed,
        "RequestFailed": _failed,
        "RequestCancelled": _cancelled,
        "RequestAbandoned": _abandoned,
        "AttemptSucceeded": _attempt_succeeded,
        "AttemptFailed": _attempt_failed,
        "AttemptCancelled": _attempt_cancelled,
    },
)
