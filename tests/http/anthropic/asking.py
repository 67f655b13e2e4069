"""Requests to /v1/messages as bodies, and what is made of them."""

import json
from typing import Any

from llmux.actors.messages import Principal
from llmux.config import Settings
from llmux.http.anthropic.body import MessagesWish, messages_wish_of
from llmux.prompts import Prompt

HI: list[Any] = [{"role": "user", "content": "hi"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}


def body(messages: Any = HI, **fields: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"model": "auto", "max_tokens": 50, "messages": messages, **fields}


def asked(messages: Any = HI, **fields: Any) -> MessagesWish:
    """What is made of it. Raises ClientFailure."""
    data = json.dumps(body(messages, **fields)).encode()
    return messages_wish_of(data, "/v1/messages", Principal(), Settings())


def prompt(messages: Any = HI, **fields: Any) -> Prompt:
    return asked(messages, **fields).wish.prompt


def says(role: str, *content: Any) -> dict[str, Any]:
    """A message: of one text, or of blocks."""
    return {"role": role, "content": content[0] if len(content) == 1 and isinstance(content[0], str) else list(content)}


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}
