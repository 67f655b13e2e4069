"""Facts that are a few numbers each: the log's own, the cache's, the supervisor's."""

from typing import Any

import msgspec

from llmux.actors.facts.fold import of_map, of_struct
from llmux.events import (
    ActorCrashed,
    ActorRestarted,
    CacheCleared,
    GatewayStarted,
    GatewayStopped,
    RecordedEvent,
    RequestAccepted,
)


class Gateway(msgspec.Struct, frozen=True):
    """How often the gateway started and stopped in good order, and as which version it runs."""

    version: str = ""
    starts: int = 0
    stops: int = 0
    started_at: int | None = None


class CacheFacts(msgspec.Struct, frozen=True):
    """How often the cache was asked and had the answer, and when it was last cleared."""

    hits: int = 0
    misses: int = 0
    cleared_at: int | None = None


class Crashes(msgspec.Struct, frozen=True):
    """How often one actor crashed and was started again."""

    crashes: int = 0
    restarts: int = 0
    last_error: str = ""


def _gateway_started(draft: dict[str, Any], event: RecordedEvent, fact: GatewayStarted) -> None:
    draft.update(version=fact.version, starts=draft["starts"] + 1, started_at=event.recorded_at)


def _gateway_stopped(draft: dict[str, Any], event: RecordedEvent, fact: GatewayStopped) -> None:
    draft.update(stops=draft["stops"] + 1)


def _asked(draft: dict[str, Any], event: RecordedEvent, fact: RequestAccepted) -> None:
    if fact.cache == "hit":
        draft["hits"] += 1
    elif fact.cache == "miss":
        draft["misses"] += 1


def _cleared(draft: dict[str, Any], event: RecordedEvent, fact: CacheCleared) -> None:
    draft["cleared_at"] = event.recorded_at


def _crashed(draft: Any, event: RecordedEvent, fact: ActorCrashed) -> None:
    old = draft[fact.actor] if fact.actor in draft else Crashes()
    draft[fact.actor] = msgspec.structs.replace(old, crashes=old.crashes + 1, last_error=fact.error)


def _restarted(draft: Any, event: RecordedEvent, fact: ActorRestarted) -> None:
    old = draft[fact.actor] if fact.actor in draft else Crashes()
    draft[fact.actor] = msgspec.structs.replace(old, restarts=old.restarts + 1)


GATEWAY = of_struct(Gateway(), {"GatewayStarted": _gateway_started, "GatewayStopped": _gateway_stopped})
CACHE = of_struct(CacheFacts(), {"RequestAccepted": _asked, "CacheCleared": _cleared})
SUPERVISOR = of_map({"ActorCrashed": _crashed, "ActorRestarted": _restarted})
