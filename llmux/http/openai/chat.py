"""POST /v1/chat/completions.

Beside OpenAI's own fields an answer has `_meta` (provider, attempts, duration_ms, request_id, cached, ignored), a stream in its
chunk with the finish reason; and the same in headers: x-llmux-provider, x-llmux-attempts, x-llmux-cache (hit, joined or miss) and
x-llmux-ignored (of a stream: what is known when it begins).
"""

from functools import partial
from typing import TYPE_CHECKING

import msgspec
from quart import Response

from llmux.http.access import Caller, Door, body_bytes
from llmux.http.errors import Problem
from llmux.http.exchange import Exchange, current, json_response
from llmux.http.meta import meta_of
from llmux.http.openai.chat_answer import (
    Choice,
    ChunkChoice,
    Completion,
    CompletionChunk,
    Delta,
    call_delta_of,
    message_of,
)
from llmux.http.openai.chat_body import ChatBody, chat_wish_of
from llmux.http.openai.errors import error_body
from llmux.http.openai.usage import TokenUsage, usage_of
from llmux.http.operations import Operation
from llmux.http.streams import DONE, EventFrames, frame, route_headers, stream
from llmux.prompts import Answer, Chunk, Finish, ReasoningDelta, TextDelta, ToolCallDelta

if TYPE_CHECKING:
    from llmux.actors.request import Request
    from llmux.actors.system import System

CHAT = "/v1/chat/completions"
OPERATION = Operation(
    "Answer a conversation", tag="OpenAI", body=ChatBody, answer=Completion, frame=CompletionChunk, generates=True
)


def register(door: Door, system: "System") -> None:
    """Opens the route."""
    door.route("POST", CHAT, _chat, Caller.USER, error_body, OPERATION)


async def _chat() -> Response:
    exchange = current()
    asked = chat_wish_of(await body_bytes(), CHAT, exchange.principal, exchange.system.settings)
    request = exchange.begin(asked.wish, asked.ignored)
    created = exchange.system.clock.now() // 1000
    if asked.wish.stream:
        return await stream(
            exchange, request, partial(ChatFrames, exchange, request, created, with_usage=asked.include_usage)
        )
    answer = await request.answer()
    return json_response(
        _completion(exchange, request, created, answer), headers=route_headers(exchange, request, answer.finish)
    )


def _completion(exchange: Exchange, request: "Request", created: int, answer: Answer) -> Completion:
    return Completion(
        id=completion_id(request),
        created=created,
        model=request.model,
        choices=(Choice(0, message_of(answer), answer.finish.reason),),
        usage=usage_of(answer.finish.usage),
        meta=meta_of(exchange, request, answer.finish),
    )


def completion_id(request: "Request") -> str:
    """The id of a completion: the request id under OpenAI's prefix."""
    return "chatcmpl-" + request.id.replace("-", "")


class ChatFrames(EventFrames):
    """A chunk with the role, one per delta, one with the finish reason, one with the usage where it was asked for, `[DONE]`."""

    def __init__(self, exchange: Exchange, request: "Request", created: int, *, with_usage: bool):
        self._exchange, self._request = exchange, request
        self._created, self._with_usage = created, with_usage

    def opening(self) -> bytes:
        return self._frame(Delta(role="assistant", content=""))

    def chunk(self, chunk: Chunk) -> bytes:
        match chunk:
            case TextDelta(text):
                return self._frame(Delta(content=text))
            case ReasoningDelta(text):
                return self._frame(Delta(reasoning_content=text))
            case ToolCallDelta():
                return self._frame(Delta(tool_calls=(call_delta_of(chunk),)))
            case Finish():
                return self._end(chunk)
        return b""

    def _frame(self, delta: Delta, finish: Finish | None = None) -> bytes:
        choice = ChunkChoice(0, delta, finish_reason=finish.reason if finish is not None else None)
        return self._chunk((choice,), finish, None)

    def _chunk(self, choices: tuple[ChunkChoice, ...], finish: Finish | None, usage: TokenUsage | None) -> bytes:
        return frame(
            CompletionChunk(
                id=completion_id(self._request),
                created=self._created,
                model=self._request.model,
                choices=choices,
                meta=meta_of(self._exchange, self._request, finish) if finish is not None else msgspec.UNSET,
                usage=usage if self._with_usage else msgspec.UNSET,
            )
        )

    def _end(self, finish: Finish) -> bytes:
        end = self._frame(Delta(), finish)
        if self._with_usage:
            end += self._chunk((), None, usage_of(finish.usage))
        return end + DONE

    def failure(self, problem: Problem) -> bytes:
        return frame(error_body(problem, self._exchange.id)) + DONE
