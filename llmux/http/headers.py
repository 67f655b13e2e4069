"""The headers that carry something beside a body, described: what a request may wish for, and what a response tells."""

from typing import Any

from llmux.http.exchange import FALLBACK, RESUMABLE, STRICT
from llmux.http.idempotency import PARAMETER
from llmux.http.operations import Operation, Parameter
from llmux.http.streams import EventFrames

_STRICT = Parameter(STRICT, "header", "true: what cannot be carried out is refused, not left out", bool)
_FALLBACK = Parameter(FALLBACK, "header", "true: other providers may answer when those asked for cannot", bool)
_RESUMABLE = Parameter(RESUMABLE, "header", "true: a lost stream can be continued at /v1/streams/{request_id}", bool)

_EVERYWHERE = {"x-request-id": "The request's own id, as in the log; `request-id` is the same"}
_ANSWERED = {
    "x-llmux-provider": "Who answered",
    "x-llmux-model": "With which model, percent-encoded where it is not plain ASCII",
    "x-llmux-attempts": "How many attempts it took; 0 for an answer from the cache",
    "x-llmux-cache": "hit, joined (an equal request under way) or miss",
    "x-llmux-idempotency": "joined or replayed, where the Idempotency-Key was known",
    "x-llmux-ignored": "The wishes that were left out, where there are any",
}
"""of a stream, only what is known when it begins"""
_REFUSED = {
    "retry-after": "How many seconds to wait, where that is known",
    "retry-after-ms": "The same in milliseconds",
    "x-should-retry": "false: the same request cannot succeed soon",
}


def wishes_of(told: Operation) -> tuple[Parameter, ...]:
    """The headers by which a request to this route can wish for something."""
    if not told.generates:
        return ()
    streams = told.frame is not None and told.media_type == EventFrames.media_type
    return (_STRICT, _FALLBACK, PARAMETER, *((_RESUMABLE,) if streams else ()))


def told_with(status: int, told: Operation) -> dict[str, Any]:
    """The headers of a response, as OpenAPI describes them. None of them is promised but the first."""
    words = _EVERYWHERE | (_ANSWERED if told.generates else {}) | (_REFUSED if status >= 400 else {})
    return {
        name: {"description": sentence, "required": name in _EVERYWHERE, "schema": {"type": "string"}}
        for name, sentence in words.items()
    }
