"""The body of POST /v1/responses, what of it cannot be done, and the prompt it stands for. Pure.

What would make another answer is refused (tools, background work, stored prompts, conversations); what makes a little
difference is named as ignored. Hints that change no answer (prompt_cache_key, user) are taken and echoed. Unknown fields are
ignored.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from llmux.config import Limits
from llmux.failures import ClientFailure
from llmux.http.bodies import check_count, check_depth, unsupported
from llmux.http.openai.responses.items import GivenItem
from llmux.http.openai.sampling import UNTOLD, Count, Effort, Share, Temperature, described, effort_of
from llmux.prompts import Sampling

Summary = Literal["auto", "concise", "detailed"]
Verbosity = Literal["low", "medium", "high"]
Name = Annotated[str, msgspec.Meta(max_length=64)]
Note = Annotated[str, msgspec.Meta(max_length=512)]
Metadata = Annotated[dict[Name, Note], msgspec.Meta(max_length=16)]


class TextFormat(msgspec.Struct, frozen=True, omit_defaults=True):
    """Text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the answer's text should be like."""

    format: TextFormat | None = None
    verbosity: Verbosity | None = None


class ReasoningOptions(msgspec.Struct, frozen=True):
    """How hard to think, and what to show of it. Whatever a model shows is told, whether a summary was asked for or not."""

    effort: Effort | None = None
    summary: Summary | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """What a stream holds beside the answer."""

    include_obfuscation: bool | None = None


class ResponsesBody(msgspec.Struct, frozen=True):
    """The body of a request. Null means: not given."""

    input: str | list[GivenItem] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    max_output_tokens: Count | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Count | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    truncation: Literal["auto", "disabled"] | None = None
    include: list[str] | None = None
    service_tier: str | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None
    context_management: Any = None
    moderation: Any = None


def refuse(body: ResponsesBody) -> None:
    """Raises ClientFailure for what cannot be done."""
    if body.tools:
        raise unsupported("tools", "tools: tools are not supported yet.")
    if body.tool_choice not in (None, "auto", "none"):
        raise unsupported(
            "tool_choice", "tool_choice: tools are not supported yet; leave it out, or write auto or none."
        )
    if body.background:
        raise unsupported("background", "background: answers are given while the client waits, or streamed.")
    if body.conversation is not None:
        raise unsupported("conversation", "conversation: there are none here; use previous_response_id.")
    if body.prompt is not None:
        raise unsupported("prompt", "prompt: no prompts are stored here; send instructions and input.")


def ignored_of(body: ResponsesBody) -> tuple[str, ...]:
    """What is asked for beside the input and no provider can do."""
    names = [name for name in ("include", "top_logprobs", "context_management", "moderation") if getattr(body, name)]
    if body.truncation == "auto":  # what is too long is refused, not cut
        names.append("truncation")
    if body.service_tier not in (None, "auto", "default"):
        names.append("service_tier")
    if body.text is not None and body.text.verbosity is not None:
        names.append("text.verbosity")
    if body.reasoning is not None and body.reasoning.summary in ("concise", "detailed"):
        names.append("reasoning.summary")
    if body.reasoning is not None and body.reasoning.effort == UNTOLD:
        names.append("reasoning.effort")
    if body.stream_options is not None and body.stream_options.include_obfuscation:
        names.append("stream_options.include_obfuscation")
    return tuple(names)


def given_items(body: ResponsesBody, limits: Limits) -> list[GivenItem]:
    """The input as items. Raises ClientFailure."""
    if body.input is None:
        raise ClientFailure("input is required: a text, or a list of items.", param="input", code="missing_input")
    if isinstance(body.input, str):
        return [GivenItem(role="user", content=body.input)]
    check_count(body.input, limits.messages_max, "input")
    return body.input


def sampling_of(body: ResponsesBody) -> Sampling:
    """How the answer is to be drawn."""
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        max_tokens=body.max_output_tokens,
        reasoning_effort=effort_of(body.reasoning.effort) if body.reasoning is not None else None,
    )


def schema_of(body: ResponsesBody, limits: Limits) -> Mapping[str, Any] | None:
    """The JSON schema of the answer; {} for any object, None for text. Raises ClientFailure."""
    form = body.text.format if body.text is not None else None
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {}
    if form.schema is None:
        raise ClientFailure("text.format.schema is required with the type json_schema.", param="text.format.schema")
    check_depth(form.schema, limits.json_depth_max, "text.format.schema")
    return described(form.schema, form.description)
