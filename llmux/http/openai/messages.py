"""OpenAI's messages as a canonical conversation. Pure.

Texts of the roles system and developer become the prompt's system text; a message of the role tool becomes a tool result of the
user; neighbours of the same role become one message, their texts a paragraph apart. Images must come inline: a URL is never
fetched. Where there is nothing but system text, that is what the user says.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from llmux.failures import ClientFailure, printable
from llmux.http.bodies import unsupported
from llmux.http.images import image_in
from llmux.http.turns import closed
from llmux.prompts import Image, Message, Part, Text, ToolCall, ToolResult


class ImageUrl(msgspec.Struct, frozen=True):
    """Where an image is; only `data:` URLs are taken. A `detail` other than "auto" is ignored, and named."""

    url: str
    detail: str | None = None


class ContentPart(msgspec.Struct, frozen=True):
    """A piece of a message's content."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None


class Function(msgspec.Struct, frozen=True):
    """What the model asked to call."""

    name: str
    arguments: str = ""


class Call(msgspec.Struct, frozen=True):
    """A tool call that the assistant made earlier in the conversation; only those of functions are taken."""

    id: str
    type: str = "function"
    function: Function | None = None


class ChatMessage(msgspec.Struct, frozen=True):
    """One message as OpenAI's clients send it. The `name` of a participant is ignored, and named.

    A `refusal` is what an assistant said instead of content. Earlier `audio` and the older `function_call` are refused.
    """

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    audio: Any = None
    function_call: Any = None


def conversation_of(messages: list[ChatMessage]) -> tuple[str, tuple[Message, ...]]:
    """The system text and the turns. Raises ClientFailure."""
    system: list[str] = []
    turns: list[Message] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.role in ("system", "developer"):
            system += _texts(message, where)
        elif message.role in ("user", "assistant", "tool"):
            turns.append(_turn(message, where))
        else:
            role = printable(message.role, 40)
            raise ClientFailure(f"The role '{role}' is not known.", param=f"{where}.role", code="invalid_role")
    return closed(system, turns, "messages")


def ignored_in(messages: list[ChatMessage]) -> tuple[str, ...]:
    """What messages ask for and no provider can do: names of participants, and how closely an image is looked at."""
    names = any(message.name and message.role != "tool" for message in messages)
    details = any(
        isinstance(part.image_url, ImageUrl) and part.image_url.detail not in (None, "auto")
        for message in messages
        if isinstance(message.content, list)
        for part in message.content
    )
    return (*(["messages.name"] if names else ()), *(["image_url.detail"] if details else ()))


def _turn(message: ChatMessage, where: str) -> Message:
    if message.role == "tool":
        if not message.tool_call_id:
            raise ClientFailure(
                "A message of the role tool needs the tool_call_id it answers.", param=f"{where}.tool_call_id"
            )
        pieces = tuple(part for part in _parts(message, where) if isinstance(part, Text | Image))
        return Message("user", (ToolResult(message.tool_call_id, pieces),))
    if message.role == "assistant":
        return Message("assistant", _said(message, where))
    return Message("user", tuple(_parts(message, where)))


def _said(message: ChatMessage, where: str) -> tuple[Part, ...]:
    """What the assistant said: texts, or its refusal, and then its calls."""
    if message.audio is not None:
        raise unsupported(f"{where}.audio", "An earlier answer that was audio cannot be read; send its transcript.")
    if message.function_call is not None:
        raise unsupported(f"{where}.function_call", "function_call is not taken in messages; tool_calls are.")
    texts = _texts(message, where) or [text for text in [message.refusal] if text]
    return (*map(Text, texts), *(_call(call, f"{where}.tool_calls") for call in message.tool_calls or ()))


def _call(call: Call, where: str) -> ToolCall:
    if call.function is None:
        raise unsupported(
            where, f"Calls of the type '{printable(call.type, 40)}' are not taken; those of functions are."
        )
    return ToolCall(call.id, call.function.name, call.function.arguments)


def _parts(message: ChatMessage, where: str) -> Iterable[Part]:
    """The pieces of the content that hold something."""
    if isinstance(message.content, str):
        return [Text(message.content)] if message.content else []
    parts = [_part(part, f"{where}.content[{index}]") for index, part in enumerate(message.content or ())]
    return [part for part in parts if not isinstance(part, Text) or part.text]


def _texts(message: ChatMessage, where: str) -> list[str]:
    """The content of a message that may hold text only."""
    texts = []
    for part in _parts(message, where):
        if not isinstance(part, Text):
            raise unsupported(f"{where}.content", f"A message of the role {message.role} can hold text only.")
        texts.append(part.text)
    return texts


def _part(part: ContentPart, where: str) -> Part:
    if part.type in ("text", "input_text") and part.text is not None:
        return Text(part.text)
    if part.type == "refusal" and part.refusal is not None:
        return Text(part.refusal)
    if part.type == "image_url" and part.image_url is not None:
        url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
        return image_in(url, f"{where}.image_url")
    if part.type in ("text", "input_text", "refusal", "image_url"):
        raise ClientFailure(f"The part lacks its {part.type}.", param=where)
    raise unsupported(
        f"{where}.type", f"Parts of the type '{printable(part.type, 40)}' are not taken; text and image_url are."
    )
