"""The keys that were issued, by id."""

import msgspec

from llmux.actors.facts.fold import Draft, change, of_map
from llmux.events import KeyIssued, KeyLimited, KeyLimits, KeyRevoked, KeyRotated, Recorded


class Key(msgspec.Struct, frozen=True):
    """A key as the log knows it. The secret itself is nowhere.

    `revoked_at` is None while the key is good, `expires_at` where it has no end, `rotated_at` where it has its first secret.
    """

    id: str
    secret_sha256: str
    user: str
    project: str
    label: str
    issued_at: int
    revoked_at: int | None = None
    record_content: bool = False
    limits: KeyLimits = KeyLimits()
    expires_at: int | None = None
    rotated_at: int | None = None

    def opens(self, now: int) -> bool:
        """Whether it opens anything at `now` (wall time in ms)."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def _issued(draft: Draft[Key], event: Recorded, fact: KeyIssued) -> None:
    key = Key(
        fact.key_id,
        fact.secret_sha256,
        fact.user,
        fact.project,
        fact.label,
        issued_at=event.recorded_at,
        record_content=fact.record_content,
        limits=fact.limits,
        expires_at=fact.expires_at,
    )
    draft.put(fact.key_id, key)


def _limited(draft: Draft[Key], event: Recorded, fact: KeyLimited) -> None:
    key = draft.own(fact.key_id)
    if key is not None:
        change(key, "limits", fact.limits)
        change(key, "expires_at", fact.expires_at)
        change(key, "record_content", fact.record_content)


def _rotated(draft: Draft[Key], event: Recorded, fact: KeyRotated) -> None:
    key = draft.own(fact.key_id)
    if key is not None:
        change(key, "secret_sha256", fact.secret_sha256)
        change(key, "rotated_at", event.recorded_at)


def _revoked(draft: Draft[Key], event: Recorded, fact: KeyRevoked) -> None:
    key = draft.own(fact.key_id)
    if key is not None:
        change(key, "revoked_at", event.recorded_at)


KEYS = of_map(Key, {"KeyIssued": _issued, "KeyLimited": _limited, "KeyRotated": _rotated, "KeyRevoked": _revoked})
