"""The keys that were issued, by id."""

from typing import Any

import msgspec

from llmux.actors.facts.fold import of_map
from llmux.events import KeyIssued, KeyRevoked, RecordedEvent


class Key(msgspec.Struct, frozen=True):
    """A key as the log knows it. The secret itself is nowhere; `revoked_at` is None while the key is good."""

    id: str
    secret_sha256: str
    user: str
    project: str
    label: str
    issued_at: int
    revoked_at: int | None = None


def _issued(draft: Any, event: RecordedEvent, fact: KeyIssued) -> None:
    draft[fact.key_id] = Key(
        fact.key_id, fact.secret_sha256, fact.user, fact.project, fact.label, issued_at=event.recorded_at
    )


def _revoked(draft: Any, event: RecordedEvent, fact: KeyRevoked) -> None:
    if fact.key_id in draft:
        draft[fact.key_id] = msgspec.structs.replace(draft[fact.key_id], revoked_at=event.recorded_at)


KEYS = of_map({"KeyIssued": _issued, "KeyRevoked": _revoked})
