"""The actors that a flight works with."""

from collections.abc import Callable, Mapping

import msgspec

from llmux.actors.cache import Cache
from llmux.actors.journal import Journal
from llmux.actors.provider import Provider
from llmux.actors.quota_tracker import QuotaTracker
from llmux.clock import Clock
from llmux.config import Settings


class Crew(msgspec.Struct, frozen=True):
    """Everybody that a flight asks, tells or reads."""

    settings: Settings
    clock: Clock
    journal: Journal
    tracker: QuotaTracker
    cache: Cache
    providers: Mapping[str, Provider]
    spawn: Callable[..., None]
    """starts a task beside the flights, as a nursery's start_soon does"""
