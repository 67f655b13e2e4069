"""Issues, limits, rotates and revokes keys, and tells whose credential one is."""

import hashlib
import hmac
import re
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from llmux.actors.actor import Actor, Message
from llmux.actors.facts.keys import Key
from llmux.actors.journal import Journal
from llmux.actors.key_terms import check_expiry, check_limits, check_name, check_recording
from llmux.actors.messages import Principal
from llmux.clock import Clock
from llmux.config import Settings
from llmux.events import KeyIssued, KeyLimited, KeyLimits, KeyRevoked, KeyRotated, NewEvent
from llmux.eventstore import NO_STREAM
from llmux.failures import ClientFailure

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(r"sk-lmx_([0-9A-Za-z]{8})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})")
_USER = frozenset({"use"})
_ADMIN = frozenset({"admin"})


class IssuedKey(msgspec.Struct, frozen=True):
    """A new key, or a new secret of an old one. `secret_key` is the whole credential: shown once, kept nowhere."""

    id: str
    secret_key: str


class IssueKey(Message[IssuedKey], frozen=True):
    """Make a key for a user and a project, good until `expires_at` (wall time in ms; None: for ever).

    With `record_content`, the text of its requests is kept, outside the log.
    """

    user: str
    project: str
    label: str = ""
    record_content: bool = False
    limits: KeyLimits = KeyLimits()
    expires_at: int | None = None
    principal: str = "admin"


class LimitKey(Message[Key], frozen=True):
    """Change what a key may. `limits` names fields of KeyLimits with their new values; what is not named stays as it is.

    The reply is the key as it is then. ClientFailure (404, 409) where there is no good key with this id.
    """

    key_id: str
    limits: Mapping[str, Any] = {}
    expires_at: int | UnsetType | None = UNSET
    record_content: bool | UnsetType = UNSET
    principal: str = "admin"


class RotateKey(Message[IssuedKey], frozen=True):
    """Give a key another secret; the one before opens nothing any more. ClientFailure (404, 409) as for LimitKey."""

    key_id: str
    principal: str = "admin"


class RevokeKey(Message[bool], frozen=True):
    """Revoke a key by id. The reply is False when there is no such key, or it was revoked before."""

    key_id: str
    principal: str = "admin"


class KeyRegistry(Actor):
    """The one that makes and changes keys. Reading whose credential something is does not go through its mailbox: see KeyRing."""

    def __init__(self, journal: Journal, settings: Settings, clock: Clock):
        super().__init__(
            "key_registry", mailbox_max=settings.limits.mailbox_max, ask_ms_max=settings.limits.append_ms_max
        )
        self._journal = journal
        self._settings = settings
        self._clock = clock

    async def handle(self, message: IssueKey | LimitKey | RotateKey | RevokeKey) -> IssuedKey | Key | bool:
        match message:
            case IssueKey():
                return await self.issue(message)
            case LimitKey():
                return await self.limit(message)
            case RotateKey():
                return await self.rotate(message)
        return await self.revoke(message)

    async def issue(self, command: IssueKey) -> IssuedKey:
        for name, value in (("userId", command.user), ("projectId", command.project), ("label", command.label)):
            check_name(name, value, may_be_empty=name == "label")
        check_recording(command.record_content, self._settings)
        check_limits(command.limits, self._settings)
        check_expiry(command.expires_at, self._clock.now())
        key_id = _base62(self._clock.secret(8), 8)
        secret = _base62(self._clock.secret(32), 43)
        fact = KeyIssued(
            key_id=key_id,
            secret_sha256=_digest(secret),
            user=command.user,
            project=command.project,
            label=command.label,
            record_content=command.record_content,
            limits=command.limits,
            expires_at=command.expires_at,
        )
        stream = f"key-{key_id}"
        event = NewEvent(stream, fact, self._clock.new_id(), command.principal)
        await self._journal.append(event, expected={stream: NO_STREAM})
        return _issued(key_id, secret)

    async def limit(self, command: LimitKey) -> Key:
        key = self._good(command.key_id)
        limits = msgspec.structs.replace(key.limits, **command.limits)
        expires_at = key.expires_at if command.expires_at is UNSET else command.expires_at
        recorded = key.record_content if command.record_content is UNSET else command.record_content
        if (limits, expires_at, recorded) == (key.limits, key.expires_at, key.record_content):
            return key
        if recorded != key.record_content:
            check_recording(recorded, self._settings)
        if expires_at != key.expires_at:
            check_expiry(expires_at, self._clock.now())
        check_limits(limits, self._settings, known=key.limits)
        fact = KeyLimited(key_id=key.id, limits=limits, expires_at=expires_at, record_content=recorded)
        await self._journal.append(NewEvent(f"key-{key.id}", fact, self._clock.new_id(), command.principal))
        return self._journal.facts.keys[key.id]

    async def rotate(self, command: RotateKey) -> IssuedKey:
        key = self._good(command.key_id)
        secret = _base62(self._clock.secret(32), 43)
        fact = KeyRotated(key_id=key.id, secret_sha256=_digest(secret))
        await self._journal.append(NewEvent(f"key-{key.id}", fact, self._clock.new_id(), command.principal))
        return _issued(key.id, secret)

    async def revoke(self, command: RevokeKey) -> bool:
        key = self._journal.facts.keys.get(command.key_id)
        if key is None or key.revoked_at is not None:
            return False
        fact = KeyRevoked(key_id=key.id)
        await self._journal.append(NewEvent(f"key-{key.id}", fact, self._clock.new_id(), command.principal))
        return True

    def _good(self, key_id: str) -> Key:
        key = self._journal.facts.keys.get(key_id)
        if key is None:
            raise ClientFailure(
                "There is no key with this id. GET /admin/api-keys, or llmux keys list, shows all of them.",
                status=404,
                code="key_not_found",
            )
        if key.revoked_at is not None:
            raise ClientFailure("This key is revoked, and stays so. Make another one.", status=409, code="key_revoked")
        return key


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


def _issued(key_id: str, secret: str) -> IssuedKey:
    return IssuedKey(key_id, f"sk-lmx_{key_id}_{secret}{_checksum(key_id + secret)}")


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
