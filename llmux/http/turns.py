"""The turns of a conversation, as one is made from a client's messages. Pure."""

from collections.abc import Iterable
from itertools import groupby

from llmux.prompts import Message, Part, Text


def joined(turns: Iterable[Message]) -> list[Message]:
    """The turns that say something, neighbours of the same role as one: a new paragraph where text meets text.

    In time linear in their size, however many of them are of one role.
    """
    said = (turn for turn in turns if turn.parts)
    return [Message(role, _together(each)) for role, each in groupby(said, lambda turn: turn.role)]


def _together(turns: Iterable[Message]) -> tuple[Part, ...]:
    parts: list[Part] = []
    paragraphs: list[str] = []
    """the text that the next turn may go on with"""

    def close() -> None:
        if paragraphs:
            parts.append(Text("\n\n".join(paragraphs)))
            paragraphs.clear()

    for turn in turns:
        for place, part in enumerate(turn.parts):
            if place or not isinstance(part, Text):
                close()
            if isinstance(part, Text):
                paragraphs.append(part.text)
            else:
                parts.append(part)
    close()
    return tuple(parts)
