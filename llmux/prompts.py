"""The canonical middle: what HTTP dialects translate to and providers translate from. Pure values, no behaviour of either side."""

import struct
from collections.abc import Mapping
from typing import Any, Literal

import msgspec


class Text(msgspec.Struct, frozen=True, tag="text"):
    """A piece of text inside a message."""

    text: str


class Image(msgspec.Struct, frozen=True, tag="image"):
    """An image given inline. `data` is base64; URLs are never fetched, so they have no form here."""

    media_type: str
    data: str


class ToolCall(msgspec.Struct, frozen=True, tag="tool_call"):
    """The model asks the client to run a tool. `arguments` is the model's own text, which should be JSON but may not be."""

    id: str
    name: str
    arguments: str


class ToolResult(msgspec.Struct, frozen=True, tag="tool_result"):
    """What the client's tool answered to the call `call_id`."""

    call_id: str
    content: tuple[Text | Image, ...]
    is_error: bool = False


Part = Text | Image | ToolCall | ToolResult


class Message(msgspec.Struct, frozen=True):
    """One turn. Tool results stand in messages of the role `user`; system text is in `Prompt.system`."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The text parts, joined without a separator."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


class Tool(msgspec.Struct, frozen=True):
    """A tool that the client offers to the model. `parameters` is a JSON schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = {}
    strict: bool = False


class ToolChoice(msgspec.Struct, frozen=True):
    """Whether the model may (`auto`), must (`required`) or must not (`none`) call a tool, and which (`names`, empty = any)."""

    mode: Literal["auto", "none", "required"] = "auto"
    names: tuple[str, ...] = ()
    parallel: bool = True


class Sampling(msgspec.Struct, frozen=True):
    """How the answer is drawn. None means: the provider's own default."""

    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    seed: int | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None


class Embedding(msgspec.Struct, frozen=True):
    """Texts whose vectors are asked for, at least one. None of `dimensions` means: as many as the model makes.

    `truncate`: of a text that is longer than the model takes in, the beginning counts; otherwise it is refused.
    """

    inputs: tuple[str, ...]
    dimensions: int | None = None
    truncate: bool = True


class Prompt(msgspec.Struct, frozen=True):
    """A whole request to a model, in no dialect. It ends with a message of the role `user`, or it is an `embedding`.

    With an `embedding` there are no messages, and the answer is `Vectors`; only some kinds of provider make them.

    `json_schema` asks for an answer that is JSON of that schema; an empty mapping asks for any JSON object. `strict`: a
    provider that cannot carry out every wish in here refuses, instead of leaving some out and saying which.
    """

    messages: tuple[Message, ...]
    system: str = ""
    sampling: Sampling = Sampling()
    json_schema: Mapping[str, Any] | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    strict: bool = False
    embedding: Embedding | None = None


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Real token counts, as the provider reported them (never guessed from characters).

    `input_tokens` includes the cached ones, `output_tokens` includes the reasoning ones.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]


class TextDelta(msgspec.Struct, frozen=True, tag="text"):
    """More text of the answer. Never empty."""

    text: str


class ReasoningDelta(msgspec.Struct, frozen=True, tag="reasoning"):
    """More of the model's visible reasoning. Never empty."""

    text: str


class ToolCallDelta(msgspec.Struct, frozen=True, tag="tool_call"):
    """More of the tool call number `index` of this answer. `id` and `name` come with its first delta only."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Vectors(msgspec.Struct, frozen=True, tag="vectors"):
    """The vectors of the next texts of an `Embedding`, one each, in the order of the texts. Never empty.

    A vector is its numbers as 32-bit floats, little end first: what models compute, in 4 bytes a number.
    """

    values: tuple[bytes, ...]


class Finish(msgspec.Struct, frozen=True, tag="finish"):
    """The last chunk of every good answer: exactly one, and nothing after it.

    `model` is the model that really answered, as the provider names it ("" where it does not say);
    `ignored` names the wishes of the prompt that this provider could not carry out, and `USAGE` where it told no token counts:
    then they are 0, and nothing is guessed; `stop_sequence` is the one of the prompt
    that ended the answer ("" where none did, or the provider does not say).
    """

    reason: FinishReason
    usage: Usage
    model: str = ""
    ignored: tuple[str, ...] = ()
    stop_sequence: str = ""


USAGE = "usage"
"""among what is named as ignored: the provider has not told its token counts"""

Chunk = TextDelta | ReasoningDelta | ToolCallDelta | Vectors | Finish


class Answer(msgspec.Struct, frozen=True):
    """A whole answer: what all its chunks add up to."""

    text: str
    finish: Finish
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    vectors: tuple[bytes, ...] = ()


def packed(numbers: "list[float]") -> bytes:
    """A vector as `Vectors` carries it. Raises OverflowError for a number that 32 bits cannot hold."""
    return struct.pack(f"<{len(numbers)}f", *numbers)


def numbers_of(vector: bytes) -> tuple[float, ...]:
    """The numbers of a vector of `Vectors`."""
    return struct.unpack(f"<{len(vector) // 4}f", vector)


def embed(*inputs: str, dimensions: int | None = None, truncate: bool = True) -> Prompt:
    """A prompt that asks for the vectors of these texts."""
    return Prompt(messages=(), embedding=Embedding(inputs, dimensions, truncate))


def user(text: str) -> Message:
    """A message of the user that is just this text."""
    return Message("user", (Text(text),))


def assistant(text: str) -> Message:
    """A message of the assistant that is just this text."""
    return Message("assistant", (Text(text),))


def answer_of(chunks: "tuple[Chunk, ...] | list[Chunk]") -> Answer:
    """Adds chunks up. Raises ValueError when they do not end with a `Finish`."""
    if not chunks or not isinstance(chunks[-1], Finish):
        raise ValueError("an answer ends with a Finish")
    calls: dict[int, ToolCall] = {}
    for chunk in chunks:
        if isinstance(chunk, ToolCallDelta):
            old = calls.get(chunk.index, ToolCall("", "", ""))
            calls[chunk.index] = ToolCall(old.id or chunk.id, old.name or chunk.name, old.arguments + chunk.arguments)
    return Answer(
        text="".join(chunk.text for chunk in chunks if isinstance(chunk, TextDelta)),
        reasoning="".join(chunk.text for chunk in chunks if isinstance(chunk, ReasoningDelta)),
        tool_calls=tuple(calls[index] for index in sorted(calls)),
        vectors=tuple(vector for chunk in chunks if isinstance(chunk, Vectors) for vector in chunk.values),
        finish=chunks[-1],
    )


def size_bytes(prompt: Prompt) -> int:
    """How large the prompt's own content is, in bytes of UTF-8 (images count as their base64 text)."""
    total = len(prompt.system.encode("utf-8", "replace"))
    if prompt.embedding is not None:
        total += sum(len(text.encode("utf-8", "replace")) for text in prompt.embedding.inputs)
    for message in prompt.messages:
        for part in message.parts:
            if isinstance(part, Text):
                total += len(part.text.encode("utf-8", "replace"))
            elif isinstance(part, Image):
                total += len(part.data)
            elif isinstance(part, ToolCall):
                total += len(part.arguments.encode("utf-8", "replace"))
            else:
                total += sum(
                    len(piece.data) if isinstance(piece, Image) else len(piece.text.encode("utf-8", "replace"))
                    for piece in part.content
                )
    return total
