"""A problem as Anthropic's clients read it."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from llmux.failures import Excluded
from llmux.http.errors import Problem

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class ErrorDetails(msgspec.Struct, frozen=True):
    """LLMux's own code (the SDKs' `error_code`), and what else is known."""

    error_code: str
    param: str | UnsetType = UNSET
    excluded: tuple[Excluded, ...] | UnsetType = UNSET


class ErrorWords(msgspec.Struct, frozen=True):
    """A failure: Anthropic's word for it, and a sentence."""

    type: str
    message: str
    details: ErrorDetails


class AnthropicError(msgspec.Struct, frozen=True):
    """The body of a failure, and the data of the event `error` that ends a stream which fails."""

    type: Literal["error"]
    error: ErrorWords
    request_id: str


def error_body(problem: Problem, request_id: str) -> AnthropicError:
    """A problem as this dialect writes it.

    Clients such as Claude Code know a conversation that is too long by Anthropic's words, so these come first.
    """
    too_long = problem.code == "context_length_exceeded"
    details = ErrorDetails(
        error_code=problem.code,
        param=UNSET if problem.param is None else problem.param,
        excluded=problem.excluded or UNSET,
    )
    message = f"prompt is too long: {problem.message}" if too_long else problem.message
    return AnthropicError("error", ErrorWords(error_type(problem), message, details), request_id)


def error_type(problem: Problem) -> str:
    """Anthropic's word for what went wrong. A 503 is an overload where trying again may help."""
    if problem.status == 503:
        return "api_error" if problem.hopeless else "overloaded_error"
    return _TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "api_error")
