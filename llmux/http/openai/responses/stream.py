"""A response on its way to one client: whole, or as a stream of named events.

A stream ends with response.completed, response.incomplete or response.failed; there is no [DONE], as OpenAI sends none here.
Before response.failed there is an `error` event in OpenAI's own form, with an `error` object: OpenAI's SDKs raise on that, while
they, and what is built on them, take response.failed for an event like any other, so that half an answer would look whole.
"""

from itertools import count
from typing import TYPE_CHECKING, Literal

import msgspec

from llmux.http.errors import Problem
from llmux.http.exchange import Exchange
from llmux.http.meta import meta_of
from llmux.http.openai.errors import error_type
from llmux.http.openai.responses.events import (
    ErrorEvent,
    ResponseCompleted,
    ResponseCreated,
    ResponseEvent,
    ResponseFailed,
    ResponseIncomplete,
    ResponseInProgress,
    event_frame,
)
from llmux.http.openai.responses.history import PREFIX, History
from llmux.http.openai.responses.items import Item, numbered
from llmux.http.openai.responses.object import IncompleteDetails, ResponseError, ResponseObject, begun, usage_of
from llmux.http.openai.responses.output import Output
from llmux.http.openai.responses.wish import Asked
from llmux.http.streams import EventFrames
from llmux.prompts import Chunk, Finish

if TYPE_CHECKING:
    from llmux.actors.request import Request


_CUT = {"length": IncompleteDetails("max_output_tokens"), "content_filter": IncompleteDetails("content_filter")}


class Reply:
    """What is fixed about a response from its beginning, and the promise that its end is kept once, where it is to be kept."""

    def __init__(self, exchange: Exchange, request: "Request", asked: Asked, created_ms: int, history: History):
        self._exchange, self._request, self._asked = exchange, request, asked
        self._created_ms = created_ms
        self._history = history
        self._kept = False
        self.hex = request.id.replace("-", "")

    def __repr__(self) -> str:
        return f"<Reply {PREFIX}{self.hex}>"

    @property
    def _model(self) -> str:
        """What answers, or what was asked for while that is not known."""
        return self._request.model or self._asked.body.model or ""

    def begun(self) -> ResponseObject:
        """Before anything was said."""
        return begun(PREFIX + self.hex, self._created_ms // 1000, self._model, self._asked.body)

    def ended(self, output: Output, finish: Finish) -> ResponseObject:
        """The whole response, which is kept from now on."""
        details = _CUT.get(finish.reason)
        response = msgspec.structs.replace(
            self.begun(),
            status=status_of(finish),
            completed_at=(self._created_ms + self._request.duration_ms) // 1000 if details is None else None,
            incomplete_details=details,
            output=output.items,
            usage=usage_of(finish.usage),
            meta=meta_of(self._exchange, self._request, finish),
        )
        if response.store and not self._kept:  # a stream that is read again ends again
            self._kept = True
            self._history.keep(response, numbered(self._asked.items, self.hex), self._asked.previous)
        return response

    def failed(self, output: tuple[Item, ...], error: ResponseError) -> ResponseObject:
        """What there is of a response that broke off. It is not kept."""
        return msgspec.structs.replace(self.begun(), status="failed", error=error, output=output, store=False)


def status_of(finish: Finish) -> Literal["completed", "incomplete"]:
    """What an answer that ends like this is, and what its last item is."""
    return "incomplete" if finish.reason in _CUT else "completed"


async def whole(reply: Reply, request: "Request") -> tuple[ResponseObject, Finish]:
    """The response when all of it is there. Raises like `Request.receive`."""
    output = Output(reply.hex, count())
    while chunks := await request.receive():
        for chunk in chunks:
            output.take(chunk)
            if isinstance(chunk, Finish):
                output.close(status_of(chunk))
                return reply.ended(output, chunk), chunk
    raise RuntimeError("the answer ended without a Finish")


class ResponseFrames(EventFrames):
    """response.created and response.in_progress, the events of the output, and one that ends it all."""

    def __init__(self, reply: Reply):
        self._reply = reply
        self._numbers = count()
        self._output = Output(reply.hex, self._numbers)
        self._opened = False

    def opening(self) -> bytes:
        self._opened = True
        begun = self._reply.begun()
        return self._frames(
            ResponseCreated(sequence_number=next(self._numbers), response=begun),
            ResponseInProgress(sequence_number=next(self._numbers), response=begun),
        )

    def chunk(self, chunk: Chunk) -> bytes:
        if not isinstance(chunk, Finish):
            return self._frames(*self._output.take(chunk))
        status = status_of(chunk)
        closing = self._frames(*self._output.close(status))
        kind = ResponseCompleted if status == "completed" else ResponseIncomplete
        response = self._reply.ended(self._output, chunk)
        return closing + self._frames(kind(sequence_number=next(self._numbers), response=response))

    def failure(self, problem: Problem) -> bytes:
        opening = b"" if self._opened else self.opening()
        error = ResponseError(problem.code, problem.message, error_type(problem), problem.param)
        told = ErrorEvent(
            sequence_number=next(self._numbers),
            code=error.code,
            message=error.message,
            param=error.param,
            error=error,
        )
        response = self._reply.failed(self._output.broken_off(), error)
        return opening + self._frames(told, ResponseFailed(sequence_number=next(self._numbers), response=response))

    def _frames(self, *events: ResponseEvent) -> bytes:
        return b"".join(map(event_frame, events))
