"""GET /v1/streams/{request_id}: reads a stream again, behind the event that `Last-Event-ID` names, or from its beginning.

What comes is what the first connection would have got, byte for byte: the frames are made again by what made them, and those
that the client has are left out. Only comments, which fill silences, follow each connection's own time.
"""

from typing import TYPE_CHECKING

from quart import Response, request

from llmux.failures import ClientFailure
from llmux.http.access import Caller, Door
from llmux.http.exchange import current
from llmux.http.numbering import Numbering
from llmux.http.openai.errors import error_body
from llmux.http.operations import Operation, Parameter
from llmux.http.streams import EventStream, Telling, stream_headers

if TYPE_CHECKING:
    from llmux.actors.system import System

LAST_SEEN = "Last-Event-ID"
DIGITS_MAX = 18

OPERATION = Operation(
    "Continue a stream after a lost connection",
    tag="LLMux",
    description="The stream of a request that had `x-llmux-resumable: true`, in the dialect in which it began. "
    "204: the client has seen the last event.",
    parameters=(
        Parameter("request_id", "path", "The x-request-id of the response that began the stream"),
        Parameter(LAST_SEEN, "header", "The id of the last event that arrived; without it, the whole stream comes"),
    ),
    failures=(204, 404),
)


def register(door: Door, system: "System") -> None:
    """Opens the route."""
    door.route("GET", "/v1/streams/<request_id>", _resume, Caller.USER, error_body, OPERATION)


async def _resume(request_id: str) -> Response:
    exchange, seen = current(), _seen()
    place = exchange.resume(request_id)
    telling = place.how
    assert isinstance(telling, Telling)
    numbering, frames = Numbering(seen), telling.make()
    body = EventStream(telling.exchange, place.request, place, frames, numbering)
    there = await body.catch_up(place)
    if numbering.count < seen:
        raise ClientFailure(
            f"{LAST_SEEN} is {seen}, but the stream has had {numbering.count} events.",
            param=LAST_SEEN,
            code="invalid_last_event_id",
        )
    exchange.filler = frames.keep_alive
    exchange.ignored = telling.exchange.ignored
    headers = stream_headers(exchange, place.request)
    if body.ended and not there:
        return Response(b"", 204, headers=headers)
    body.silent = not there
    return Response(body, headers=headers, content_type=frames.media_type)


def _seen() -> int:
    value = request.headers.get(LAST_SEEN, "").strip()
    if value and not (value.isascii() and value.isdigit() and len(value) <= DIGITS_MAX):
        raise ClientFailure(
            f"{LAST_SEEN} is the id of an event of the stream: a number.",
            param=LAST_SEEN,
            code="invalid_last_event_id",
        )
    return int(value or 0)
