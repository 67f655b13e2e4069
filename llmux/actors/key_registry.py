"""Issues and revokes keys, and tells whose credential one is."""

import hashlib
import hmac
import re
import zlib
from collections.abc import Mapping

import msgspec

from llmux.actors.actor import Actor, Message
from llmux.actors.facts.keys import Key
from llmux.actors.journal import Journal
from llmux.actors.messages import Principal
from llmux.clock import Clock
from llmux.config import Settings
from llmux.events import KeyIssued, KeyRevoked, NewEvent
from llmux.eventstore import NO_STREAM
from llmux.failures import ClientFailure, printable

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(r"sk-lmx_([0-9A-Za-z]{8})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})")
_USER = frozenset({"use"})
_ADMIN = frozenset({"admin"})


class IssuedKey(msgspec.Struct, frozen=True):
    """A new key. `secret_key` is the whole credential: shown once, kept nowhere."""

    id: str
    secret_key: str


class IssueKey(Message[IssuedKey], frozen=True):
    """Make a key for a user and a project. With `record_content`, the text of its requests is kept, outside the log."""

    user: str
    project: str
    label: str = ""
    record_content: bool = False
    principal: str = "admin"


class RevokeKey(Message[bool], frozen=True):
    """Revoke a key by id. The reply is False when there is no such key, or it was revoked before."""

    key_id: str
    principal: str = "admin"


class KeyRegistry(Actor):
    """The one that makes and revokes keys. Reading whose credential something is does not go through its mailbox: see KeyRing."""

    def __init__(self, journal: Journal, settings: Settings, clock: Clock):
        super().__init__(
            "key_registry", mailbox_max=settings.limits.mailbox_max, ask_ms_max=settings.limits.append_ms_max
        )
        self._journal = journal
        self._settings = settings
        self._clock = clock

    async def handle(self, message: IssueKey | RevokeKey) -> IssuedKey | bool:
        if isinstance(message, IssueKey):
            return await self._issue(message)
        return await self._revoke(message)

    async def _issue(self, command: IssueKey) -> IssuedKey:
        for name, value in (("userId", command.user), ("projectId", command.project), ("label", command.label)):
            if len(value) > 200 or printable(value, 200) != value or (not value and name != "label"):
                raise ClientFailure(f"{name} must be 1 to 200 printable characters.", param=name)
        if command.record_content and self._settings.content_retention_days is None:
            raise ClientFailure(
                "recordContent: nobody has said for how long text may be kept. Set CONTENT_RETENTION_DAYS to a number of "
                "days, and start the gateway again.",
                param="recordContent",
                code="content_retention_missing",
            )
        key_id = _base62(self._clock.secret(8), 8)
        secret = _base62(self._clock.secret(32), 43)
        fact = KeyIssued(
            key_id=key_id,
            secret_sha256=_digest(secret),
            user=command.user,
            project=command.project,
            label=command.label,
            record_content=command.record_content,
        )
        stream = f"key-{key_id}"
        event = NewEvent(stream, fact, self._clock.new_id(), command.principal)
        await self._journal.append(event, expected={stream: NO_STREAM})
        return IssuedKey(key_id, f"sk-lmx_{key_id}_{secret}{_checksum(key_id + secret)}")

    async def _revoke(self, command: RevokeKey) -> bool:
        key = self._journal.facts.keys.get(command.key_id)
        if key is None or key.revoked_at is not None:
            return False
        fact = KeyRevoked(key_id=key.id)
        await self._journal.append(NewEvent(f"key-{key.id}", fact, self._clock.new_id(), command.principal))
        return True


class KeyRing:
    """Whose credential is this? Reads facts and settings, in constant time where secrets are compared."""

    def __init__(self, keys: Mapping[str, Key], settings: Settings, now: int):
        self._keys = keys
        self._settings = settings
        self._now = now
        """wall time in ms"""

    def principal_of(self, credential: str) -> Principal | None:
        """The principal that `credential` belongs to, or None; a key that was revoked or has expired belongs to nobody.

        The admin key opens admin routes only, every other key none.
        """
        given = credential.encode("utf-8", "replace")
        if self._settings.admin_key and hmac.compare_digest(given, self._settings.admin_key.encode()):
            return Principal("admin", "admin", "admin", _ADMIN)
        if self._settings.api_key and hmac.compare_digest(given, self._settings.api_key.encode()):
            return Principal("api-key", "default", "default", _USER)
        key = self.key_of(credential)
        if key is None or not key.opens(self._now):
            return None
        return Principal(key.id, key.user, key.project, _USER)

    def key_of(self, credential: str) -> Key | None:
        """The key whose whole secret this is, whether it still opens anything or not."""
        form = _FORM.fullmatch(credential)
        if form is None or _checksum(form[1] + form[2]) != form[3]:
            return None
        key = self._keys.get(form[1])
        expected = key.secret_sha256 if key is not None else "0" * 64  # an unknown id takes as long as a wrong secret
        same = hmac.compare_digest(_digest(form[2]), expected)
        return key if same else None

    def expired_at(self, credential: str) -> int | None:
        """When the key ended whose secret this is; None if it is none, has no end yet, or was revoked."""
        key = self.key_of(credential)
        if key is None or key.revoked_at is not None or key.opens(self._now):
            return None
        return key.expires_at


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _base62(data: bytes, length: int) -> str:
    number, digits = int.from_bytes(data, "big"), []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(digits)


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()).to_bytes(4, "big"), 6)
