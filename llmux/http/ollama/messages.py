"""Ollama's messages as a canonical conversation. Pure.

Texts of the role system become the prompt's system text; a message of the role tool becomes the result of the earliest call
that has none yet (of the tool it names, if it names one), because Ollama's calls have no ids; neighbours of the same role become
one message, a paragraph apart. Where there is nothing but system text, that is what the user says.
"""

import base64
import binascii
from typing import Any

import msgspec

from llmux.failures import ClientFailure, printable
from llmux.http.bodies import unsupported
from llmux.http.images import image_in, image_of
from llmux.prompts import Image, Message, Part, Text, ToolCall, ToolResult, user


class CalledFunction(msgspec.Struct, frozen=True):
    """What the model asked to call."""

    name: str
    arguments: dict[str, Any] = {}


class Called(msgspec.Struct, frozen=True):
    """A tool call that the assistant made earlier in the conversation."""

    function: CalledFunction


class ChatMessage(msgspec.Struct, frozen=True):
    """One message as Ollama's clients send it; `images` are base64. What the assistant thought is not sent again."""

    role: str
    content: str | None = None
    images: list[str] | None = None
    tool_calls: list[Called] | None = None
    tool_name: str | None = None


_MAGIC = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"GIF8", "image/gif"))


def image_named(data: str, where: str) -> Image:
    """An image given as base64 and nothing else: what it is, its first bytes tell. Raises ClientFailure."""
    if data.startswith("data:"):
        return image_in(data, where)
    try:
        head = base64.b64decode(data[:16], validate=True)
    except (binascii.Error, ValueError):
        head = b""
    media_type = next((name for magic, name in _MAGIC if head.startswith(magic)), "")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        media_type = "image/webp"
    return image_of(media_type, data, where)


def conversation_of(messages: list[ChatMessage]) -> tuple[str, tuple[Message, ...]]:
    """The system text and the turns. Raises ClientFailure."""
    system: list[str] = []
    turns: list[Message] = []
    calls: list[ToolCall] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.role == "system":
            system += [message.content] if message.content else []
        elif message.role in ("user", "assistant", "tool"):
            _join(turns, _turn(message, calls, where))
        else:
            role = printable(message.role, 40)
            raise ClientFailure(f"The role '{role}' is not known.", param=f"{where}.role", code="invalid_role")
    text = "\n\n".join(system)
    if not turns and text.strip():
        return "", (user(text),)
    if turns and turns[-1].role != "user":
        raise unsupported("messages", "The last message must be of the role user or tool.")
    if not turns or all(isinstance(part, Text) and not part.text.strip() for part in turns[-1].parts):
        raise ClientFailure("The last message is blank.", param="messages", code="blank_message")
    return text, tuple(turns)


def _turn(message: ChatMessage, calls: list[ToolCall], where: str) -> Message:
    """One turn; `calls` are those that wait for their results."""
    said: tuple[Part, ...] = (Text(message.content),) if message.content else ()
    if message.role == "tool":
        return Message("user", (ToolResult(_answered(message, calls, where), (Text(message.content or ""),)),))
    if message.role == "assistant":
        made = [
            ToolCall(
                f"call_{where}_{number}",
                each.function.name,
                msgspec.json.encode(each.function.arguments).decode(),
            )
            for number, each in enumerate(message.tool_calls or ())
        ]
        calls += made
        return Message("assistant", (*said, *made))
    images = (image_named(data, f"{where}.images[{i}]") for i, data in enumerate(message.images or ()))
    return Message("user", (*said, *images))


def _answered(message: ChatMessage, calls: list[ToolCall], where: str) -> str:
    """The id of the call that this result belongs to, which waits no more."""
    for call in calls:
        if message.tool_name in (None, "", call.name):
            calls.remove(call)
            return call.id
    raise ClientFailure("There is no tool call that this result could belong to.", param=where)


def _join(turns: list[Message], turn: Message) -> None:
    """Adds a turn; one of the same role as the last continues it, a new paragraph where text meets text."""
    if not turn.parts:
        return
    if not turns or turns[-1].role != turn.role:
        turns.append(turn)
        return
    before, last, first = turns[-1].parts[:-1], turns[-1].parts[-1], turn.parts[0]
    if isinstance(last, Text) and isinstance(first, Text):
        turns[-1] = Message(turn.role, (*before, Text(f"{last.text}\n\n{first.text}"), *turn.parts[1:]))
    else:
        turns[-1] = Message(turn.role, (*before, last, *turn.parts))
