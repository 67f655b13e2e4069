"""POST /api/chat: a conversation, as a stream of JSON lines unless `stream` is false."""

from functools import partial
from typing import TYPE_CHECKING

from quart import Response

from llmux.http.access import Caller, Routes, body_bytes
from llmux.http.bodies import decoded
from llmux.http.exchange import current, json_response
from llmux.http.ollama.answers import ChatAnswer, ChatFrames, GenerateFrames, chat_answer, loaded
from llmux.http.ollama.bodies import Asked, ChatBody, chat_asked
from llmux.http.ollama.errors import error_body
from llmux.http.operations import Operation
from llmux.http.streams import route_headers, stream

if TYPE_CHECKING:
    from llmux.actors.system import System

CHAT = "/api/chat"
OPERATION = Operation(
    "Answer a conversation",
    tag="Ollama",
    description="A stream of JSON lines unless `stream` is false. Without messages it only says whether the model is known.",
    body=ChatBody,
    answer=ChatAnswer,
    frame=ChatAnswer,
    media_type=ChatFrames.media_type,
    failures=(404,),
)


def register(door: Routes, system: "System") -> None:
    """Opens the route."""

    async def chat() -> Response:
        exchange = current()
        body = decoded(await body_bytes(), ChatBody)
        asked = chat_asked(body, CHAT, exchange.principal, system)
        if asked.wish is None:
            system.destination(asked.model)
            return json_response(chat_answer("", "", loaded(asked.model, system.clock.now(), body.keep_alive)))
        return await answered(asked, ChatFrames)

    door.route("POST", CHAT, chat, Caller.USER, error_body, OPERATION)


async def answered(asked: Asked, frames: type[ChatFrames] | type[GenerateFrames]) -> Response:
    """The response to a wish, whole or as a stream. Raises what makes it fail before its first chunk."""
    exchange = current()
    assert asked.wish is not None
    request = exchange.begin(asked.wish, asked.ignored)
    make = partial(frames, exchange, request, exchange.system.clock.now())
    if asked.wish.stream:
        return await stream(exchange, request, make)
    answer = await request.answer()
    return json_response(make().whole(answer), headers=route_headers(exchange, request, answer.finish))
