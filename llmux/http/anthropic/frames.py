"""An answer as a stream of Anthropic's events, each under its name.

`message_start`, then the blocks one after the other (`content_block_start`, its deltas, `content_block_stop`), `message_delta`
with stop reason and usage, `message_stop`. The usage in `message_start` is zero: no provider tells it before the end, and
the one in `message_delta` is whole and replaces it. No ping is ever sent, as it would hide from a client that nothing comes.
"""

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from llmux.http.anthropic.errors import error_body
from llmux.http.anthropic.message import (
    AnswerMessage,
    ContentBlock,
    MessageUsage,
    StopReason,
    TextBlock,
    ThinkingBlock,
    message_id,
    stop_reason_of,
    usage_of,
)
from llmux.http.errors import Problem
from llmux.http.exchange import Exchange
from llmux.http.meta import Meta, meta_of
from llmux.http.streams import EventFrames
from llmux.prompts import Chunk, Finish, ReasoningDelta, TextDelta, Usage

if TYPE_CHECKING:
    from llmux.actors.request import Request


class MessageStart(msgspec.Struct, frozen=True, tag_field="type", tag="message_start"):
    """The answer begins."""

    message: AnswerMessage


class BlockStart(msgspec.Struct, frozen=True, tag_field="type", tag="content_block_start"):
    """A block begins, empty."""

    index: int
    content_block: ContentBlock


class MoreText(msgspec.Struct, frozen=True, tag_field="type", tag="text_delta"):
    """More text."""

    text: str


class MoreThinking(msgspec.Struct, frozen=True, tag_field="type", tag="thinking_delta"):
    """More of the thoughts that the model shows."""

    thinking: str


class BlockDelta(msgspec.Struct, frozen=True, tag_field="type", tag="content_block_delta"):
    """More of a block."""

    index: int
    delta: MoreText | MoreThinking


class BlockStop(msgspec.Struct, frozen=True, tag_field="type", tag="content_block_stop"):
    """A block is complete."""

    index: int


class End(msgspec.Struct, frozen=True):
    """How the answer ended."""

    stop_reason: StopReason
    stop_sequence: str | None
    stop_details: None = None
    container: None = None


class MessageDelta(msgspec.Struct, frozen=True, tag_field="type", tag="message_delta"):
    """The answer's end, with its whole usage."""

    delta: End
    usage: MessageUsage
    meta: Meta = msgspec.field(name="_meta")


class MessageStop(msgspec.Struct, frozen=True, tag_field="type", tag="message_stop"):
    """The stream is complete."""


Event = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop
Kind = Literal["text", "thinking"]


def named_frame(event: Event) -> bytes:
    """An event under its own name."""
    return _frame(str(type(event).__struct_config__.tag), event)


def _frame(name: str, payload: Any) -> bytes:
    return f"event: {name}\n".encode() + b"data: " + msgspec.json.encode(payload) + b"\n\n"


class MessageFrames(EventFrames):
    """The events of one answer, as the module's caption says."""

    def __init__(self, exchange: Exchange, request: "Request", *, shows_thinking: bool):
        self._exchange, self._request, self._shows_thinking = exchange, request, shows_thinking
        self._index = 0
        self._open: Kind | None = None

    def opening(self) -> bytes:
        message = AnswerMessage(
            id=message_id(self._request),
            role="assistant",
            model=self._request.model,
            content=(),
            stop_reason=None,
            stop_sequence=None,
            usage=usage_of(Usage()),
        )
        return named_frame(MessageStart(message))

    def chunk(self, chunk: Chunk) -> bytes:
        if isinstance(chunk, TextDelta):
            return self._block("text") + named_frame(BlockDelta(self._index, MoreText(chunk.text)))
        if isinstance(chunk, ReasoningDelta) and self._shows_thinking:
            return self._block("thinking") + named_frame(BlockDelta(self._index, MoreThinking(chunk.text)))
        return self._end(chunk) if isinstance(chunk, Finish) else b""

    def _block(self, kind: Kind) -> bytes:
        """Nothing where a block of that kind is open; else its beginning, after the end of the one before."""
        if self._open == kind:
            return b""
        ended = self._close()
        self._open = kind
        empty = TextBlock("") if kind == "text" else ThinkingBlock("")
        return ended + named_frame(BlockStart(self._index, empty))

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        ended = named_frame(BlockStop(self._index))
        self._open, self._index = None, self._index + 1
        return ended

    def _end(self, finish: Finish) -> bytes:
        end = End(stop_reason_of(finish), finish.stop_sequence or None)
        meta = meta_of(self._exchange, self._request, finish)
        return self._close() + named_frame(MessageDelta(end, usage_of(finish.usage), meta)) + named_frame(MessageStop())

    def failure(self, problem: Problem) -> bytes:
        return _frame("error", error_body(problem, self._exchange.id))
