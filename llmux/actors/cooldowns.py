"""Why somebody rests, and when they are tried again, in fields and in a sentence. Pure."""

from collections.abc import Collection
from typing import Literal

import msgspec

from llmux.actors.facts.quotas import Quota, Quotas, Rest, lasts, quota_key
from llmux.actors.moments import iso

_REASONS = {
    "quota_exhausted": "Its quota is spent",
    "rate_limited": "It asked for fewer requests",
    "overloaded": "It said that it is overloaded",
    "unavailable": "It could not be reached",
    "timed_out": "It did not answer in time",
}


class Probe(msgspec.Struct, frozen=True):
    """The next try of what rested: one request goes first, and the others follow when it is answered.

    `at` is when it may go (ms since 1970). `state` is "resting" until then, "due" from then on (the next request that wants this
    route is the probe), and "under_way" while one is trying.
    """

    at: int
    state: Literal["resting", "due", "under_way"]


class Cooldown(msgspec.Struct, frozen=True, rename="camel"):
    """An account and a model ("*" = all of the account) that rest, or that rested and were not tried since: since when, until
    when, and what that rests on. `evidence` names the sign by which the failure was known, and `resetsAt` is what the provider
    said; `explanation` says all of it in sentences. Times are ms since 1970.
    """

    account: str
    model: str
    kind: str
    evidence: str
    since: int
    until: int
    resets_at: int | None
    next_probe: Probe
    explanation: str


def cooldowns_of(quotas: Quotas, provider: str, probing: Collection[str], now: int) -> list[Cooldown]:
    """The cooldowns of a provider, by account and model. `probing` are the keys of the probes under way, `now` is wall time
    in ms.
    """
    mine = [each for each in quotas.values() if each.provider == provider]
    mine.sort(key=lambda each: (each.account, each.model))
    return [_cooldown(each, each.rest, probing, now) for each in mine if each.rest is not None]


def _cooldown(quota: Quota, rest: Rest, probing: Collection[str], now: int) -> Cooldown:
    probe = _probe(quota, rest, probing, now)
    return Cooldown(
        account=quota.account,
        model=quota.model,
        kind=rest.kind,
        evidence=rest.evidence,
        since=rest.since,
        until=rest.until,
        resets_at=rest.resets_at,
        next_probe=probe,
        explanation=_explanation(rest, probe),
    )


def _probe(quota: Quota, rest: Rest, probing: Collection[str], now: int) -> Probe:
    if lasts(rest, now):
        return Probe(rest.until, "resting")
    trying = quota_key(quota.provider, quota.account, quota.model) in probing
    return Probe(min(rest.until, now), "under_way" if trying else "due")  # earlier, where the wall clock was set back


def _explanation(rest: Rest, probe: Probe) -> str:
    why = _REASONS.get(rest.kind, f"It failed ({rest.kind})")
    said = [f"{why} since {iso(rest.since)} (seen in {rest.evidence})."]
    if rest.resets_at is not None:
        capped = rest.until < rest.resets_at
        limit = ", which is too far away to be believed" if capped else ""
        said.append(f"The provider says that it resets at {iso(rest.resets_at)}{limit}.")
    match probe.state:
        case "resting":
            said.append(f"Nothing is asked of it until {iso(rest.until)}; then one request tries it first.")
        case "due":
            said.append(f"Its rest ended at {iso(probe.at)}; the next request that wants it tries it.")
        case "under_way":
            said.append(f"Its rest ended at {iso(probe.at)}, and one request is trying it now.")
    return " ".join(said)
