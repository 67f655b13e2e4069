"""POST /v1/completions, OpenAI's older way to ask: a text for a text. `_meta` and headers are those of chat completions."""

from functools import partial
from typing import TYPE_CHECKING, Literal

import msgspec
from quart import Response

from llmux.http.access import Caller, Door, body_bytes
from llmux.http.errors import Problem
from llmux.http.exchange import Exchange, current, json_response
from llmux.http.meta import Meta, meta_of
from llmux.http.openai.completion_body import CompletionBody, completion_wish_of
from llmux.http.openai.errors import error_body
from llmux.http.openai.usage import TokenUsage, usage_of
from llmux.http.operations import Operation
from llmux.http.streams import DONE, EventFrames, frame, route_headers, stream
from llmux.prompts import Chunk, Finish, FinishReason, TextDelta

if TYPE_CHECKING:
    from llmux.actors.request import Request
    from llmux.actors.system import System

COMPLETIONS = "/v1/completions"


class TextChoice(msgspec.Struct, frozen=True):
    """The answer, or its next piece; the last piece, which is empty, has the finish reason."""

    text: str
    index: int = 0
    logprobs: None = None
    finish_reason: FinishReason | None = None


class TextCompletion(msgspec.Struct, frozen=True):
    """An answer, or one frame of a stream. `created` is in seconds; `system_fingerprint` is null, as no provider tells one.

    With `stream_options.include_usage` one more frame, without choices, has the usage.
    """

    id: str
    created: int
    model: str
    choices: tuple[TextChoice, ...]
    object: Literal["text_completion"] = "text_completion"
    system_fingerprint: None = None
    usage: TokenUsage | msgspec.UnsetType | None = msgspec.UNSET
    meta: Meta | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="_meta")


OPERATION = Operation(
    "Answer a text",
    tag="OpenAI",
    body=CompletionBody,
    answer=TextCompletion,
    frame=TextCompletion,
    generates=True,
)


def register(door: Door, system: "System") -> None:
    """Opens the route."""
    door.route("POST", COMPLETIONS, _complete, Caller.USER, error_body, OPERATION)


async def _complete() -> Response:
    exchange = current()
    asked = completion_wish_of(await body_bytes(), COMPLETIONS, exchange.principal, exchange.system.settings)
    request = exchange.begin(asked.wish, asked.ignored)
    created = exchange.system.clock.now() // 1000
    if asked.wish.stream:
        return await stream(
            exchange, request, partial(TextFrames, exchange, request, created, with_usage=asked.include_usage)
        )
    answer = await request.answer()
    completion = TextCompletion(
        id=text_completion_id(request),
        created=created,
        model=request.model,
        choices=(TextChoice(answer.text, finish_reason=answer.finish.reason),),
        usage=usage_of(answer.finish.usage),
        meta=meta_of(exchange, request, answer.finish),
    )
    return json_response(completion, headers=route_headers(exchange, request, answer.finish))


def text_completion_id(request: "Request") -> str:
    """The id of a completion: the request id under OpenAI's prefix."""
    return "cmpl-" + request.id.replace("-", "")


class TextFrames(EventFrames):
    """A frame per piece of text, one with the finish reason, one with the usage where it was asked for, `[DONE]`."""

    def __init__(self, exchange: Exchange, request: "Request", created: int, *, with_usage: bool):
        self._exchange, self._request = exchange, request
        self._created, self._with_usage = created, with_usage

    def opening(self) -> bytes:
        return b""

    def chunk(self, chunk: Chunk) -> bytes:
        if isinstance(chunk, TextDelta):
            return self._frame((TextChoice(chunk.text),))
        return self._end(chunk) if isinstance(chunk, Finish) else b""

    def _frame(
        self, choices: tuple[TextChoice, ...], finish: Finish | None = None, usage: TokenUsage | None = None
    ) -> bytes:
        return frame(
            TextCompletion(
                id=text_completion_id(self._request),
                created=self._created,
                model=self._request.model,
                choices=choices,
                usage=usage if self._with_usage else msgspec.UNSET,
                meta=meta_of(self._exchange, self._request, finish) if finish is not None else msgspec.UNSET,
            )
        )

    def _end(self, finish: Finish) -> bytes:
        end = self._frame((TextChoice("", finish_reason=finish.reason),), finish)
        if self._with_usage:
            end += self._frame((), usage=usage_of(finish.usage))
        return end + DONE

    def failure(self, problem: Problem) -> bytes:
        return frame(error_body(problem, self._exchange.id)) + DONE
