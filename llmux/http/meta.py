"""`_meta`: what LLMux adds to the answers of other dialects."""

from typing import TYPE_CHECKING

import msgspec

from llmux.http.exchange import Exchange
from llmux.prompts import Finish

if TYPE_CHECKING:
    from llmux.actors.request import Request


class Meta(msgspec.Struct, frozen=True):
    """Who answered and how; `ignored` names the wishes that were not carried out."""

    provider: str
    attempts: int
    duration_ms: int
    request_id: str
    cached: bool
    ignored: list[str]


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
