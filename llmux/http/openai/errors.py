"""A problem as OpenAI's clients read it."""

from typing import Any

from llmux.http.errors import Problem


def error_body(problem: Problem, request_id: str) -> dict[str, Any]:
    """The body of a failure; `excluded` tells per provider why none could answer."""
    error: dict[str, Any] = {
        "message": problem.message,
        "type": error_type(problem),
        "param": problem.param,
        "code": problem.code,
    }
    if problem.excluded:
        error["excluded"] = problem.excluded
    return {"error": error}


def error_type(problem: Problem) -> str:
    """OpenAI's word for whose fault it is."""
    if problem.status == 429:
        return problem.code if problem.code == "insufficient_quota" else "rate_limit_exceeded"
    known = {401: "authentication_error", 403: "permission_error"}
    return known.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")
