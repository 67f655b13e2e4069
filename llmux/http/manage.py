"""What the gateway knows and can be told by hand: quotas, the cache, and the models with their metadata.

    GET  /api/quota          per provider: available, the last error, cooldowns and windows with what they rest on
    POST /api/quota/reset    {"provider"} (none = all): their cooldowns are over, and their programs and logins are looked at anew
    GET  /api/cache/stats    POST /api/cache/clear
    GET  /api/tags           every model; open to everybody

The two POSTs are for the admin where keys are required. Times are ms since 1970 in UTC; only `timestamp` is ISO 8601.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
import trio
from quart import Response

from llmux.actors.cache import ClearCache
from llmux.actors.facts.providers import account_key
from llmux.actors.facts.quotas import lasts, reset_at
from llmux.actors.provider import Recheck
from llmux.actors.quota_tracker import ResetQuota
from llmux.failures import LLMuxError
from llmux.http.access import Caller, Door, body_bytes
from llmux.http.bodies import decoded
from llmux.http.exchange import current, iso, json_response
from llmux.http.health import hit_rate, store_body
from llmux.http.native import error_body

if TYPE_CHECKING:
    from llmux.actors.health import ProviderHealth
    from llmux.actors.provider import Provider
    from llmux.actors.system import ModelEntry, System

log = structlog.get_logger("llmux.http")


class Which(msgspec.Struct, frozen=True):
    """The body of a reset. No provider means all of them."""

    provider: str | None = None


def register(door: Door, system: "System") -> None:
    """Opens the five routes."""
    """when the quotas of a provider were last reset by hand, in the life of this gateway"""

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
        return json_response({"success": True, "quotaState": _states(system)})

    async def tags() -> Response:
        return json_response({"models": [_tag(system, entry) for entry in system.models()]})

    door.route("GET", "/api/quota", quota, Caller.USER, error_body)
    door.route("POST", "/api/quota/reset", reset, Caller.OPERATOR, error_body)
    door.route("GET", "/api/cache/stats", partial(_cache_stats, system), Caller.USER, error_body)
    door.route("POST", "/api/cache/clear", partial(_clear_cache, system), Caller.OPERATOR, error_body)
    door.route("GET", "/api/tags", tags, Caller.PUBLIC, error_body)


# --- quotas ---------------------------------------------------------------------------------------------------------


def quota_body(system: "System") -> dict[str, Any]:
    """The quotas of all providers. `priority` is the rank by weight: 1 gets the most traffic."""
    by_weight = sorted(system.providers, key=lambda name: -system.settings.providers[name].weight)
    providers = {}
    for name, state in _states(system).items():
        settings = system.settings.providers[name]
        providers[name] = {
            **state,
            "cooldownTime": settings.cooldown_ms,
            "priority": by_weight.index(name) + 1,
            "weight": settings.weight,
            **_evidence(system, name),
        }
    return {"timestamp": iso(system.clock.now()), "providers": providers}


def _states(system: "System") -> dict[str, dict[str, Any]]:
    return {name: _state(system, name, each) for name, each in system.health().providers.items()}


def _state(system: "System", name: str, health: "ProviderHealth") -> dict[str, Any]:
    facts = system.facts
    keys = [account_key(name, account.name) for account in system.settings.providers[name].accounts]
    failures = [facts.providers[key].last_failure for key in keys if key in facts.providers]
    return {
        "available": health.available,
        "lastError": next(filter(None, failures), None),
        "cooldownUntil": health.cooldown_until,
        "requestCount": health.request_count,
        "lastReset": reset_at(facts.quotas, name) or facts.gateway.started_at,
    }


def _evidence(system: "System", provider: str) -> dict[str, list[dict[str, Any]]]:
    """Which accounts and models ("*" = all) rest since when, until when and why, and what the provider said of its windows."""
    now = system.clock.now()
    quotas = sorted(
        (each for each in system.facts.quotas.values() if each.provider == provider),
        key=lambda each: (each.account, each.model),
    )
    cooldowns = [
        {
            "account": each.account,
            "model": each.model,
            "kind": each.rest.kind,
            "evidence": each.rest.evidence,
            "since": each.rest.since,
            "until": each.rest.until,
            "resetsAt": each.rest.resets_at,
        }
        for each in quotas
        if each.rest is not None and lasts(each.rest, now)
    ]
    windows = [
        {
            "account": each.account,
            "model": each.model,
            "window": name,
            "status": window.status,
            "usedPercent": window.used_percent,
            "resetsAt": window.resets_at,
            "reportedAt": window.reported_at,
        }
        for each in quotas
        for name, window in sorted(each.windows.items())
    ]
    return {"cooldowns": cooldowns, "windows": windows}


async def _look_again(provider: "Provider") -> None:
    """Lets a provider look at its accounts now. One that cannot does so at its next regular look; the reset stands."""
    try:
        await provider.ask(Recheck())
    except LLMuxError as failure:
        log.warning("not looked at anew", provider=provider.name, code=failure.code)


# --- the cache ------------------------------------------------------------------------------------------------------


async def _cache_stats(system: "System") -> Response:
    counts, health = system.cache.counts(), system.health().cache
    body = {
        "size": counts.entries,
        "maxSize": counts.entries_max,
        "ttl": counts.ttl_ms,
        "hits": health.hits,
        "misses": health.misses,
        "hitRate": hit_rate(health),
        "bytes": counts.bytes,
        "maxBytes": counts.bytes_max,
        **store_body(health.redis),
    }
    return json_response(body)


async def _clear_cache(system: "System") -> Response:
    await body_bytes()  # whatever it says
    cleared = await system.cache.ask(ClearCache(current().principal.id))
    return json_response({"success": True, "cleared": cleared})


# --- models ---------------------------------------------------------------------------------------------------------


def _tag(system: "System", entry: "ModelEntry") -> dict[str, Any]:
    """A model as LLMux always listed it. `alias` is another name it can be asked for by."""
    full_name = f"{entry.provider}/{entry.id}"
    aliases = (alias for alias, model in system.settings.aliases.items() if model in (entry.id, full_name))
    return {
        "name": entry.id,
        "provider": entry.provider,
        "alias": next(aliases, full_name),
        "description": f"{'The default model' if entry.default else 'A model'} of {entry.provider}",
        "default": entry.default,
        "supportsStream": True,
        "weight": entry.weight,
    }
