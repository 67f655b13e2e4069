"""OpenAI's chat completions: the body of a request, and the wish it stands for. Pure.

What cannot be done is refused where the answer would be another one (`n` > 1, tools, web search, audio, moderation), and reported
in `x-llmux-ignored` where it would only be a little different (penalties, logprobs, top_k) or something beside the answer is missing
(`store`, a service tier). What says who is asking, or helps a cache, changes nothing here and is taken without a word. Unknown
fields are ignored.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from llmux.actors.messages import Principal, Wish
from llmux.config import Limits, Settings
from llmux.failures import ClientFailure
from llmux.http.bodies import check_count, check_depth, decoded, unsupported
from llmux.http.openai.messages import ChatMessage, conversation_of, ignored_in
from llmux.http.openai.sampling import (
    ONE_ANSWER,
    UNTOLD,
    Count,
    Effort,
    GenerationBody,
    described,
    effort_of,
    sampling_of,
)
from llmux.prompts import Prompt


class JsonSchema(msgspec.Struct, frozen=True):
    """The schema that the answer must follow, `strict` or not. A `description` is told to the model, a `name` means nothing."""

    schema: dict[str, Any] | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """Text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatBody(GenerationBody, frozen=True):
    """The body of a request. Null means: not given."""

    messages: list[ChatMessage] | None = None
    max_completion_tokens: Count | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Effort | None = None
    # refused
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    function_call: Any = None
    web_search_options: Any = None
    moderation: Any = None
    modalities: list[str] | None = None
    # ignored, and named
    audio: Any = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    prediction: Any = None
    service_tier: str | None = None
    store: bool | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    top_k: Any = None
    min_p: Any = None
    """these two are not OpenAI's, but of many who speak its dialect"""
    # without effect on an answer
    metadata: dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None


class ChatWish(msgspec.Struct, frozen=True):
    """A wish, and what the response has to look like."""

    wish: Wish
    include_usage: bool
    ignored: tuple[str, ...]


def chat_wish_of(body: bytes, endpoint: str, principal: Principal, settings: Settings) -> ChatWish:
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
    )
    return ChatWish(wish, chat.include_usage, _ignored(chat))


def _refuse(chat: ChatBody) -> None:
    """Raises ClientFailure for what cannot be done."""
    if chat.n is not None and chat.n > 1:
        raise unsupported("n", ONE_ANSWER)
    for name in ("tools", "tool_choice", "functions", "function_call"):
        if getattr(chat, name):
            raise unsupported(name, f"{name}: tools are not supported yet.")
    if chat.web_search_options is not None:
        raise unsupported("web_search_options", "web_search_options: no model here searches the web.")
    if chat.moderation:
        raise unsupported("moderation", "moderation: nothing is moderated here.")
    if set(chat.modalities or ()) - {"text"}:
        raise unsupported("modalities", "modalities: only text is answered.")


def _ignored(chat: ChatBody) -> tuple[str, ...]:
    """The wishes that no provider can carry out and that are left out."""
    left_out = {
        "frequency_penalty": chat.frequency_penalty,
        "presence_penalty": chat.presence_penalty,
        "logit_bias": chat.logit_bias,
        "logprobs": chat.logprobs,
        "top_logprobs": chat.top_logprobs,
        "prediction": chat.prediction,
        "verbosity": chat.verbosity not in (None, "medium"),
        "top_k": chat.top_k is not None,
        "min_p": chat.min_p is not None,
        "audio": chat.audio,
        "store": chat.store,
        "service_tier": chat.service_tier not in (None, "auto", "default"),
        "reasoning_effort": chat.reasoning_effort == UNTOLD,
    }
    return (*(name for name, wished in left_out.items() if wished), *ignored_in(chat.messages or []))


def _prompt(chat: ChatBody, limits: Limits) -> Prompt:
    messages = chat.messages or []
    check_count(messages, limits.messages_max, "messages")
    system, turns = conversation_of(messages)
    sampling = sampling_of(chat, limits)
    sampling = msgspec.structs.replace(
        sampling,
        max_tokens=chat.max_completion_tokens or chat.max_tokens,
        reasoning_effort=effort_of(chat.reasoning_effort),
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
    return described(form.json_schema.schema, form.json_schema.description)
