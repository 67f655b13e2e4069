"""Which routes would have rested under other rules: the recorded rests, and the same facts folded with other lengths."""

from collections.abc import Mapping

import msgspec

from llmux.actors.facts.quotas import QUOTAS, Quotas, lasts, quota_key, rest_of
from llmux.actors.router import Route
from llmux.events import ProviderCooled, ProviderRestored, QuotaExhausted, QuotaReset, Recorded
from llmux.failures import POLICIES, Kind

RESTING_KINDS = tuple(kind.value for kind, policy in POLICIES.items() if policy.cools_ms)
"""the kinds of failure after which a route rests"""
_REST_REASONS = frozenset({*RESTING_KINDS, "half_open"})
_OWN_SLACK_MS = 1_000
"""a rest is written down this much after it was decided, at most; then its length still tells who decided it"""

RestFact = QuotaExhausted | ProviderCooled


class Rules(msgspec.Struct, frozen=True):
    """What is to be different from the recorded days, beside the weights.

    `cooldowns` has other lengths, in ms, for rests whose end the provider did not say, by (provider, kind); "" stands for all
    of them, and the more exact pair wins. Without `fallback` the first route that is tried is the only one.
    """

    cooldowns: Mapping[tuple[str, str], int] = {}
    fallback: bool = True

    def cooldown_ms(self, provider: str, kind: str) -> int | None:
        """The length that is asked for, or None where the recorded one stays."""
        for pair in ((provider, kind), (provider, ""), ("", kind), ("", "")):
            if pair in self.cooldowns:
                return self.cooldowns[pair]
        return None


AS_RECORDED = Rules()


class Rests:
    """The recorded rests beside those under `rules`, moved forward event by event with the fold of the quota tracker's facts.

    `changed` counts the recorded rests that the rules make longer, shorter or needless, `kept` those whose end the provider
    itself had said.
    """

    def __init__(self, rules: Rules, quotas: Quotas = QUOTAS.empty):
        self._rules = rules
        self._recorded = quotas
        self._simulated = quotas
        self.changed = 0
        self.kept = 0

    def __repr__(self) -> str:
        return f"<Rests {self.changed} changed, {self.kept} kept>"

    def note(
        self, event: Recorded, fact: RestFact | ProviderRestored | QuotaReset, cooldowns_ms: Mapping[str, int]
    ) -> None:
        """Takes one fact of the quota tracker; `cooldowns_ms` are the `cooldown_ms` of the recorded configuration."""
        if not self._rules.cooldowns:
            return
        rested = not isinstance(fact, QuotaReset) and self._rests(self._recorded, fact, event.recorded_at)
        rests = not isinstance(fact, QuotaReset) and self._rests(self._simulated, fact, event.recorded_at)
        self._recorded = _folded(self._recorded, event, fact)
        if isinstance(fact, RestFact):
            fact = self._with_other_end(event, fact, cooldowns_ms.get(fact.provider))
        if rests and not rested:
            return  # nobody would have asked a route that rests: this would not have come to light
        self._simulated = _folded(self._simulated, event, fact)

    @staticmethod
    def _rests(quotas: Quotas, fact: RestFact | ProviderRestored, now: int) -> bool:
        quota = quotas.get(quota_key(fact.provider, fact.account, fact.model))
        return quota is not None and quota.rest is not None and lasts(quota.rest, now)

    def _with_other_end(self, event: Recorded, fact: RestFact, cooldown_ms: int | None) -> RestFact:
        kind = fact.kind if isinstance(fact, ProviderCooled) else Kind.QUOTA_EXHAUSTED.value
        asked_ms = self._rules.cooldown_ms(fact.provider, kind)
        if asked_ms is None:
            return fact
        own_ms = _own_length_ms(event, fact, kind, cooldown_ms)
        if own_ms is None:
            self.kept += 1
            return fact
        self.changed += own_ms != asked_ms
        return msgspec.structs.replace(fact, until=fact.until - own_ms + asked_ms)

    def fails_again(self, route: Route, now: int) -> bool:
        """Whether a route that the rules bring back is taken to fail when it is tried: its recorded rest is not over."""
        found = rest_of(self._recorded, *_names(route))
        return found is not None and lasts(found[1], now)

    def begin_again(self, route: Route, now: int) -> None:
        """A route that came back was tried and failed as before: it rests once more, for as long as the rules say."""
        found = rest_of(self._recorded, *_names(route))
        if found is None or self.out(route, now):
            return
        key, rest = found
        length_ms = self._rules.cooldown_ms(route.provider, rest.kind)
        assert length_ms is not None  # without a rule for it, it would not have come back
        again = msgspec.structs.replace(rest, since=now, until=now + length_ms)
        self._simulated = self._simulated.set(key, msgspec.structs.replace(self._recorded[key], rest=again))

    def differ(self, route: Route) -> bool:
        """Whether the rules change anything for this route at present."""
        return rest_of(self._recorded, *_names(route)) != rest_of(self._simulated, *_names(route))

    def out(self, route: Route, now: int) -> bool:
        """Whether the route rests under the rules."""
        found = rest_of(self._simulated, *_names(route))
        return found is not None and lasts(found[1], now)


def is_rest(reason: str) -> bool:
    """Whether an exclusion of the router with this reason comes from a rest."""
    return reason in _REST_REASONS


def _names(route: Route) -> tuple[str, str, str]:
    return route.provider, route.account, route.model


def _folded(quotas: Quotas, event: Recorded, fact: RestFact | ProviderRestored | QuotaReset) -> Quotas:
    draft = QUOTAS.thaw(quotas)
    QUOTAS.handlers[event.type](draft, event, fact)
    folded: Quotas = QUOTAS.freeze(draft)
    return folded


def _own_length_ms(event: Recorded, fact: RestFact, kind: str, cooldown_ms: int | None) -> int | None:
    """How long the rest was meant to last, or None when it was the provider that said so.

    The log has no word for a provider's wish to wait: a rest is the gateway's own when it is as long as the gateway's own are.
    """
    if isinstance(fact, QuotaExhausted) and fact.resets_at is not None:
        return None
    policy_ms = POLICIES[Kind(kind)].cools_ms if kind in RESTING_KINDS else 0
    lasts_ms = fact.until - event.recorded_at
    own_ms = policy_ms if policy_ms > 0 else cooldown_ms
    if own_ms is None:  # an archived beginning holds the configuration
        return lasts_ms
    return own_ms if 0 <= own_ms - lasts_ms <= _OWN_SLACK_MS else None
