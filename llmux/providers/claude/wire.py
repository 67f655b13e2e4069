"""The lines between Claude Code and us: one JSON object each."""

import json
from typing import Any

import msgspec
import trio

from llmux.providers import process
from llmux.providers.claude import signs

Line = dict[str, Any]

EXIT_WAIT_MS_MAX = 200


def encode(frame: Line) -> bytes:
    """One line, without its newline. Half a surrogate pair becomes U+FFFD: it has no form in UTF-8."""
    text = json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


async def next_line(worker: process.Process) -> Line:
    """The next line. Raises ProviderFailure when it is no JSON object or there is none, LineTooLong when it is too long."""
    while (raw := await worker.line()) is not None:
        if not raw.strip():
            continue
        try:
            return msgspec.json.decode(raw, type=Line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise signs.failure("babble") from None
    with trio.move_on_after(EXIT_WAIT_MS_MAX / 1000):
        raise signs.failure("gone", f"It exited with status {await worker.wait()}.")
    raise signs.failure("gone")
