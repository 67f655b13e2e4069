"""Token counts under OpenAI's names, and `_meta`: what LLMux adds to OpenAI's answers."""

from typing import TYPE_CHECKING

import msgspec

from llmux.http.exchange import Exchange
from llmux.prompts import Finish, Usage

if TYPE_CHECKING:
    from llmux.actors.request import Request


class PromptDetails(msgspec.Struct, frozen=True):
    """What is known of the prompt's tokens."""

    cached_tokens: int
    cache_write_tokens: int


class CompletionDetails(msgspec.Struct, frozen=True):
    """What is known of the answer's tokens."""

    reasoning_tokens: int


class TokenUsage(msgspec.Struct, frozen=True):
    """Real token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class Meta(msgspec.Struct, frozen=True):
    """Who answered and how; `ignored` names the wishes that were not carried out."""

    provider: str
    attempts: int
    duration_ms: int
    request_id: str
    cached: bool
    ignored: list[str]


def usage_of(usage: Usage) -> TokenUsage:
    """Token counts under OpenAI's names."""
    return TokenUsage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details=PromptDetails(usage.cached_input_tokens, usage.cache_write_input_tokens),
        completion_tokens_details=CompletionDetails(usage.reasoning_tokens),
    )


def meta_of(exchange: Exchange, request: "Request", finish: Finish) -> Meta:
    """What LLMux tells beside the answer."""
    return Meta(
        provider=request.provider,
        attempts=request.attempts,
        duration_ms=request.duration_ms,
        request_id=request.id,
        cached=request.source == "cache",
        ignored=exchange.ignored_with(finish),
    )
