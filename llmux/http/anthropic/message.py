"""A whole answer in Anthropic's words."""

from typing import TYPE_CHECKING, Literal

import msgspec

from llmux.http.exchange import Exchange
from llmux.http.meta import Meta, meta_of
from llmux.prompts import Answer, Finish, FinishReason, Usage

if TYPE_CHECKING:
    from llmux.actors.request import Request

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]
_REASONS: dict[FinishReason, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "content_filter": "refusal",
    "tool_calls": "tool_use",
}


class TextBlock(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """What the model said."""

    text: str
    citations: None = None


class ThinkingBlock(msgspec.Struct, frozen=True, tag_field="type", tag="thinking"):
    """What the model showed of its thoughts. `signature` is empty: only Anthropic itself signs."""

    thinking: str
    signature: str = ""


ContentBlock = TextBlock | ThinkingBlock


class OutputDetails(msgspec.Struct, frozen=True):
    """What is known of the answer's tokens."""

    thinking_tokens: int


class MessageUsage(msgspec.Struct, frozen=True):
    """Real token counts. The prompt has the sum of the first three; `input_tokens` are those that no cache was involved in."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: OutputDetails


class AnswerMessage(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """An answer; in `message_start`, one that has not begun."""

    id: str
    role: Literal["assistant"]
    model: str
    content: tuple[ContentBlock, ...]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage
    stop_details: None = None
    container: None = None
    meta: Meta | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="_meta")


def message_of(exchange: Exchange, request: "Request", answer: Answer, *, shows_thinking: bool) -> AnswerMessage:
    """The answer to a request that is not streamed."""
    thoughts = (ThinkingBlock(answer.reasoning),) if answer.reasoning and shows_thinking else ()
    return AnswerMessage(
        id=message_id(request),
        role="assistant",
        model=request.model,
        content=(*thoughts, *((TextBlock(answer.text),) if answer.text else ())),
        stop_reason=stop_reason_of(answer.finish),
        stop_sequence=answer.finish.stop_sequence or None,
        usage=usage_of(answer.finish.usage),
        meta=meta_of(exchange, request, answer.finish),
    )


def message_id(request: "Request") -> str:
    """The id of a message: the request id under Anthropic's prefix."""
    return "msg_" + request.id.replace("-", "")


def stop_reason_of(finish: Finish) -> StopReason:
    """Why the answer ended. A stop sequence is named where the provider says which it was."""
    return "stop_sequence" if finish.stop_sequence and finish.reason == "stop" else _REASONS[finish.reason]


def usage_of(usage: Usage) -> MessageUsage:
    """Token counts as Anthropic counts: what was read from a cache or written to one stands apart."""
    cached = usage.cached_input_tokens + usage.cache_write_input_tokens
    return MessageUsage(
        input_tokens=max(0, usage.input_tokens - cached),
        cache_creation_input_tokens=usage.cache_write_input_tokens,
        cache_read_input_tokens=usage.cached_input_tokens,
        output_tokens=usage.output_tokens,
        output_tokens_details=OutputDetails(usage.reasoning_tokens),
    )
