"""Facts about the keys of users."""

import msgspec

from llmux.events.event import Event


class KeyLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a key may ask for. None, and an empty list, means: as much as it likes.

    Tokens are those of prompts and answers together. Minutes slide; days and months are those of UTC.
    """

    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    requests_per_month: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    concurrent_requests: int | None = None
    models: list[str] = msgspec.field(default_factory=list)
    """names by which models are asked for; an entry that ends with "*" stands for all names that begin so"""
    providers: list[str] = msgspec.field(default_factory=list)


# --- streams `key-…` -----------------------------------------------------------------------------------------------


class KeyIssued(Event, frozen=True, kw_only=True):
    """A key was made for `user` and `project`. Only the SHA-256 of its secret is kept, as hex. It is good until `expires_at`."""

    key_id: str
    secret_sha256: str
    user: str
    project: str
    label: str = ""
    record_content: bool = False
    """the text of this key's prompts and answers is kept, outside the log"""
    limits: KeyLimits = KeyLimits()
    expires_at: int | None = None


class KeyLimited(Event, frozen=True, kw_only=True):
    """From now on the key has these limits, and no others; the same with when it expires and whether its texts are kept."""

    key_id: str
    limits: KeyLimits = KeyLimits()
    expires_at: int | None = None
    record_content: bool = False


class KeyRotated(Event, frozen=True, kw_only=True):
    """The key has another secret; the one before opens nothing any more."""

    key_id: str
    secret_sha256: str


class KeyRevoked(Event, frozen=True, kw_only=True):
    """The key opens nothing any more."""

    key_id: str
