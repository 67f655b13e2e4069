"""GET /health and GET /metrics: open to everybody, so that probes and Prometheus need no key."""

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import UNSET, UnsetType
from quart import Response

from llmux import __version__
from llmux.http.access import Caller, Door
from llmux.http.deep_health import DEEP, DeepCheckBody, deep_check, nobody_answered
from llmux.http.exchange import iso, json_response
from llmux.http.native import error_body
from llmux.http.operations import Operation
from llmux.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from llmux.actors.content import ContentStatistics
    from llmux.actors.health import CacheHealth, Health, ProviderHealth
    from llmux.actors.provider import Provider
    from llmux.actors.shared_answers import SharedStatistics
    from llmux.actors.system import System


class ProviderBody(msgspec.Struct, frozen=True):
    """One provider. `cooldownUntil` is wall time in ms; `sentence` says what is wrong and what to do ("" = nothing).

    `running` attempts are under way, `queued` ones wait for a slot, over all its accounts.
    """

    available: bool
    model: str
    weight: int
    requestCount: int
    cooldownUntil: int | None
    avgLatencyMs: int | None
    installed: bool
    loggedIn: bool
    version: str
    sentence: str
    running: int
    queued: int


class RedisBody(msgspec.Struct, frozen=True, rename="camel"):
    """How Redis has done since the start. `skipped` looks and keepings were left out while it rested; `away`: it did not answer."""

    reachable: bool
    hits: int
    misses: int
    kept: int
    skipped: int
    away: int
    refused: int
    undecodable: int
    too_large: int


class CacheBody(msgspec.Struct, frozen=True):
    """The cache; `hitRate` is such as "14.29%", or "N/A" before the first look."""

    size: int
    maxSize: int
    hitRate: str
    store: Literal["memory", "redis"]
    redis: RedisBody | UnsetType = UNSET


class LogBody(msgspec.Struct, frozen=True):
    """The log's file; a `bytesMax` of 0 means no limit."""

    bytes: int
    bytesMax: int
    state: Literal["fine", "nearly full", "full"]


class ContentBody(msgspec.Struct, frozen=True):
    """What became of the texts that were to be kept, since the start. `sentence` says what is wrong ("" = nothing)."""

    kept: int
    lost: int
    forgotten: int
    waiting: int
    bytes: int
    maxBytes: int
    retentionDays: int | None
    sentence: str


class HealthBody(msgspec.Struct, frozen=True):
    """The state of the gateway: "healthy", "degraded" or, with the status 503, "unhealthy". `uptime` is in seconds.

    `content` is there where texts are kept, or were; `deepCheck` where it was asked for.
    """

    status: Literal["healthy", "degraded", "unhealthy"]
    version: str
    timestamp: str
    uptime: float
    providers: dict[str, ProviderBody]
    cache: CacheBody
    log: LogBody
    activeRequests: int
    availableProviders: list[str]
    defaultProvider: str
    degradedBecause: tuple[str, ...]
    content: ContentBody | UnsetType = UNSET
    deepCheck: dict[str, DeepCheckBody] | UnsetType = UNSET


HEALTH = Operation(
    "How the gateway and its providers are", tag="Gateway", answer=HealthBody, parameters=(DEEP,), failures=(401, 503)
)
METRICS = Operation("Metrics for Prometheus", tag="Gateway", media_type=CONTENT_TYPE)


def register(door: Door, system: "System") -> None:
    """Opens both routes."""

    async def health() -> Response:
        checks = await deep_check(door, system)
        now = system.health()
        body = health_body(system, now, checks)
        return json_response(body, 503 if body.status == "unhealthy" else 200, {"cache-control": "no-store"})

    async def metrics() -> Response:
        return Response(system.metrics.render(), content_type=CONTENT_TYPE)

    door.route("GET", "/health", health, Caller.PUBLIC, error_body, HEALTH)
    door.route("GET", "/metrics", metrics, Caller.PUBLIC, error_body, METRICS)


def health_body(system: "System", health: "Health", checks: dict[str, DeepCheckBody] | None = None) -> HealthBody:
    """The state of the gateway, as it is told; `checks` is what came of calling each provider, where that was done."""
    return HealthBody(
        status="unhealthy" if nobody_answered(checks) else health.status,
        version=__version__,
        timestamp=iso(system.clock.now()),
        uptime=health.uptime_ms / 1000,
        providers={name: _provider_body(each, system.providers[name]) for name, each in health.providers.items()},
        cache=CacheBody(
            health.cache.size, health.cache.max_size, hit_rate(health.cache), *store_of(health.cache.redis)
        ),
        log=LogBody(health.log.bytes, health.log.bytes_max, health.log.state),
        activeRequests=health.active_requests,
        availableProviders=[name for name, each in health.providers.items() if each.available],
        defaultProvider=system.settings.default_provider,
        degradedBecause=health.degraded_because,
        content=UNSET if health.content is None else _content_body(health.content),
        deepCheck=UNSET if checks is None else checks,
    )


def _content_body(content: "ContentStatistics") -> ContentBody:
    return ContentBody(
        kept=content.kept,
        lost=content.lost,
        forgotten=content.forgotten,
        waiting=content.waiting,
        bytes=content.file_bytes,
        maxBytes=content.bytes_max,
        retentionDays=content.retention_days,
        sentence=content.trouble,
    )


def _provider_body(health: "ProviderHealth", provider: "Provider") -> ProviderBody:
    slots = provider.slots().values()
    return ProviderBody(
        available=health.available,
        model=health.model,
        weight=health.weight,
        requestCount=health.request_count,
        cooldownUntil=health.cooldown_until,
        avgLatencyMs=health.avg_latency_ms,
        installed=health.installed,
        loggedIn=health.logged_in,
        version=health.version,
        sentence=health.sentence,
        running=sum(each.running for each in slots),
        queued=sum(each.queued for each in slots),
    )


def store_of(redis: "SharedStatistics | None") -> tuple[Literal["memory", "redis"], "RedisBody | UnsetType"]:
    """Where cached answers are, and how Redis has done since the start."""
    return ("memory", UNSET) if redis is None else ("redis", RedisBody(**msgspec.structs.asdict(redis)))


def hit_rate(cache: "CacheHealth") -> str:
    """Hits among all looks, such as "14.29%", or "N/A" before the first look."""
    looks = cache.hits + cache.misses
    return f"{100 * cache.hits / looks:.2f}%" if looks else "N/A"
