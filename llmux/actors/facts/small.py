"""Facts that are a few numbers each: the gateway's, the log's own, the cache's, the supervisor's."""

from typing import Any

import msgspec

from llmux.actors.facts.fold import Draft, change, of_map, of_struct
from llmux.events import (
    ActorCrashed,
    ActorRestarted,
    CacheCleared,
    ContentForgotten,
    EventSkipped,
    GatewayStarted,
    GatewayStopped,
    LogArchived,
    LogRestored,
    Recorded,
    RequestAccepted,
    SnapshotTaken,
)


class Gateway(msgspec.Struct, frozen=True):
    """How often the gateway started and stopped in good order, and as which version it runs."""

    version: str = ""
    starts: int = 0
    stops: int = 0
    started_at: int | None = None
    routing: dict[str, Any] = {}
    """the routing configuration it started with"""


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


class Log(msgspec.Struct, frozen=True):
    """How far the log is archived, how many events were skipped on somebody's word, and whether it came from a backup."""

    archived_through: int = 0
    archives: int = 0
    skipped: int = 0
    snapshot_through: int = 0
    restored_at: int | None = None


class Forgotten(msgspec.Struct, frozen=True):
    """How many kept texts were deleted, and when this was last done."""

    answers: int = 0
    last_at: int | None = None


def _gateway_started(draft: Gateway, event: Recorded, fact: GatewayStarted) -> None:
    change(draft, "version", fact.version)
    change(draft, "starts", draft.starts + 1)
    change(draft, "started_at", event.recorded_at)
    change(draft, "routing", dict(fact.routing))


def _gateway_stopped(draft: Gateway, event: Recorded, fact: GatewayStopped) -> None:
    change(draft, "stops", draft.stops + 1)


def _asked(draft: CacheFacts, event: Recorded, fact: RequestAccepted) -> None:
    if fact.cache == "hit":
        change(draft, "hits", draft.hits + 1)
    elif fact.cache == "miss":
        change(draft, "misses", draft.misses + 1)


def _cleared(draft: CacheFacts, event: Recorded, fact: CacheCleared) -> None:
    change(draft, "cleared_at", event.recorded_at)


def _crashed(draft: Draft[Crashes], event: Recorded, fact: ActorCrashed) -> None:
    own = draft.own(fact.actor) or draft.put(fact.actor, Crashes())
    change(own, "crashes", own.crashes + 1)
    change(own, "last_error", fact.error)


def _restarted(draft: Draft[Crashes], event: Recorded, fact: ActorRestarted) -> None:
    own = draft.own(fact.actor) or draft.put(fact.actor, Crashes())
    change(own, "restarts", own.restarts + 1)


def _archived(draft: Log, event: Recorded, fact: LogArchived) -> None:
    change(draft, "archived_through", fact.through)
    change(draft, "archives", draft.archives + 1)


def _skipped(draft: Log, event: Recorded, fact: EventSkipped) -> None:
    change(draft, "skipped", draft.skipped + 1)


def _snapshot(draft: Log, event: Recorded, fact: SnapshotTaken) -> None:
    change(draft, "snapshot_through", fact.through)


def _restored(draft: Log, event: Recorded, fact: LogRestored) -> None:
    change(draft, "restored_at", event.recorded_at)


def _forgotten(draft: Forgotten, event: Recorded, fact: ContentForgotten) -> None:
    change(draft, "answers", draft.answers + fact.answers)
    change(draft, "last_at", event.recorded_at)


GATEWAY = of_struct(Gateway(), {"GatewayStarted": _gateway_started, "GatewayStopped": _gateway_stopped})
LOG = of_struct(
    Log(),
    {
        "LogArchived": _archived,
        "EventSkipped": _skipped,
        "SnapshotTaken": _snapshot,
        "LogRestored": _restored,
    },
)
CONTENT = of_struct(Forgotten(), {"ContentForgotten": _forgotten})
CACHE = of_struct(CacheFacts(), {"RequestAccepted": _asked, "CacheCleared": _cleared})
SUPERVISOR = of_map(Crashes, {"ActorCrashed": _crashed, "ActorRestarted": _restarted})
