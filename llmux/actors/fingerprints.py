"""Fingerprints: which wishes are equal. An HMAC, because short prompts could be guessed from a bare hash."""

import hashlib
import hmac
import os
from pathlib import Path

import msgspec

from llmux.actors.messages import Wish
from llmux.clock import Clock
from llmux.config import SMART
from llmux.failures import ConfigurationWrong

_ENCODER = msgspec.json.Encoder()  # the order of keys counts: a model follows that of a JSON schema


class Fingerprints:
    """Makes fingerprints with a key that is derived from the install secret.

    `shared`: projects share their answers, so the project does not count.
    """

    def __init__(self, secret: bytes, *, shared: bool = False):
        self._shared = shared
        self._key = hmac.digest(secret, b"llmux fingerprint v1", "sha256")
        self._idempotency_key = hmac.digest(secret, b"llmux idempotency v1", "sha256")

    def of(self, wish: Wish, forbidden: tuple[tuple[str, str], ...] = ()) -> str:
        """32 hex digits: equal for wishes whose answers are interchangeable, within one project (unless projects share).

        Through which dialect they came, and whether as a stream, makes no difference. `forbidden` are the routes that the wish
        would have but for its key: an answer of theirs is none for that key.
        """
        project = None if self._shared else wish.principal.project
        model = "" if wish.model in SMART else wish.model
        parts: tuple[object, ...] = (project, wish.provider, model, wish.prompt)
        if forbidden:
            parts += (forbidden,)
        if wish.fallback:  # another provider's answer is none for who insists on one
            parts += ("fallback",)
        return hmac.new(self._key, _ENCODER.encode(parts), hashlib.sha256).hexdigest()[:32]

    def of_key(self, key: str) -> str:
        """32 hex digits for an idempotency key, which itself is nowhere kept."""
        return hmac.new(self._idempotency_key, key.encode(), hashlib.sha256).hexdigest()[:32]


def install_secret(configured: str, directory: Path, clock: Clock) -> bytes:
    """LLMUX_SECRET, or the one in the file `secret` of the data directory, which is made when it is not there."""
    if configured:
        return configured.encode()
    path = directory / "secret"
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(clock.secret(32).hex())
    except FileExistsError:
        pass
    secret = path.read_bytes().strip()
    if len(secret) < 32:
        raise ConfigurationWrong(f"{path} does not hold a secret any more; restore it, or remove it to make a new one.")
    return secret
