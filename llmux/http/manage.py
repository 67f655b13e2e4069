"""What the gateway knows and can be told by hand: quotas and the cache.

    GET  /api/quota          per provider: available, the last error, cooldowns and windows with what they rest on
    POST /api/quota/reset    {"provider"} (none = all): their cooldowns are over, and their programs and logins are looked at anew
    GET  /api/cache/stats    POST /api/cache/clear

The two POSTs are for the admin where keys are required. Times are ms since 1970 in UTC; only `timestamp` is ISO 8601.
"""

from functools import partial
from typing import TYPE_CHECKING, Literal

import msgspec
import structlog
import trio
from msgspec import UNSET, UnsetType
from quart import Response

from llmux.actors.cache import ClearCache
from llmux.actors.cooldowns import Cooldown, cooldowns_of
from llmux.actors.facts.providers import account_key
from llmux.actors.facts.quotas import reset_at
from llmux.actors.provider import Recheck
from llmux.actors.quota_tracker import ResetQuota
from llmux.failures import LLMuxError
from llmux.http.access import Caller, Door, body_bytes
from llmux.http.bodies import decoded
from llmux.http.exchange import current, iso, json_response
from llmux.http.health import RedisBody, hit_rate, store_of
from llmux.http.native import error_body
from llmux.http.operations import Operation

if TYPE_CHECKING:
    from llmux.actors.facts.quotas import Quota
    from llmux.actors.health import ProviderHealth
    from llmux.actors.provider import Provider
    from llmux.actors.system import System

log = structlog.get_logger("llmux.http")


class Which(msgspec.Struct, frozen=True):
    """The body of a reset. No provider means all of them."""

    provider: str | None = None


class QuotaState(msgspec.Struct, frozen=True):
    """Whether a provider can be asked, and since when it has been as it is. `lastError` is a kind of failure."""

    available: bool
    lastError: str | None
    cooldownUntil: int | None
    requestCount: int
    lastReset: int | None


class WindowBody(msgspec.Struct, frozen=True):
    """What the provider said of one of its windows."""

    account: str
    model: str
    window: str
    status: str
    usedPercent: int | None
    resetsAt: int | None
    reportedAt: int


class ProviderQuota(QuotaState, frozen=True):
    """The quotas of one provider. `priority` is the rank by weight: 1 gets the most traffic."""

    cooldownTime: int
    priority: int
    weight: int
    cooldowns: list[Cooldown]
    windows: list[WindowBody]


class Quotas(msgspec.Struct, frozen=True):
    """The quotas of all providers."""

    timestamp: str
    providers: dict[str, ProviderQuota]


class Reset(msgspec.Struct, frozen=True):
    """How the providers are after the reset."""

    success: bool
    quotaState: dict[str, QuotaState]


class CacheStats(msgspec.Struct, frozen=True):
    """The cache: answers held, where, and how often it had the one that was asked for. `ttl` is in ms."""

    size: int
    maxSize: int
    ttl: int
    hits: int
    misses: int
    hitRate: str
    bytes: int
    maxBytes: int
    store: Literal["memory", "redis"]
    redis: RedisBody | UnsetType = UNSET


class Cleared(msgspec.Struct, frozen=True):
    """How many answers the cache held."""

    success: bool
    cleared: int


QUOTAS = Operation("The quotas of all providers", tag="Gateway", answer=Quotas)
RESET = Operation("End cooldowns by hand", tag="Gateway", body=Which, body_required=False, answer=Reset)
CACHE = Operation("The cache", tag="Gateway", answer=CacheStats)
CLEAR = Operation("Forget all cached answers", tag="Gateway", answer=Cleared)


