"""What is known of every provider's quotas: windows, and who rests until when on what evidence."""

from typing import Any

import msgspec
from pyrsistent import PMap

from llmux.actors.facts.fold import Draft, change, of_map
from llmux.events import (
    ProviderCooled,
    ProviderRestored,
    QuotaExhausted,
    QuotaReported,
    QuotaReset,
    Recorded,
)

ACCOUNT_WIDE = "*"
"""stands for the model where a quota or a rest covers every model of an account"""

EVERY_ACCOUNT = "*"


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
    reset_at: int | None = None
    """when somebody last declared all rests of the provider over by hand (only where account and model are "*")"""


Quotas = PMap[str, Quota]


def quota_key(provider: str, account: str, model: str) -> str:
    """The key of these facts in the map."""
    return f"{provider}/{account}/{model}"


def reset_at(quotas: "Quotas", provider: str) -> int | None:
    """When somebody last declared the rests of the provider over by hand (wall time in ms), or None."""
    quota = quotas.get(quota_key(provider, EVERY_ACCOUNT, ACCOUNT_WIDE))
    return None if quota is None else quota.reset_at


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


def _own(draft: Draft[Quota], fact: Any) -> Quota:
    key = quota_key(fact.provider, fact.account, fact.model)
    return draft.own(key) or draft.put(key, Quota(fact.provider, fact.account, fact.model))


def _reported(draft: Draft[Quota], event: Recorded, fact: QuotaReported) -> None:
    quota = _own(draft, fact)
    window = Window(fact.status, fact.used_percent, fact.resets_at, event.recorded_at)
    change(quota, "windows", {**quota.windows, fact.window: window})


def _exhausted(draft: Draft[Quota], event: Recorded, fact: QuotaExhausted) -> None:
    rest = Rest("quota_exhausted", fact.evidence, event.recorded_at, fact.until, fact.resets_at)
    change(_own(draft, fact), "rest", rest)


def _cooled(draft: Draft[Quota], event: Recorded, fact: ProviderCooled) -> None:
    change(_own(draft, fact), "rest", Rest(fact.kind, fact.evidence, event.recorded_at, fact.until))


def _restored(draft: Draft[Quota], event: Recorded, fact: ProviderRestored) -> None:
    change(_own(draft, fact), "rest", None)


def _reset(draft: Draft[Quota], event: Recorded, fact: QuotaReset) -> None:
    for key in draft:
        quota = draft.get(key)
        if quota is not None and quota.provider == fact.provider and (own := draft.own(key)) is not None:
            change(own, "rest", None)
    key = quota_key(fact.provider, EVERY_ACCOUNT, ACCOUNT_WIDE)
    change(
        draft.own(key) or draft.put(key, Quota(fact.provider, EVERY_ACCOUNT, ACCOUNT_WIDE)),
        "reset_at",
        event.recorded_at,
    )


QUOTAS = of_map(
    Quota,
    {
        "QuotaReported": _reported,
        "QuotaExhausted": _exhausted,
        "ProviderCooled": _cooled,
        "ProviderRestored": _restored,
        "QuotaReset": _reset,
    },
)
