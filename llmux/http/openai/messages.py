"""OpenAI's messages as a canonical conversation. Pure.

Texts of the roles system and developer become the prompt's system text; a message of the role tool becomes a tool result of the
user; neighbours of the same role become one message, their texts a paragraph apart. Images must come inline: a URL is never
fetched. Where there is nothing but system text, that is what the user says.
"""

from collections.abc import Iterable

import msgspec

from llmux.failures import ClientFailure, printable
from llmux.http.bodies import unsupported
from llmux.http.images import image_in
from llmux.http.turns import join
from llmux.prompts import Image, Message, Part, Text, ToolCall, ToolResult, user


class ImageUrl(msgspec.Struct, frozen=True):
    """Where an image is; only `data:` URLs are taken."""

    url: str


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
    """A tool call that the assistant made earlier in the conversation."""

    id: str
    function: Function


class ChatMessage(msgspec.Struct, frozen=True):
    """One message as OpenAI's clients send it."""

    role: str
    content: str | list[ContentPart] | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None


def conversation_of(messages: list[ChatMessage]) -> tuple[str, tuple[Message, ...]]:
    """The system text and the turns. Raises ClientFailure."""
    system: list[str] = []
    turns: list[Message] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.role in ("system", "developer"):
            system += _texts(message, where)
        elif message.role in ("user", "assistant", "tool"):
            join(turns, _turn(message, where))
        else:
            role = printable(message.role, 40)
            raise ClientFailure(f"The role '{role}' is not known.", param=f"{where}.role", code="invalid_role")
    text = "\n\n".join(system)
    if not turns and text.strip():
        return "", (user(text),)
    if not turns:
        raise ClientFailure("No messages provided", param="messages", code="missing_messages")
    if turns[-1].role != "user":
        raise unsupported("messages", "The last message must be of the role user or tool.")
    if all(isinstance(part, Text) and not part.text.strip() for part in turns[-1].parts):
        raise ClientFailure("The last message is blank.", param="messages", code="blank_message")
    return text, tuple(turns)


def _turn(message: ChatMessage, where: str) -> Message:
    if message.role == "tool":
        if not message.tool_call_id:
            raise ClientFailure(
                "A message of the role tool needs the tool_call_id it answers.", param=f"{where}.tool_call_id"
            )
        pieces = tuple(part for part in _parts(message, where) if isinstance(part, Text | Image))
        return Message("user", (ToolResult(message.tool_call_id, pieces),))
    if message.role == "assistant":
        said: tuple[Part, ...] = tuple(Text(text) for text in _texts(message, where))
        calls = (ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ())
        return Message("assistant", (*said, *calls))
    return Message("user", tuple(_parts(message, where)))


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
