"""The order in which a gateway holds its routes before it draws: part of its configuration, and so of its log."""

from collections.abc import Iterable, Mapping
from typing import Any

from llmux.actors.router import Route
from llmux.config import DEFAULT_PROVIDERS

_LAST = 1 << 30


class Order:
    """The configured order of providers, from `GatewayStarted.routing`.

    A log of the first version does not tell the order of the providers (`assumed`): then it is that of the ones that every
    gateway knows, and after them the alphabet's.
    """

    def __init__(self, routing: Mapping[str, Any] | None = None):
        providers = (routing or {}).get("providers", {})
        self.assumed = "order" not in (routing or {})
        self.providers: list[str] = sorted(providers, key=_usual) if self.assumed else list((routing or {})["order"])
        self.weights: dict[str, int] = {name: entry.get("weight", 1) for name, entry in providers.items()}
        self.cooldowns_ms: dict[str, int] = {
            name: entry["cooldown_ms"] for name, entry in providers.items() if "cooldown_ms" in entry
        }
        self.disabled = frozenset(name for name, entry in providers.items() if not entry.get("enabled", True))
        self._ranks = {name: rank for rank, name in enumerate(self.providers)}

    def __repr__(self) -> str:
        return f"<Order {' '.join(self.providers)}{' (assumed)' if self.assumed else ''}>"

    def sorted(self, routes: Iterable[Route]) -> list[Route]:
        """The routes as the router had them before the draw; the accounts of a provider stay in the order they come in."""
        return sorted(routes, key=self._place)

    def _place(self, route: Route) -> tuple[int, tuple[int, str]]:
        return self._ranks.get(route.provider, _LAST), _usual(route.provider)


_USUAL = {name: place for place, name in enumerate(DEFAULT_PROVIDERS)}


def _usual(provider: str) -> tuple[int, str]:
    """The place of a provider where nobody has written one down; the demo's stand-ins have the same places."""
    return _USUAL.get(provider.removesuffix("-demo"), _LAST), provider
