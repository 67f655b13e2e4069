"""The turns of a conversation, as one is made from a client's messages. Pure."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from llmux.failures import ClientFailure
from llmux.http.bodies import unsupported
from llmux.prompts import Message, Part, Text, user


def closed(system: list[str], turns: list[Message], param: str) -> tuple[str, tuple[Message, ...]]:
    """The system text and the joined turns of a conversation that was read from `param`. Raises ClientFailure unless it asks something.

    Where there is nothing but system text, that is what the user says.
    """
    text, turns = "\n\n".join(system), joined(turns)
    if not turns and text.strip():
        return "", (user(text),)
    if not turns:
        raise ClientFailure(f"No {param} provided", param=param, code="missing_messages")
    check_end(turns, param, "The last message must be of the role user or tool.")
    return text, tuple(turns)


def check_end(turns: Sequence[Message], param: str, sentence: str) -> None:
    """Raises ClientFailure unless the turns, of which there are some, end with the user saying something.

    `sentence` says what a dialect wants last.
    """
    if turns[-1].role != "user":
        raise unsupported(param, sentence)
    if all(isinstance(part, Text) and not part.text.strip() for part in turns[-1].parts):
        raise ClientFailure("The last message is blank.", param=param, code="blank_message")


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
