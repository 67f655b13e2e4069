"""GET /health and GET /metrics: open to everybody, so that probes and Prometheus need no key."""

from typing import TYPE_CHECKING, Any

import msgspec
from quart import Response

from llmux import __version__
from llmux.http.access import Caller, Door
from llmux.http.exchange import iso, json_response
from llmux.http.native import error_body
from llmux.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from llmux.actors.content import ContentStatistics
    from llmux.actors.health import CacheHealth, Health, ProviderHealth
    from llmux.actors.provider import Provider
    from llmux.actors.shared_answers import SharedStatistics
    from llmux.actors.system import System


def register(door: Door, system: "System") -> None:
    """Opens both routes."""

    async def health() -> Response:
        now = system.health()
        body = health_body(now, system.clock.now(), system.settings.default_provider)
        for name, actor in system.providers.items():
            body["providers"][name] |= _load(actor)
        return json_response(body, 503 if now.status == "unhealthy" else 200, {"cache-control": "no-store"})

    async def metrics() -> Response:
        return Response(system.metrics.render(), content_type=CONTENT_TYPE)

    door.route("GET", "/health", health, Caller.PUBLIC, error_body)
    door.route("GET", "/metrics", metrics, Caller.PUBLIC, error_body)


def health_body(health: "Health", now: int, default_provider: str) -> dict[str, Any]:
    """The state of the gateway; `uptime` in seconds, `cooldownUntil` wall time in ms. `now` is wall time in ms."""
    return {
        "status": health.status,
        "version": __version__,
        "timestamp": iso(now),
        "uptime": health.uptime_ms / 1000,
        "providers": {name: _provider_body(each) for name, each in health.providers.items()},
        "cache": {
            "size": health.cache.size,
            "maxSize": health.cache.max_size,
            "hitRate": hit_rate(health.cache),
            **store_body(health.cache.redis),
        },
        "log": {"bytes": health.log.bytes, "bytesMax": health.log.bytes_max, "state": health.log.state},
        "activeRequests": health.active_requests,
        "availableProviders": [name for name, each in health.providers.items() if each.available],
        "defaultProvider": default_provider,
        "degradedBecause": health.degraded_because,
        **({"content": _content_body(health.content)} if health.content is not None else {}),
    }


def _content_body(content: "ContentStatistics") -> dict[str, Any]:
    """What became of the texts that were to be kept, since the start. `sentence` says what is wrong ("" = nothing)."""
    return {
        "kept": content.kept,
        "lost": content.lost,
        "forgotten": content.forgotten,
        "waiting": content.waiting,
        "bytes": content.file_bytes,
        "maxBytes": content.bytes_max,
        "retentionDays": content.retention_days,
        "sentence": content.trouble,
    }


def _provider_body(provider: "ProviderHealth") -> dict[str, Any]:
    return {
        "available": provider.available,
        "model": provider.model,
        "weight": provider.weight,
        "requestCount": provider.request_count,
        "cooldownUntil": provider.cooldown_until,
        "avgLatencyMs": provider.avg_latency_ms,
        "installed": provider.installed,
        "loggedIn": provider.logged_in,
        "version": provider.version,
        "sentence": provider.sentence,
    }


def _load(provider: "Provider") -> dict[str, int]:
    """How many attempts are under way at this provider, and how many wait for a slot, over all its accounts."""
    slots = provider.slots().values()
    return {"running": sum(each.running for each in slots), "queued": sum(each.queued for each in slots)}


def store_body(redis: "SharedStatistics | None") -> dict[str, Any]:
    """Where cached answers are, "memory" or "redis", and how Redis has done since the start."""
    if redis is None:
        return {"store": "memory"}
    counts = msgspec.structs.asdict(redis)
    return {
        "store": "redis",
        "redis": {field.replace("too_large", "tooLarge"): value for field, value in counts.items()},
    }


def hit_rate(cache: "CacheHealth") -> str:
    """Hits among all looks, such as "14.29%", or "N/A" before the first look."""
    looks = cache.hits + cache.misses
    return f"{100 * cache.hits / looks:.2f}%" if looks else "N/A"
