"""Items as a canonical conversation. Pure.

Texts of the roles system and developer become the prompt's system text, after the instructions; neighbours of the same role
become one message, as in chat completions. Reasoning is left out: no provider takes back what a model thought.
"""

from collections.abc import Sequence

from llmux.http.images import image_in
from llmux.http.openai.responses.items import (
    Content,
    FunctionCallItem,
    FunctionOutputItem,
    InputImage,
    Item,
    MessageItem,
    ReasoningItem,
    Refusal,
)
from llmux.http.turns import closed
from llmux.prompts import Image, Message, Text, ToolCall, ToolResult


def conversation_of(items: Sequence[Item], instructions: str, earlier: int = 0) -> tuple[str, tuple[Message, ...]]:
    """The system text and the turns. `earlier` of the items are not the client's own input. Raises ClientFailure."""
    system = [instructions] if instructions else []
    turns: list[Message] = []
    for index, item in enumerate(items):
        where = f"input[{index - earlier}]"
        if isinstance(item, MessageItem) and item.role in ("system", "developer"):
            system += [piece.text for piece in _pieces(item.content, where) if isinstance(piece, Text)]
        elif not isinstance(item, ReasoningItem):
            turns.append(_turn(item, where))
    return closed(system, turns, "input")


def _turn(item: MessageItem | FunctionCallItem | FunctionOutputItem, where: str) -> Message:
    if isinstance(item, FunctionCallItem):
        return Message("assistant", (ToolCall(item.call_id, item.name, item.arguments),))
    if isinstance(item, FunctionOutputItem):
        if isinstance(item.output, str):
            return Message("user", (ToolResult(item.call_id, (Text(item.output),) if item.output else ()),))
        return Message("user", (ToolResult(item.call_id, _pieces(item.output, where, "output")),))
    return Message("assistant" if item.role == "assistant" else "user", _pieces(item.content, where))


def _pieces(content: Sequence[Content], where: str, field: str = "content") -> tuple[Text | Image, ...]:
    """The parts that hold something."""
    pieces: list[Text | Image] = []
    for index, part in enumerate(content):
        if isinstance(part, InputImage):
            pieces.append(image_in(part.image_url, f"{where}.{field}[{index}].image_url"))
        elif text := part.refusal if isinstance(part, Refusal) else part.text:
            pieces.append(Text(text))
    return tuple(pieces)
