"""OpenAI's chat completions: the body of a request, and the wish it stands for. Pure.

What cannot be done is refused where the answer would be another one (`n` > 1, tools, audio), and reported in `x-llmux-ignored`
where it would only be a little different (penalties, logprobs, top_k). Unknown fields are ignored.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from llmux.actors.messages import Principal, Wish
from llmux.config import Limits, Settings
from llmux.failures import ClientFailure
from llmux.http.bodies import check_count, check_depth, decoded, unsupported
from llmux.http.openai_messages import ChatMessage, conversation_of
from llmux.prompts import Prompt, Sampling

Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class StreamOptions(msgspec.Struct, frozen=True):
    """What a stream holds beside the answer."""

    include_usage: bool | None = None


class JsonSchema(msgspec.Struct, frozen=True):
    """The schema that the answer must follow."""

    schema: dict[str, Any] | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """Text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatBody(msgspec.Struct, frozen=True):
    """The body of a request. Null means: not given."""

    messages: list[ChatMessage] | None = None
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    stop: str | list[str] | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Effort | None = None
    n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    function_call: Any = None
    modalities: list[str] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    prediction: Any = None
    verbosity: str | None = None
    top_k: Any = None
    min_p: Any = None
    web_search_options: Any = None


class ChatWish(msgspec.Struct, frozen=True):
    """A wish, and what the response has to look like."""

    wish: Wish
    include_usage: bool
    ignored: tuple[str, ...]


_IGNORED = (
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "prediction",
    "verbosity",
    *("top_k", "min_p"),  # not OpenAI's, but of many who speak its dialect
    "web_search_options",
)


def chat_wish_of(
    body: bytes, endpoint: str, principal: Principal, settings: Settings, *, use_cache: bool = True
) -> ChatWish:
    """What the body of a request asks for. Without `model` it is for the default provider. Raises ClientFailure."""
    chat = decoded(body, ChatBody)
    _refuse(chat)
    wish = Wish(
        prompt=_prompt(chat, settings.limits),
        principal=principal,
        endpoint=endpoint,
        provider="" if chat.model else settings.default_provider,
        model=chat.model or "",
        stream=bool(chat.stream),
        use_cache=use_cache,
    )
    include_usage = bool(chat.stream_options and chat.stream_options.include_usage)
    return ChatWish(wish, include_usage, tuple(name for name in _IGNORED if getattr(chat, name)))


def _refuse(chat: ChatBody) -> None:
    """Raises ClientFailure for what cannot be done."""
    if chat.n is not None and chat.n > 1:
        raise unsupported("n", "n must be 1: one answer per request.")
    for name in ("tools", "tool_choice", "functions", "function_call"):
        if getattr(chat, name):
            raise unsupported(name, f"{name}: tools are not supported yet.")
    if chat.modalities is not None and chat.modalities != ["text"]:
        raise unsupported("modalities", "modalities: only text is answered.")


def _prompt(chat: ChatBody, limits: Limits) -> Prompt:
    messages = chat.messages or []
    check_count(messages, limits.messages_max, "messages")
    system, turns = conversation_of(messages)
    stop = (chat.stop,) if isinstance(chat.stop, str) else tuple(chat.stop or ())
    check_count(stop, limits.stop_sequences_max, "stop")
    if not all(stop):
        raise ClientFailure("A stop sequence cannot be empty.", param="stop")
    sampling = Sampling(
        temperature=chat.temperature,
        top_p=chat.top_p,
        stop=stop,
        max_tokens=chat.max_completion_tokens or chat.max_tokens,
        seed=chat.seed,
        reasoning_effort=chat.reasoning_effort,
    )
    return Prompt(messages=turns, system=system, sampling=sampling, json_schema=_schema(chat.response_format, limits))


def _schema(form: ResponseFormat | None, limits: Limits) -> Mapping[str, Any] | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {}
    param = "response_format.json_schema.schema"
    if form.json_schema is None or form.json_schema.schema is None:
        raise ClientFailure(f"{param} is required with the type json_schema.", param=param)
    check_depth(form.json_schema.schema, limits.json_depth_max, param)
    return form.json_schema.schema
