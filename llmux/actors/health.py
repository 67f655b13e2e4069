"""How everything is: for people, health checks and routing tables. Only reads."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import msgspec

from llmux.actors.budget import LogSize
from llmux.actors.content import ContentStatistics
from llmux.actors.facts.providers import ProviderFacts, account_key
from llmux.actors.facts.quotas import lasts, rest_of
from llmux.actors.router import Route, exclusion_of
from llmux.actors.shared_answers import SharedStatistics

if TYPE_CHECKING:
    from llmux.actors.system import System


class ProviderHealth(msgspec.Struct, frozen=True):
    """One provider. `sentence` says why it is not available, or what is wrong although it is, and what to do ("" = nothing)."""

    available: bool
    model: str
    weight: int
    request_count: int
    cooldown_until: int | None
    avg_latency_ms: int | None
    installed: bool
    logged_in: bool
    version: str
    sentence: str


class CacheHealth(msgspec.Struct, frozen=True):
    """The cache's size in memory and how often it had the answer. `redis` is None where answers are in memory.

    Redis away makes nothing unhealthy: answers are only slower.
    """

    size: int
    max_size: int
    hits: int
    misses: int
    redis: SharedStatistics | None = None


class Health(msgspec.Struct, frozen=True):
    """ "unhealthy": no request can be answered, because no provider can or the log is full; "degraded": some actor was given
    up, kept texts are in trouble, or the log is nearly full; "healthy" otherwise.

    `degraded_because` names the actors, "content" and "log". `content` is None where no text is kept and none ever was.
    """

    status: Literal["healthy", "degraded", "unhealthy"]
    uptime_ms: int
    providers: dict[str, ProviderHealth]
    cache: CacheHealth
    log: LogSize
    active_requests: int
    degraded_because: tuple[str, ...]
    content: ContentStatistics | None


def workers_by_state(system: "System") -> Iterator[tuple[str, str, str, int]]:
    """The workers of every account of every provider: (provider, account, state, how many)."""
    for name, provider in system.providers.items():
        for account, slots in provider.slots().items():
            for state in ("starting", "idle", "busy"):
                yield name, account, state, getattr(slots.workers, state)


def health_of(system: "System") -> Health:
    """The health of a running gateway, as of now."""
    providers = {name: _provider(name, system) for name in system.providers}
    content = system.content.counts() if system.content.active else None
    troubled = {"content"} if content is not None and content.trouble else set()
    size = system.budget.size()
    if size.state != "fine":
        troubled.add("log")
    degraded = tuple(sorted(system.supervisor.degraded | troubled))
    available = size.state != "full" and any(provider.available for provider in providers.values())
    counts, facts, shared = system.cache.counts(), system.facts.cache, system.cache.shared
    return Health(
        status="unhealthy" if not available else "degraded" if degraded else "healthy",
        uptime_ms=system.uptime_ms,
        providers=providers,
        cache=CacheHealth(
            size=counts.entries,
            max_size=counts.entries_max,
            hits=facts.hits,
            misses=facts.misses,
            redis=shared.statistics() if shared is not None else None,
        ),
        log=size,
        active_requests=system.active_requests,
        degraded_because=degraded,
        content=content,
    )


def _provider(name: str, system: "System") -> ProviderHealth:
    settings, facts, world = system.settings.providers[name], system.facts, system.world()
    readiness = [system.providers[name].readiness(account.name) for account in settings.accounts]
    excluded = [
        exclusion_of(Route(name, account.name, settings.default_model, settings.weight), world)
        for account in settings.accounts
    ]
    known = [
        facts.providers.get(account_key(name, each.name), ProviderFacts(name, each.name)) for each in settings.accounts
    ]
    rests = [rest_of(facts.quotas, name, account.name, settings.default_model) for account in settings.accounts]
    resting = [found[1].until for found in rests if found is not None and lasts(found[1], world.now)]
    answers = sum(each.answers for each in known)
    available = any(each is None for each in excluded)
    warnings = (each.sentence for each in readiness if each.ready)
    reasons = (each.sentence for each in excluded if each is not None)
    return ProviderHealth(
        available=available,
        model=settings.default_model,
        weight=settings.weight,
        request_count=sum(each.attempts for each in known),
        cooldown_until=min(resting, default=None) if len(resting) == len(settings.accounts) else None,
        avg_latency_ms=sum(each.answers_ms for each in known) // answers if answers else None,
        installed=any(each.installed for each in readiness),
        logged_in=any(each.logged_in for each in readiness),
        version=next((each.version for each in readiness if each.version), ""),
        sentence=next(filter(None, warnings if available else reasons), ""),
    )
