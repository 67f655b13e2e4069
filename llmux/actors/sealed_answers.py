"""Cached answers as bytes that may lie where others can write: versioned, bounded in time, and sealed with a key of the house."""

import hmac

import msgspec

from llmux.actors.cached_answer import CachedAnswer
from llmux.prompts import Finish

VERSION = b"1"
_SEAL_BYTES = 32


class _Content(msgspec.Struct, frozen=True, array_like=True):
    expires_at: int
    answer: CachedAnswer


class Sealer:
    """Seals answers under their fingerprint with an HMAC whose key is derived from the install secret and the namespace.

    A value that was made by somebody else, changed, moved to another fingerprint, or kept beyond its time, does not open.
    What is in it can be read by whoever can read the bytes.
    """

    def __init__(self, secret: bytes, namespace: str):
        self._key = hmac.digest(secret, b"llmux shared answer v1 " + namespace.encode(), "sha256")
        self._decoder = msgspec.msgpack.Decoder(_Content)

    def seal(self, fingerprint: str, answer: CachedAnswer, expires_at: int) -> bytes:
        """The value for this answer, good until `expires_at` (wall time in ms)."""
        content = msgspec.msgpack.encode(_Content(expires_at, answer))
        return VERSION + self._mac(fingerprint, content) + content

    def open(self, fingerprint: str, value: bytes, now: int) -> CachedAnswer | None:
        """The answer in a value, or None when its time is over. Raises ValueError for anything that `seal` did not make."""
        mac, content = value[1 : 1 + _SEAL_BYTES], value[1 + _SEAL_BYTES :]
        if value[:1] != VERSION or not hmac.compare_digest(mac, self._mac(fingerprint, content)):
            raise ValueError("not sealed by this house in this version")
        try:
            found = self._decoder.decode(content)
        except msgspec.MsgspecError:  # sealed by an older or newer program that knew other chunks
            raise ValueError("sealed by this house, but not in a form that is known here") from None
        chunks = found.answer.chunks
        if not chunks or [isinstance(chunk, Finish) for chunk in chunks].index(True) != len(chunks) - 1:
            raise ValueError("an answer ends with a Finish")
        return found.answer if now < found.expires_at else None

    def _mac(self, fingerprint: str, content: bytes) -> bytes:
        return hmac.digest(self._key, VERSION + fingerprint.encode() + b"\n" + content, "sha256")
