"""What the cache holds: a whole answer, and whether an answer may be held at all."""

import msgspec

from llmux.actors.messages import Wish
from llmux.prompts import Chunk, Finish, ReasoningDelta, TextDelta, ToolCallDelta, Vectors


class CachedAnswer(msgspec.Struct, frozen=True):
    """An answer and where it came from. `chunks` end with a `Finish`."""

    provider: str
    account: str
    model: str
    chunks: tuple[Chunk, ...]

    @property
    def finish(self) -> Finish:
        """Its end."""
        finish = self.chunks[-1]
        assert isinstance(finish, Finish), "whoever makes one ends it with a Finish"
        return finish

    @property
    def bytes(self) -> int:
        """Roughly what it costs in memory."""
        return sum(map(_size, self.chunks))


def may_be_kept(wish: Wish, finish: Finish) -> bool:
    """Whether an answer that ended so may serve other wishes: it is whole, and asking again would give nothing better.

    An answer that was cut off is whole only where its own asker named the length. One that a filter stopped may go well
    elsewhere, and the ids of tool calls must not come twice in a conversation.
    """
    cut_as_asked = finish.reason == "length" and wish.prompt.sampling.max_tokens is not None
    return wish.use_cache and (finish.reason == "stop" or cut_as_asked)


def _size(chunk: Chunk) -> int:
    match chunk:
        case TextDelta(text) | ReasoningDelta(text):
            return 64 + len(text.encode("utf-8", "replace"))
        case ToolCallDelta():
            return 128 + len(chunk.arguments.encode("utf-8", "replace"))
        case Vectors(values):
            return 64 + sum(len(vector) + 48 for vector in values)
        case Finish():
            return 256
