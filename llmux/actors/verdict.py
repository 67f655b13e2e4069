"""What follows from a failure: another try, what the client is told when no route answered, and whose fault it was."""

from llmux.actors.messages import Wish
from llmux.actors.router import Route
from llmux.clock import Clock
from llmux.failures import (
    ClientFailure,
    Excluded,
    Kind,
    LLMuxError,
    NoRoute,
    ProviderFailure,
    StoreFailure,
)

TRIES_MAX = 5
RETRY_WAIT_MS_MAX = 5_000
"""a provider that asks for a longer wait is not tried again by the same flight"""


def wait_before(number: int, failure: ProviderFailure, wish: Wish, clock: Clock) -> int | None:
    """How long to wait, in ms, before try `number` (2 or more) of the same route; None when there is none."""
    tries = failure.policy.tries
    if wish.tries is not None and tries > 1:  # the client's number counts where trying again can help at all
        tries = min(wish.tries, TRIES_MAX)
    if number > tries or is_our_own_queue(failure):
        return None
    backoff_ms: int = failure.policy.backoff_ms << (number - 2)
    wait_ms = failure.retry_after_ms
    if wait_ms is None:
        wait_ms = backoff_ms + clock.draw(backoff_ms // 10 + 1)
    return wait_ms if wait_ms <= RETRY_WAIT_MS_MAX else None


def is_our_own_queue(failure: ProviderFailure) -> bool:
    """Whether the route had no room here, which says nothing about the vendor."""
    return failure.kind is Kind.OVERLOADED and failure.evidence.startswith("gateway.")


def names(route: Route) -> tuple[str, str, str]:
    """Provider, account and model."""
    return route.provider, route.account, route.model


def what_is_left(failed: list[tuple[Route, ProviderFailure]], excluded: tuple[Excluded, ...], now: int) -> LLMuxError:
    """What to tell the client when no route answered: the one failure, or NoRoute with a reason per provider."""
    last = failed[-1][1] if failed else None
    for _, failure in failed:
        if failure.retry_after_ms is None and failure.resets_at is not None:
            failure.retry_after_ms = max(1000, failure.resets_at - now)
    if last is not None and (not last.policy.falls_back or len(failed) + len(excluded) == 1):
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


_ASKED_WRONG = frozenset({Kind.INVALID_REQUEST, Kind.UNSUPPORTED, Kind.CONTEXT_TOO_LONG, Kind.REFUSED})


def blame_of(failure: LLMuxError) -> str:
    """Who is at fault: "client", "provider", "gateway" or "store"."""
    if isinstance(failure, ClientFailure):
        return "client"
    if isinstance(failure, ProviderFailure):
        return "client" if failure.kind in _ASKED_WRONG else "provider"
    if isinstance(failure, NoRoute):
        return "provider"
    return "store" if isinstance(failure, StoreFailure) else "gateway"
