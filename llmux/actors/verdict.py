"""What a client is told when no route answered, and whose fault a failure is."""

from llmux.actors.router import Route
from llmux.failures import (
    ClientFailure,
    Excluded,
    Kind,
    LLMuxError,
    NoRoute,
    ProviderFailure,
    StoreFailure,
)


def names(route: Route) -> tuple[str, str, str]:
    """Provider, account and model."""
    return route.provider, route.account, route.model


def what_is_left(
    failed: list[tuple[Route, ProviderFailure]], excluded: tuple[Excluded, ...], pinned: bool, now: int
) -> LLMuxError:
    """What to tell the client when no route answered: the one failure, or NoRoute with a reason per provider."""
    last = failed[-1][1] if failed else None
    for _, failure in failed:
        if failure.retry_after_ms is None and failure.resets_at is not None:
            failure.retry_after_ms = max(1000, failure.resets_at - now)
    if last is not None and (not last.policy.falls_back or pinned or len(failed) + len(excluded) == 1):
        return last
    tried = tuple(
        Excluded(
            *names(route),
            reason=failure.kind.value,
            sentence=str(failure),
            until=None if failure.retry_after_ms is None else now + failure.retry_after_ms,
        )
        for route, failure in failed
    )
    return NoRoute((*tried, *excluded), now)


def blame_of(failure: LLMuxError) -> str:
    """Who is at fault: "client", "provider", "gateway" or "store"."""
    if isinstance(failure, ClientFailure):
        return "client"
    if isinstance(failure, ProviderFailure):
        return "client" if failure.kind in (Kind.INVALID_REQUEST, Kind.CONTEXT_TOO_LONG, Kind.REFUSED) else "provider"
    if isinstance(failure, NoRoute):
        return "provider"
    return "store" if isinstance(failure, StoreFailure) else "gateway"
