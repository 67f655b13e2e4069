"""One place where every exception becomes an HTTP status, a code, a sentence and headers; the dialects only choose the JSON shape.

A `Problem` never holds a traceback, an internal name or anything of a prompt.
"""

import math
from collections.abc import Callable
from http import HTTPStatus

import msgspec
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from llmux.failures import (
    AnswerUnavailable,
    ClientFailure,
    DirectoryInUse,
    Excluded,
    Kind,
    LimitReached,
    LLMuxError,
    LogDamaged,
    NoRoute,
    ProviderFailure,
    StoreFull,
)

RETRY_AFTER_MS_MAX = 120_000
"""OpenAI's client does not retry at all after a longer Retry-After; we tell it so (and everybody else) in so many words"""

_RETRIED_BY_CLIENTS = frozenset({408, 409, 429})
_PASSING_REASONS = frozenset(
    {Kind.RATE_LIMITED, Kind.OVERLOADED, Kind.TIMED_OUT, Kind.CRASHED, Kind.GARBLED, Kind.UNAVAILABLE}
)
"""why a provider could not answer, where it may a moment later"""
_SENTENCES = {
    400: ("invalid_request", "The request cannot be read."),
    404: ("not_found", "There is nothing at this path."),
    405: ("method_not_allowed", "This path does not take that method."),
    408: ("body_timeout", "The body of the request did not arrive in time."),
    413: ("request_too_large", "The body of the request is too large."),
}


class Problem(msgspec.Struct, frozen=True):
    """What a client is told about a failure.

    `retry_after_ms` is None where nobody knows; `hopeless` says that the same request cannot succeed soon, so that a client
    need not try; `allow` lists the methods of a path that was called with another one.
    """

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after_ms: int | None = None
    hopeless: bool = False
    excluded: tuple[Excluded, ...] = ()
    allow: tuple[str, ...] = ()

    @property
    def retry_after_s(self) -> int | None:
        """Whole seconds, rounded up, at least 1; None where nobody knows."""
        return None if self.retry_after_ms is None else max(1, math.ceil(self.retry_after_ms / 1000))

    def headers(self) -> dict[str, str]:
        """The headers that go with the status."""
        headers = {}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(self.retry_after_s)
            headers["retry-after-ms"] = str(max(1, self.retry_after_ms or 0))
        if self.hopeless:
            headers["x-should-retry"] = "false"
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.allow:
            headers["allow"] = ", ".join(self.allow)
        return headers


ErrorBody = Callable[[Problem, str], msgspec.Struct]
"""How a dialect writes a problem: (problem, request id) -> what becomes the JSON body."""


def problem_of(error: BaseException, now: int) -> Problem:
    """What is told about `error`; `now` is wall time in ms. Total: whatever is unforeseen is an `internal_error`."""
    if isinstance(error, LLMuxError):
        return _of_failure(error, now)
    if isinstance(error, HTTPException):
        return _of_http(error)
    return Problem(
        status=500,
        code="internal_error",
        message="The gateway failed where it should not have. Its log says more under the id of this request.",
    )


def _of_failure(error: LLMuxError, now: int) -> Problem:
    retry_after_ms = error.retry_after_ms
    if retry_after_ms is None and isinstance(error, ProviderFailure) and error.resets_at is not None:
        retry_after_ms = max(1000, error.resets_at - now)
    return Problem(
        status=error.status,
        code=error.code,
        message=str(error),
        param=error.param if isinstance(error, ClientFailure) else None,
        retry_after_ms=retry_after_ms,
        hopeless=_hopeless(error, retry_after_ms),
        excluded=error.excluded if isinstance(error, NoRoute) else (),
    )


def _hopeless(error: LLMuxError, retry_after_ms: int | None) -> bool:
    if retry_after_ms is not None:
        return retry_after_ms > RETRY_AFTER_MS_MAX
    if error.status < 500 and error.status not in _RETRIED_BY_CLIENTS:
        return True
    if isinstance(error, ProviderFailure):
        return error.kind not in _PASSING_REASONS
    if isinstance(error, NoRoute):
        return not any(each.reason in _PASSING_REASONS for each in error.excluded)
    return isinstance(error, AnswerUnavailable | LimitReached | StoreFull | LogDamaged | DirectoryInUse)


def _of_http(error: HTTPException) -> Problem:
    status = error.code or 500
    code, message = _SENTENCES.get(status) or (f"http_{status}", HTTPStatus(status).phrase + ".")
    allow = tuple(sorted(error.valid_methods or ())) if isinstance(error, MethodNotAllowed) else ()
    return Problem(
        status=status,
        code=code,
        message=message,
        hopeless=status < 500 and status not in _RETRIED_BY_CLIENTS,
        allow=allow,
    )
