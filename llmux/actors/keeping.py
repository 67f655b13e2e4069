"""What is kept of a request: from its end, as the journal sees it, to a row in the file of kept texts. Pure."""

from llmux.actors.actor import Message
from llmux.actors.request import Request
from llmux.events import RecordedEvent, RequestCompleted, RequestFailed
from llmux.eventstore import KeptContent, KeptText
from llmux.prompts import (
    Chunk,
    Finish,
    Prompt,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    answer_of,
    size_bytes,
)


class Keep(Message[None], frozen=True):
    """A request has ended. `chunks` is all that was answered, without the Finish; `bytes` is roughly what it all weighs."""

    request: str
    key: str
    prompt: Prompt
    chunks: tuple[Chunk, ...]
    finish: str
    code: str
    bytes: int


def keep_of(request: Request, end: RecordedEvent) -> Keep:
    """What is kept of a request whose terminal fact is `end`."""
    fact = end.fact
    finish = fact.finish if isinstance(fact, RequestCompleted) else ""
    code = fact.code if isinstance(fact, RequestFailed) else "" if finish else "cancelled"
    prompt, chunks = request.wish.prompt, request.answered
    size = size_bytes(prompt) + sum(map(_size, chunks))
    return Keep(request.id, request.wish.principal.id, prompt, chunks, finish, code, size)


def content_of(keep: Keep, now: int, until: int) -> KeptContent:
    """The row that is kept. `now` and `until` are wall time in ms."""
    answer = answer_of((*keep.chunks, Finish("stop", Usage())))
    calls = tuple(ToolCall(_clean(each.id), _clean(each.name), _clean(each.arguments)) for each in answer.tool_calls)
    text = KeptText(keep.prompt, _clean(answer.text), _clean(answer.reasoning), calls)
    return KeptContent(keep.request, keep.key, now, until, keep.finish, keep.code, text)


def _clean(text: str) -> str:
    """The text as UTF-8 can hold it: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _size(chunk: Chunk) -> int:
    """Roughly what a chunk weighs, in bytes."""
    if isinstance(chunk, ToolCallDelta):
        return len(chunk.id) + len(chunk.name) + len(chunk.arguments)
    return len(chunk.text) if isinstance(chunk, TextDelta | ReasoningDelta) else 0
