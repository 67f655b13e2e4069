"""Anthropic's messages and their blocks as a canonical conversation. Pure.

Neighbours of the same role become one message; messages of the role system join the system text. Thinking in the history is
dropped: it is signed for the model that thought it, and no provider takes another's. Images must come inline: a URL is never
fetched. A document is taken where it is plain text.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from llmux.failures import ClientFailure, printable
from llmux.http.bodies import unsupported
from llmux.http.images import image_of
from llmux.http.turns import joined
from llmux.prompts import Image, Message, Part, Text, ToolCall, ToolResult

_BILLING = "x-anthropic-billing-header:"
"""how Claude Code marks a note to Anthropic's servers in the system prompt: nothing that a model should read"""


class Source(msgspec.Struct, frozen=True):
    """Where an image or document is: `base64`, `text` or `content`; `url` and `file` are refused."""

    type: str
    media_type: str = ""
    data: str = ""
    content: "str | list[Block]" = ""


class Block(msgspec.Struct, frozen=True):
    """A piece of a message's content. Which of the fields count depends on `type`."""

    type: str
    text: str | None = None
    source: Source | None = None
    title: str | None = None
    context: str | None = None
    citations: Any = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))
    tool_use_id: str | None = None
    content: "str | list[Block] | None" = None
    is_error: bool | None = None


class TurnMessage(msgspec.Struct, frozen=True):
    """One message as Anthropic's clients send it. `role` is user, assistant or system."""

    role: str
    content: str | list[Block]


def conversation_of(
    system: str | list[Block] | None, messages: list[TurnMessage]
) -> tuple[str, tuple[Message, ...], tuple[str, ...]]:
    """The system text, the turns, and what of them was left out by name. Raises ClientFailure."""
    texts = [text for text in _texts(system or "", "system") if not text.startswith(_BILLING)]
    turns: list[Message] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.role == "system":
            texts += _texts(message.content, f"{where}.content")
        elif message.role in ("user", "assistant"):
            turns.append(_turn(message, f"{where}.content"))
        else:
            role = printable(message.role, 40)
            raise ClientFailure(f"The role '{role}' is not known.", param=f"{where}.role", code="invalid_role")
    turns = joined(turns)
    if not turns:
        raise ClientFailure(
            "messages: at least one message that says something is required.", param="messages", code="missing_messages"
        )
    cited = any(_wants_citations(message.content) for message in messages)
    return "\n\n".join(texts), tuple(turns), ("citations",) if cited else ()


def _turn(message: TurnMessage, where: str) -> Message:
    parts = (part for block, at in _blocks(message.content, where) for part in _parts(block, message.role, at))
    if message.role == "user":
        return Message("user", tuple(parts))
    return Message("assistant", tuple(parts))


def _blocks(content: str | list[Block], where: str) -> Iterator[tuple[Block, str]]:
    """The blocks with their places; a text is a block of its own."""
    if isinstance(content, str):
        yield Block("text", text=content), where
    else:
        yield from ((block, f"{where}[{index}]") for index, block in enumerate(content))


def _parts(block: Block, role: str, where: str) -> list[Part]:
    """What a block of a turn stands for. Raises ClientFailure where the role cannot say that."""
    if role == "assistant":
        if block.type in ("thinking", "redacted_thinking"):
            return []
        if block.type == "tool_use":
            return [_call(block, where)]
        if block.type != "text":
            raise _refused(block, where, "A message of the assistant holds text, thinking and tool_use")
    elif block.type == "tool_result":
        return [_result(block, where)]
    return list(_pieces(block, where))


def _pieces(block: Block, where: str) -> list[Text | Image]:
    """Texts and images: what a message of the user and the result of a tool have in common."""
    if block.type == "text":
        if block.text is None:
            raise ClientFailure("The block lacks its text.", param=f"{where}.text")
        return [Text(block.text)] if block.text else []
    if block.type not in ("image", "document"):
        raise _refused(block, where, "Text, inline images, plain-text documents and tool_result are taken")
    if block.source is None:
        raise ClientFailure("The block lacks its source.", param=f"{where}.source")
    if block.type == "document":
        return _document(block, block.source, f"{where}.source")
    if block.source.type != "base64":
        raise ClientFailure(
            "Images must come inline, with a source of the type base64. URLs are not fetched, files are not kept.",
            param=f"{where}.source",
            code="unsupported_image",
        )
    return [image_of(block.source.media_type, block.source.data, f"{where}.source")]


def _document(block: Block, source: Source, where: str) -> list[Text | Image]:
    """A document with its title and context before it."""
    pieces: list[Text | Image] = [Text(f"{text}\n\n") for text in (block.title, block.context) if text]
    if source.type == "text":
        return [*pieces, Text(source.data)] if source.data else pieces
    if source.type != "content":
        raise unsupported(
            where,
            "Documents are taken as plain text (a source of the type text or content); PDF, URLs and files are not.",
        )
    for inner, at in _blocks(source.content, f"{where}.content"):
        if inner.type not in ("text", "image"):
            raise _refused(inner, at, "A document holds text and images")
        pieces += _pieces(inner, at)
    return pieces


def _call(block: Block, where: str) -> ToolCall:
    try:
        arguments = bytes(block.input).strip().decode("utf-8")
    except UnicodeDecodeError:
        raise ClientFailure("The input is not valid JSON.", param=f"{where}.input", code="invalid_json") from None
    if not block.id or not block.name or not arguments.startswith("{"):
        raise ClientFailure("A tool_use needs its id, its name and an object as input.", param=where)
    return ToolCall(block.id, block.name, arguments)


def _result(block: Block, where: str) -> ToolResult:
    if not block.tool_use_id:
        raise ClientFailure("A tool_result needs the tool_use_id it answers.", param=f"{where}.tool_use_id")
    pieces = [piece for inner, at in _blocks(block.content or "", f"{where}.content") for piece in _pieces(inner, at)]
    return ToolResult(block.tool_use_id, tuple(pieces), is_error=bool(block.is_error))


def _texts(content: str | list[Block], where: str) -> list[str]:
    """The texts of what may hold text only."""
    texts = []
    for block, at in _blocks(content, where):
        if block.type != "text":
            raise _refused(block, at, "A system prompt holds text only")
        texts += [piece.text for piece in _pieces(block, at) if isinstance(piece, Text)]
    return texts


def _wants_citations(content: str | list[Block]) -> bool:
    return not isinstance(content, str) and any(
        block.type == "document" and isinstance(block.citations, dict) and block.citations.get("enabled") is True
        for block in content
    )


def _refused(block: Block, where: str, rule: str) -> ClientFailure:
    return unsupported(f"{where}.type", f"{rule}; blocks of the type '{printable(block.type, 40)}' are not taken here.")
