"""Blame: the gateway. LLMux itself cannot do it now, or has nobody who could."""

import msgspec

from llmux.failures.error import LLMuxError
from llmux.failures.provider import POLICIES, Kind


class GatewayFailure(LLMuxError):
    """LLMux itself cannot do it now."""

    status = 503
    code = "gateway_unavailable"


class Overloaded(GatewayFailure):
    """A bounded queue is full. Try again later."""

    code = "gateway_overloaded"
    retry_after_ms = 1000


class ActorCrashed(GatewayFailure):
    """The actor that was asked crashed before it answered; it is being restarted."""

    code = "actor_crashed"
    retry_after_ms = 1000


class AskTimedOut(GatewayFailure):
    """The actor that was asked did not answer within the deadline."""

    status = 504
    code = "actor_timeout"


class ShuttingDown(GatewayFailure):
    """The gateway is stopping and takes no new work."""

    code = "shutting_down"
    retry_after_ms = 5000


class RedisAway(GatewayFailure):
    """The Redis server did not answer in time, or there is none at its address."""

    code = "shared_cache_away"
    retry_after_ms = 1000


class RedisRefused(GatewayFailure):
    """The Redis server answered, but refused: it is full, read-only, or holds something else under that key."""

    code = "shared_cache_refused"
    retry_after_ms = 1000


class Excluded(msgspec.Struct, frozen=True):
    """Why a route was not taken. `until` is wall time in ms, or None when nobody knows; `sentence` says what to do."""

    provider: str
    account: str
    model: str
    reason: str
    sentence: str
    until: int | None = None

    @property
    def who(self) -> str:
        """The provider, and which of its accounts where it is not the only one."""
        return self.provider if self.account == "default" else f"{self.provider} ({self.account})"


CANNOT_EMBED = "cannot_embed"
"""why a provider is left out that makes no vectors"""
NOT_ALLOWED = "not_allowed"
"""why a route is left out that the key may not take"""


class NoRoute(GatewayFailure):
    """No provider can take the prompt now. `excluded` says why, one by one.

    Status and code are those of a kind of failure when it is the reason of all that could answer at all.
    """

    code = "no_provider_available"

    def __init__(self, excluded: tuple[Excluded, ...], now: int):
        self.excluded = excluded
        reasons = {entry.reason for entry in excluded} - {NOT_ALLOWED}
        if reasons == {CANNOT_EMBED}:  # it will not be otherwise later
            reasons = {Kind.UNSUPPORTED.value}
        reasons.discard(CANNOT_EMBED)
        if len(reasons) == 1 and (reason := reasons.pop()) in set(Kind):  # all for the same reason: then say that one
            self.status, self.code = POLICIES[Kind(reason)].status, POLICIES[Kind(reason)].code
        ends = [entry.until for entry in excluded if entry.until is not None]
        self.retry_after_ms = max(1000, min(ends) - now) if ends else None
        told = "; ".join(f"{entry.who}: {entry.sentence.rstrip('.')}" for entry in excluded)
        super().__init__(f"No provider is available. {told}".strip())


class ConfigurationWrong(LLMuxError):
    """A setting cannot be used. The text says which, why, and what to write instead."""

    code = "configuration_wrong"
