"""Bodies of /v1/responses, read without a gateway, beside kept responses whose time stands still."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmux.actors.kept_responses import KeptResponses
from llmux.actors.messages import Principal
from llmux.clock import SeededClock
from llmux.config import Limits
from llmux.failures import ClientFailure
from llmux.http.openai.responses.history import History
from llmux.http.openai.responses.wish import Asked, asked_of
from tests.http.served import settings_of

SETTINGS = settings_of(Path("/nowhere"))
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Clock(SeededClock):
    """Outside trio.run, time stands still."""

    def monotonic(self) -> float:
        return 0.0


def history() -> History:
    return History(KeptResponses(Limits(), Clock()), "p")


def asked(input: Any, kept: History | None = None, **fields: Any) -> Asked:
    body = json.dumps({"model": "m", "input": input, **fields}).encode()
    return asked_of(body, "/v1/responses", Principal(), SETTINGS, kept or history())


def prompt(input: Any, **fields: Any):
    return asked(input, **fields).wish.prompt


def refused(input: Any, **fields: Any) -> ClientFailure:
    with pytest.raises(ClientFailure) as caught:
        asked(input, **fields)
    return caught.value


def says(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def part(text: str, type: str = "input_text") -> dict[str, Any]:
    return {"type": type, "text": text}
