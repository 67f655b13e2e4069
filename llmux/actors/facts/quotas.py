"""What is known of every provider's quotas: windows, and who rests until when on what evidence."""

from typing import Any

import msgspec
from pyrsistent import PMap

from llmux.actors.facts.fold import of_map
from llmux.events import (
    ProviderCooled,
    ProviderRestored,
    QuotaExhausted,
    QuotaReported,
    QuotaReset,
    RecordedEvent,
)

ACCOUNT_WIDE = "*"
"""stands for the model where a quota or a rest covers every model of an account"""


class Window(msgspec.Struct, frozen=True):
    """One quota window as the provider last described it."""

    status: str
    used_percent: int | None
    resets_at: int | None
    reported_at: int


class Rest(msgspec.Struct, frozen=True):
    """Why a route is left alone, since when and until when (wall time in ms)."""

    kind: str
    evidence: str
    since: int
    until: int
    resets_at: int | None = None


class Quota(msgspec.Struct, frozen=True):
    """One provider, account and model ("*" = all of the account)."""

    provider: str
    account: str
    model: str
    windows: dict[str, Window] = {}
    rest: Rest | None = None


Quotas = PMap[str, Quota]


def quota_key(provider: str, account: str, model: str) -> str:
    """The key of these facts in the map."""
    return f"{provider}/{account}/{model}"


CLOCK_SLACK_MS = 60_000


def rest_of(quotas: "Quotas", provider: str, account: str, model: str) -> tuple[str, Rest] | None:
    """The rest that concerns this route, and its key: the one that lasts longest of the model's and the account's."""
    rests = [
        (key, quota.rest)
        for key in (quota_key(provider, account, model), quota_key(provider, account, ACCOUNT_WIDE))
        if (quota := quotas.get(key)) is not None and quota.rest is not None
    ]
    return max(rests, key=lambda found: found[1].until, default=None)


def lasts(rest: Rest, now: int) -> bool:
    """Whether the rest is not over. One that has yet to begin is over: the wall clock was set back since."""
    return rest.since - CLOCK_SLACK_MS <= now < rest.until


def _change(draft: Any, fact: Any, **changes: Any) -> None:
    key = quota_key(fact.provider, fact.account, fact.model)
    old = draft[key] if key in draft else Quota(fact.provider, fact.account, fact.model)
    draft[key] = msgspec.structs.replace(old, **changes)


def _reported(draft: Any, event: RecordedEvent, fact: QuotaReported) -> None:
    key = quota_key(fact.provider, fact.account, fact.model)
    windows = dict(draft[key].windows) if key in draft else {}
    windows[fact.window] = Window(fact.status, fact.used_percent, fact.resets_at, event.recorded_at)
    _change(draft, fact, windows=windows)


def _exhausted(draft: Any, event: RecordedEvent, fact: QuotaExhausted) -> None:
    rest = Rest("quota_exhausted", fact.evidence, event.recorded_at, fact.until, fact.resets_at)
    _change(draft, fact, rest=rest)


def _cooled(draft: Any, event: RecordedEvent, fact: ProviderCooled) -> None:
    _change(draft, fact, rest=Rest(fact.kind, fact.evidence, event.recorded_at, fact.until))


def _restored(draft: Any, event: RecordedEvent, fact: ProviderRestored) -> None:
    _change(draft, fact, rest=None)


def _reset(draft: Any, event: RecordedEvent, fact: QuotaReset) -> None:
    for key, quota in draft.persistent().items():
        if quota.provider == fact.provider and quota.rest is not None:
            draft[key] = msgspec.structs.replace(quota, rest=None)


QUOTAS = of_map(
    {
        "QuotaReported": _reported,
        "QuotaExhausted": _exhausted,
        "ProviderCooled": _cooled,
        "ProviderRestored": _restored,
        "QuotaReset": _reset,
    }
)
