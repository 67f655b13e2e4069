"""A problem as Anthropic's clients read it."""

from typing import Any

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


def error_body(problem: Problem, request_id: str) -> dict[str, Any]:
    """The body of a failure. `details` holds LLMux's own code (the SDKs' `error_code`) and what else is known.

    Clients such as Claude Code know a conversation that is too long by Anthropic's words, so these come first.
    """
    too_long = problem.code == "context_length_exceeded"
    details: dict[str, Any] = {"error_code": problem.code}
    if problem.param is not None:
        details["param"] = problem.param
    if problem.excluded:
        details["excluded"] = problem.excluded
    error = {
        "type": error_type(problem),
        "message": f"prompt is too long: {problem.message}" if too_long else problem.message,
        "details": details,
    }
    return {"type": "error", "error": error, "request_id": request_id}


def error_type(problem: Problem) -> str:
    """Anthropic's word for what went wrong. A 503 is an overload where trying again may help."""
    if problem.status == 503:
        return "api_error" if problem.hopeless else "overloaded_error"
    return _TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "api_error")
