"""The response object of /v1/responses."""

from typing import Literal

import msgspec

from llmux.http.meta import Meta
from llmux.http.openai.responses.body import Metadata, ReasoningOptions, ResponsesBody, TextFormat, TextOptions
from llmux.http.openai.responses.items import Item
from llmux.prompts import Usage

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class InputDetails(msgspec.Struct, frozen=True):
    """What is known of the input's tokens."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(msgspec.Struct, frozen=True):
    """What is known of the output's tokens."""

    reasoning_tokens: int


class ResponseUsage(msgspec.Struct, frozen=True):
    """Real token counts."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class IncompleteDetails(msgspec.Struct, frozen=True):
    """Why an answer ends early."""

    reason: Literal["max_output_tokens", "content_filter"]


class ResponseError(msgspec.Struct, frozen=True):
    """Why an answer broke off; the words are those of an error of this API."""

    code: str
    message: str
    type: str
    param: str | None = None


class ResponseObject(msgspec.Struct, frozen=True, kw_only=True):
    """A response. Times are in seconds; what was not asked for is null, as its default is the provider's own.

    `store` says whether it is kept, so that `previous_response_id` can name it. `_meta` comes with the end.
    """

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: Status
    background: Literal[False] = False
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: Metadata
    model: str
    output: tuple[Item, ...]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: ReasoningOptions
    safety_identifier: str | None
    service_tier: Literal["default"] = "default"
    store: bool
    temperature: float | None
    text: TextOptions
    tool_choice: Literal["auto", "none"]
    tools: tuple[()] = ()
    top_logprobs: Literal[0] = 0
    top_p: float | None
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    user: str | None
    meta: Meta | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="_meta")


def begun(id: str, created_at: int, model: str, body: ResponsesBody) -> ResponseObject:
    """The response to `body` before anything was said."""
    text = body.text or TextOptions()
    return ResponseObject(
        id=id,
        created_at=created_at,
        status="in_progress",
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        max_tool_calls=body.max_tool_calls,
        metadata=body.metadata or {},
        model=model,
        output=(),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        previous_response_id=body.previous_response_id,
        prompt_cache_key=body.prompt_cache_key,
        reasoning=body.reasoning or ReasoningOptions(),
        safety_identifier=body.safety_identifier,
        store=body.store is not False,
        temperature=body.temperature,
        text=TextOptions(text.format or TextFormat("text"), text.verbosity),
        tool_choice="none" if body.tool_choice == "none" else "auto",
        top_p=body.top_p,
        user=body.user,
    )


def usage_of(usage: Usage) -> ResponseUsage:
    """Token counts under the names of this API."""
    return ResponseUsage(
        input_tokens=usage.input_tokens,
        input_tokens_details=InputDetails(usage.cached_input_tokens, usage.cache_write_input_tokens),
        output_tokens=usage.output_tokens,
        output_tokens_details=OutputDetails(usage.reasoning_tokens),
        total_tokens=usage.total_tokens,
    )
