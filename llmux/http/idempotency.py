"""The header `Idempotency-Key`: the client repeats a request under the key of its first try, and it is carried out once."""

from typing import Annotated

import msgspec
from quart import request

from llmux.actors.idempotency import HEADER
from llmux.failures import ClientFailure
from llmux.http.operations import Parameter

ANSWERED = "x-llmux-idempotency"
"""tells a client that its key was known: `joined` the answer under way, or an answer `replayed` that was there"""
CHARS_MAX = 255
PARAMETER = Parameter(
    HEADER,
    "header",
    f"1 to {CHARS_MAX} printable ASCII characters: the request is carried out once under this key, however often it is sent",
    Annotated[str, msgspec.Meta(max_length=CHARS_MAX, pattern="^[!-~]([ -~]*[!-~])?$")],
)


def key_given() -> str:
    """The key that the request came with, or "". Raises ClientFailure (400)."""
    given = request.headers.getlist(HEADER)
    if not given:
        return ""
    key = given[0]
    if len(given) > 1 or not (0 < len(key) <= CHARS_MAX and key.isascii() and key.isprintable()):
        raise ClientFailure(
            f"{HEADER} is one key of 1 to {CHARS_MAX} printable ASCII characters.",
            param=HEADER,
            code="invalid_idempotency_key",
        )
    return key
