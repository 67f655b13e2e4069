"""A problem as OpenAI's clients read it."""

import msgspec
from msgspec import UNSET, UnsetType

from llmux.failures import Excluded
from llmux.http.errors import Problem


class ErrorDetails(msgspec.Struct, frozen=True):
    """A failure. `excluded` tells per provider why none could answer."""

    message: str
    type: str
    param: str | None
    code: str
    excluded: tuple[Excluded, ...] | UnsetType = UNSET


class OpenAIError(msgspec.Struct, frozen=True):
    """The body of a failure, and the frame that ends a stream which fails."""

    error: ErrorDetails


def error_body(problem: Problem, request_id: str) -> OpenAIError:
    """A problem as this dialect writes it."""
    return OpenAIError(
        ErrorDetails(
            message=problem.message,
            type=error_type(problem),
            param=problem.param,
            code=problem.code,
            excluded=problem.excluded or UNSET,
        )
    )


def error_type(problem: Problem) -> str:
    """OpenAI's word for whose fault it is."""
    if problem.status == 429:
        return problem.code if problem.code == "insufficient_quota" else "rate_limit_exceeded"
    known = {401: "authentication_error", 403: "permission_error"}
    return known.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")
