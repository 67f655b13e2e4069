"""The keys that were issued, by id."""

import msgspec

from llmux.actors.facts.fold import Draft, change, of_map
from llmux.events import KeyIssued, KeyRevoked, Recorded


class Key(msgspec.Struct, frozen=True):
    """A key as the log knows it. The secret itself is nowhere; `revoked_at` is None while the key is good."""

    id: str
    secret_sha256: str
    user: str
    project: str
    label: str
    issued_at: int
    revoked_at: int | None = None
    record_content: bool = False


def _issued(draft: Draft[Key], event: Recorded, fact: KeyIssued) -> None:
    key = Key(
        fact.key_id,
        fact.secret_sha256,
        fact.user,
        fact.project,
        fact.label,
        issued_at=event.recorded_at,
        record_content=fact.record_content,
    )
    draft.put(fact.key_id, key)


def _revoked(draft: Draft[Key], event: Recorded, fact: KeyRevoked) -> None:
    key = draft.own(fact.key_id)
    if key is not None:
        change(key, "revoked_at", event.recorded_at)


KEYS = of_map(Key, {"KeyIssued": _issued, "KeyRevoked": _revoked})
