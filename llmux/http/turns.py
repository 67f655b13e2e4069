"""The turns of a conversation, as one is made from a client's messages. Pure."""

from collections.abc import Sequence

from llmux.failures import ClientFailure
from llmux.http.bodies import unsupported
from llmux.prompts import Message, Text, user


def join(turns: list[Message], turn: Message) -> None:
    """Adds a turn; one of the same role as the last continues it, a new paragraph where text meets text."""
    if not turn.parts:
        return
    if not turns or turns[-1].role != turn.role:
        turns.append(turn)
        return
    before, last, first = turns[-1].parts[:-1], turns[-1].parts[-1], turn.parts[0]
    if isinstance(last, Text) and isinstance(first, Text):
        parts = (*before, Text(f"{last.text}\n\n{first.text}"), *turn.parts[1:])
    else:
        parts = (*before, last, *turn.parts)
    turns[-1] = Message(turn.role, parts)


def closed(system: list[str], turns: list[Message], param: str) -> tuple[str, tuple[Message, ...]]:
    """The system text and the turns of a conversation that was read from `param`. Raises ClientFailure unless it asks something.

    Where there is nothing but system text, that is what the user says.
    """
    text = "\n\n".join(system)
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
