"""The turns of a conversation, as one is made from a client's messages. Pure."""

from llmux.prompts import Message, Text


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
