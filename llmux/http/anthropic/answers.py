"""POST /v1/messages.

Beside Anthropic's own fields an answer has `_meta` (provider, attempts, duration_ms, request_id, cached, ignored), a stream in
its `message_delta`; and the same in headers: x-llmux-provider, x-llmux-attempts, x-llmux-cache (hit, joined or miss) and
x-llmux-ignored (of a stream: what is known when it begins).
"""

from functools import partial
from typing import TYPE_CHECKING

from quart import Response

from llmux.http.access import Caller, Door, body_bytes
from llmux.http.anthropic.body import MessagesBody, messages_wish_of
from llmux.http.anthropic.errors import error_body
from llmux.http.anthropic.frames import Event, MessageFrames
from llmux.http.anthropic.message import AnswerMessage, message_of
from llmux.http.exchange import current, json_response
from llmux.http.operations import Operation
from llmux.http.streams import route_headers, stream

if TYPE_CHECKING:
    from llmux.actors.system import System

MESSAGES = "/v1/messages"
OPERATION = Operation(
    "Answer a conversation",
    tag="Anthropic",
    description="The headers anthropic-version and anthropic-beta are taken and change nothing.",
    body=MessagesBody,
    answer=AnswerMessage,
    frame=Event,
    generates=True,
)


def register(door: Door, system: "System") -> None:
    """Opens the route."""
    door.route("POST", MESSAGES, _answer, Caller.USER, error_body, OPERATION)


async def _answer() -> Response:
    exchange = current()
    asked = messages_wish_of(await body_bytes(), MESSAGES, exchange.principal, exchange.system.settings)
    request = exchange.begin(asked.wish, asked.ignored)
    if asked.wish.stream:
        make = partial(MessageFrames, exchange, request, shows_thinking=asked.shows_thinking)
        return await stream(exchange, request, make)
    answer = await request.answer()
    return json_response(
        message_of(exchange, request, answer, shows_thinking=asked.shows_thinking),
        headers=route_headers(exchange, request, answer.finish),
    )
