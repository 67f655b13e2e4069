"""POST /v1/responses, and GET, DELETE and input_items of responses that are kept.

A response is kept in memory for a while, unless `store` is false, so that `previous_response_id` can continue it. Beside OpenAI's
own fields a whole response has `_meta`, as completions have, and the same headers.
"""

from functools import partial
from typing import TYPE_CHECKING, Literal

import msgspec
from quart import Response
from quart import request as http

from llmux.failures import ClientFailure
from llmux.http.access import Caller, Door, body_bytes
from llmux.http.bodies import unsupported
from llmux.http.exchange import current, json_response
from llmux.http.openai.errors import error_body
from llmux.http.openai.responses.body import ResponsesBody
from llmux.http.openai.responses.events import ResponseEvent
from llmux.http.openai.responses.history import History, items_before
from llmux.http.openai.responses.items import Item
from llmux.http.openai.responses.object import ResponseObject
from llmux.http.openai.responses.stream import Reply, ResponseFrames, whole
from llmux.http.openai.responses.wish import asked_of
from llmux.http.operations import Operation, Parameter
from llmux.http.streams import route_headers, stream

if TYPE_CHECKING:
    from llmux.actors.system import System

RESPONSES = "/v1/responses"
ONE = f"{RESPONSES}/<id>"
ITEMS = f"{ONE}/input_items"
PAGE_MAX = 100
PAGE = 20


class Deleted(msgspec.Struct, frozen=True):
    """A response that is not kept any more."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class ItemPage(msgspec.Struct, frozen=True):
    """Some of the items that a response was made from: the conversation before it and its own input."""

    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


def register(door: Door, system: "System") -> None:
    """Opens the routes."""
    door.route("POST", RESPONSES, _create, Caller.USER, error_body, CREATE)
    door.route("GET", ONE, _read, Caller.USER, error_body, READ)
    door.route("DELETE", ONE, _delete, Caller.USER, error_body, DELETE)
    door.route("GET", ITEMS, _input_items, Caller.USER, error_body, INPUT_ITEMS)


async def _create() -> Response:
    exchange, history = current(), _history()
    system = exchange.system
    asked = asked_of(await body_bytes(), RESPONSES, exchange.principal, system.settings, history)
    request = exchange.begin(asked.wish, asked.ignored)
    reply = Reply(exchange, request, asked, system.clock.now(), history)
    if asked.wish.stream:
        return await stream(exchange, request, partial(ResponseFrames, reply))
    response, finish = await whole(reply, request)
    return json_response(response, headers=route_headers(exchange, request, finish))


async def _read(id: str) -> Response:
    if http.args.get("stream", "").lower() == "true":
        raise unsupported("stream", "stream: a kept response is whole; it is not streamed again.")
    return Response(_history().response(id).output, content_type="application/json; charset=utf-8")


async def _delete(id: str) -> Response:
    _history().forget(id)
    return json_response(Deleted(id))


async def _input_items(id: str) -> Response:
    items = items_before(_history().response(id))
    limit = http.args.get("limit", str(PAGE))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= PAGE_MAX):
        raise ClientFailure(f"limit is a number from 1 to {PAGE_MAX}.", param="limit")
    order = http.args.get("order", "desc")
    if order not in ("asc", "desc"):
        raise ClientFailure("order is asc or desc.", param="order")
    return json_response(_page(items if order == "asc" else items[::-1], int(limit), http.args.get("after")))


def _page(items: list[Item], limit: int, after: str | None) -> ItemPage:
    if after is not None:
        place = next((index for index, item in enumerate(items) if item.id == after), None)
        if place is None:
            raise ClientFailure("after is the id of one of the items.", param="after")
        items = items[place + 1 :]
    page = items[:limit]
    return ItemPage(page, page[0].id if page else None, page[-1].id if page else None, len(items) > limit)


def _history() -> History:
    exchange = current()
    return History(exchange.system.responses, exchange.principal.project)


_ID = Parameter("id", "path", "The response's id", required=True)
CREATE = Operation(
    "Answer a conversation",
    tag="OpenAI",
    description="The response is kept for a while, unless `store` is false; `previous_response_id` continues it.",
    body=ResponsesBody,
    answer=ResponseObject,
    frame=ResponseEvent,
    generates=True,
)
READ = Operation("A response that is kept", tag="OpenAI", answer=ResponseObject, parameters=(_ID,), failures=(400, 404))
DELETE = Operation("Forget a response", tag="OpenAI", answer=Deleted, parameters=(_ID,), failures=(404,))
INPUT_ITEMS = Operation(
    "What a response was made from",
    tag="OpenAI",
    answer=ItemPage,
    parameters=(
        _ID,
        Parameter("limit", "query", f"At most so many items, 1 to {PAGE_MAX}; {PAGE} where it is not given", int),
        Parameter("order", "query", "desc, the newest first, or asc", Literal["asc", "desc"]),
        Parameter("after", "query", "Only what follows the item of this id"),
    ),
    failures=(400, 404),
)
