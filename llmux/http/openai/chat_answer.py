"""What OpenAI's chat completions answer with: a whole answer, and the chunks of a stream. Pure."""

from typing import Literal

import msgspec

from llmux.http.meta import Meta
from llmux.http.openai.usage import TokenUsage
from llmux.prompts import Answer, FinishReason, ToolCallDelta


class CalledFunction(msgspec.Struct, frozen=True):
    """What is to be called. `arguments` is the model's own text, which should be JSON but may not be."""

    name: str
    arguments: str


class AnswerCall(msgspec.Struct, frozen=True):
    """A tool that the model asks the client to run."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class AnswerMessage(msgspec.Struct, frozen=True):
    """What the model said; `reasoning_content` is what it showed of its thoughts. Null content: it only called tools."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: tuple[AnswerCall, ...] | msgspec.UnsetType = msgspec.UNSET


class Choice(msgspec.Struct, frozen=True):
    """The answer; there is always one."""

    index: int
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: None = None


class Completion(msgspec.Struct, frozen=True):
    """A whole answer. `created` is in seconds. No provider tells a service tier or a fingerprint, so these are null."""

    id: str
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: TokenUsage
    meta: Meta = msgspec.field(name="_meta")
    object: Literal["chat.completion"] = "chat.completion"
    service_tier: None = None
    system_fingerprint: None = None


class FunctionDelta(msgspec.Struct, frozen=True):
    """More of what is to be called. The name comes once, with the first piece."""

    arguments: str
    name: str | msgspec.UnsetType = msgspec.UNSET


class CallDelta(msgspec.Struct, frozen=True):
    """More of the tool call number `index`. Id and type come once, with the first piece."""

    index: int
    function: FunctionDelta
    id: str | msgspec.UnsetType = msgspec.UNSET
    type: Literal["function"] | msgspec.UnsetType = msgspec.UNSET


class Delta(msgspec.Struct, frozen=True):
    """More of the answer."""

    role: Literal["assistant"] | msgspec.UnsetType = msgspec.UNSET
    content: str | msgspec.UnsetType = msgspec.UNSET
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: tuple[CallDelta, ...] | msgspec.UnsetType = msgspec.UNSET


class ChunkChoice(msgspec.Struct, frozen=True):
    """The answer's next piece; the last one, which is empty, has the finish reason."""

    index: int
    delta: Delta
    logprobs: None = None
    finish_reason: FinishReason | None = None


class CompletionChunk(msgspec.Struct, frozen=True):
    """One frame of a stream. With `stream_options.include_usage` one more frame, without choices, has the usage."""

    id: str
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    meta: Meta | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="_meta")
    usage: TokenUsage | msgspec.UnsetType | None = msgspec.UNSET


def message_of(answer: Answer) -> AnswerMessage:
    """An answer as the assistant's message."""
    calls = tuple(AnswerCall(call.id, CalledFunction(call.name, call.arguments)) for call in answer.tool_calls)
    return AnswerMessage(
        content=answer.text if answer.text or not calls else None,
        reasoning_content=answer.reasoning or msgspec.UNSET,
        tool_calls=calls or msgspec.UNSET,
    )


def call_delta_of(chunk: ToolCallDelta) -> CallDelta:
    """A piece of a tool call as the client reads it."""
    return CallDelta(
        index=chunk.index,
        function=FunctionDelta(chunk.arguments, chunk.name or msgspec.UNSET),
        id=chunk.id or msgspec.UNSET,
        type="function" if chunk.id else msgspec.UNSET,
    )
