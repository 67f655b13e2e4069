"""Token counts under OpenAI's names."""

import msgspec

from llmux.prompts import Usage


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


def usage_of(usage: Usage) -> TokenUsage:
    """Token counts under OpenAI's names."""
    return TokenUsage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details=PromptDetails(usage.cached_input_tokens, usage.cache_write_input_tokens),
        completion_tokens_details=CompletionDetails(usage.reasoning_tokens),
    )