def register(door: Door, system: "System") -> None:
    """Opens the four routes."""

    async def quota() -> Response:
        return json_response(quota_body(system))

    async def reset() -> Response:
        named = decoded(await body_bytes(), Which).provider
        provider = system.settings.provider_named(named) if named else ""
        await system.tracker.ask(ResetQuota(provider, current().principal.id))
        async with trio.open_nursery() as looking:
            for name, actor in system.providers.items():
                if provider in ("", name):
                    looking.start_soon(_look_again, actor)
        return json_response(Reset(success=True, quotaState=_states(system)))

    door.route("GET", "/api/quota", quota, Caller.USER, error_body, QUOTAS)
    door.route("POST", "/api/quota/reset", reset, Caller.OPERATOR, error_body, RESET)
    door.route("GET", "/api/cache/stats", partial(_cache_stats, system), Caller.USER, error_body, CACHE)
    door.route("POST", "/api/cache/clear", partial(_clear_cache, system), Caller.OPERATOR, error_body, CLEAR)


# --- quotas ---------------------------------------------------------------------------------------------------------


def quota_body(system: "System") -> Quotas:
    """The quotas of all providers."""
    by_weight = sorted(system.providers, key=lambda name: -system.settings.providers[name].weight)
    providers = {}
    for name, state in _states(system).items():
        settings = system.settings.providers[name]
        providers[name] = ProviderQuota(
            **msgspec.structs.asdict(state),
            cooldownTime=settings.cooldown_ms,
            priority=by_weight.index(name) + 1,
            weight=settings.weight,
            cooldowns=cooldowns_of(system.facts.quotas, name, system.tracker.probing, system.clock.now()),
            windows=_windows(system, name),
        )
    return Quotas(timestamp=iso(system.clock.now()), providers=providers)


def _states(system: "System") -> dict[str, QuotaState]:
    return {name: _state(system, name, each) for name, each in system.health().providers.items()}


def _state(system: "System", name: str, health: "ProviderHealth") -> QuotaState:
    facts = system.facts
    keys = [account_key(name, account.name) for account in system.settings.providers[name].accounts]
    failures = [facts.providers[key].last_failure for key in keys if key in facts.providers]
    return QuotaState(
        available=health.available,
        lastError=next(filter(None, failures), None),
        cooldownUntil=health.cooldown_until,
        requestCount=health.request_count,
        lastReset=reset_at(facts.quotas, name) or facts.gateway.started_at,
    )


def _quotas_of(system: "System", provider: str) -> "list[Quota]":
    mine = (each for each in system.facts.quotas.values() if each.provider == provider)
    return sorted(mine, key=lambda each: (each.account, each.model))


def _windows(system: "System", provider: str) -> list[WindowBody]:
    """What the provider said of its windows."""
    return [
        WindowBody(
            account=each.account,
            model=each.model,
            window=name,
            status=window.status,
            usedPercent=window.used_percent,
            resetsAt=window.resets_at,
            reportedAt=window.reported_at,
        )
        for each in _quotas_of(system, provider)
        for name, window in sorted(each.windows.items())
    ]


async def _look_again(provider: "Provider") -> None:
    """Lets a provider look at its accounts now. One that cannot does so at its next regular look; the reset stands."""
    try:
        await provider.ask(Recheck())
    except LLMuxError as failure:
        log.warning("not looked at anew", provider=provider.name, code=failure.code)


# --- the cache ------------------------------------------------------------------------------------------------------


async def _cache_stats(system: "System") -> Response:
    counts, health = system.cache.counts(), system.health().cache
    store, redis = store_of(health.redis)
    body = CacheStats(
        size=counts.entries,
        maxSize=counts.entries_max,
        ttl=counts.ttl_ms,
        hits=health.hits,
        misses=health.misses,
        hitRate=hit_rate(health),
        bytes=counts.bytes,
        maxBytes=counts.bytes_max,
        store=store,
        redis=redis,
    )
    return json_response(body)


async def _clear_cache(system: "System") -> Response:
    await body_bytes()  # whatever it says
    cleared = await system.cache.ask(ClearCache(current().principal.id))
    return json_response(Cleared(success=True, cleared=cleared))
