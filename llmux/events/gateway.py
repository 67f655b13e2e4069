"""Facts about the gateway as a whole: its life, its log, its cache, its kept texts."""

from collections.abc import Mapping
from typing import Any

from llmux.events.event import Event

# --- stream `gateway` ----------------------------------------------------------------------------------------------


class GatewayStarted(Event, frozen=True, kw_only=True):
    """The gateway opened the log. `routing` is the routing configuration without anything secret."""

    version: str
    routing: Mapping[str, Any]
    chain: str = ""
    """the name of the key that the hashes of the log are made with from here on ("" = none)"""


class GatewayStopped(Event, frozen=True, kw_only=True):
    """The gateway closed the log in good order."""

    reason: str


class ActorCrashed(Event, frozen=True, kw_only=True):
    """An actor ended with an exception. `error` is the name of its class."""

    actor: str
    error: str


class ActorRestarted(Event, frozen=True, kw_only=True):
    """The supervisor started an actor again; `restarts` counts those within the window."""

    actor: str
    restarts: int


# --- streams `log-…` -----------------------------------------------------------------------------------------------


class SnapshotTaken(Event, frozen=True, kw_only=True):
    """The state after position `through` was written to `file` of the data directory. It can be made anew at any time."""

    through: int
    file: str
    sha256: str
    state_schema: int


class LogArchived(Event, frozen=True, kw_only=True):
    """The positions `first` to `through` moved into `file`, a compressed file of the data directory's `archives`.

    `head` is the hash of the last of them, `sha256` that of the file. `state_sha256` is the hash of the state after
    `through` as canonical JSON, which the log goes on from, and `streams_sha256` that of the last versions of the streams
    that go on, likewise ("" = not recorded).
    """

    first: int
    through: int
    head: str
    file: str
    file_bytes: int
    sha256: str
    state_sha256: str
    state_schema: int
    streams_sha256: str = ""


class EventSkipped(Event, frozen=True, kw_only=True):
    """Somebody decided that the event at `skipped` means nothing to the state, because this version cannot read it."""

    skipped: int
    reason: str


class LogRestored(Event, frozen=True, kw_only=True):
    """The log up to `position`, whose hash is `head`, came from a backup; what had been recorded after it is not here."""

    position: int
    head: str


class ChainKeyChanged(Event, frozen=True, kw_only=True):
    """The owner of the log gave its chain of hashes a key, or another one. This event is the first under the new one.

    `before` and `after` are names of keys ("" = none), never keys. `lost`: the key before was not there any more, so nobody
    looked whether the log up to here was whole.
    """

    before: str
    after: str
    lost: bool = False


class LossAccepted(Event, frozen=True, kw_only=True):
    """The owner of the log went on although its end was not the one that had been witnessed outside it.

    The log ended with `position` and `head`. Once it had reached `last_position`, and `witnessed_position` had had the hash
    `witnessed_head` (0 and "" = nothing was witnessed).
    """

    position: int
    head: str
    last_position: int
    witnessed_position: int
    witnessed_head: str
    reason: str


# --- stream `content` ----------------------------------------------------------------------------------------------


class ContentForgotten(Event, frozen=True, kw_only=True):
    """The kept text of `answers` requests was deleted. `scope` is "request", "key", "before" or "retention".

    `request` or `key` is the one that was named; `before` is wall time in ms.
    """

    scope: str
    answers: int
    request: str = ""
    key: str = ""
    before: int | None = None


# --- stream `cache` ------------------------------------------------------------------------------------------------


class CacheCleared(Event, frozen=True, kw_only=True):
    """All cached answers were dropped."""

    entries: int
