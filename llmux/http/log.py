"""The log over HTTP, for the admin: its head, its events, one request's story, and the state at any moment.

    GET /admin/log/head        {"position", "hash", "recordedAt", "events", "archivedThrough", "databaseBytes", "walBytes", …}
    GET /admin/events          {"events": [envelope with data], "next": position or null, "head", "archivedThrough"}
    GET /admin/requests/<id>   the story: route, attempts, end, tokens, `summary` in sentences, `events`
    GET /admin/state           {"position", "at", "state"}

`/admin/events` takes after, until (positions), from, to (times), limit, stream, type, principal, request and order; stream and
type may be given more than once. With `Accept: text/event-stream` it is a live feed (see `llmux.http.feed`). What a query
names and nobody knows is a 400.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from quart import Response, request

from llmux.actors.history import PAGE_EVENTS_MAX, LogHead, State, Wanted, known_types
from llmux.actors.moments import time_of
from llmux.actors.stories import Story, plain_event
from llmux.failures import ClientFailure, printable
from llmux.http.access import Caller, Door
from llmux.http.exchange import current, json_response
from llmux.http.feed import LogFrames, feed_response
from llmux.http.native import error_body
from llmux.http.operations import Operation, Parameter
from llmux.http.query import known, text

if TYPE_CHECKING:
    from llmux.actors.system import System

EVENTS_DEFAULT = 100
POSITION_DIGITS_MAX = 18
_FILTERS = frozenset({"stream", "type", "principal", "request", "from"})
_PAGED = frozenset({"after", "until", "to", "limit", "order"})
_SEVERAL = frozenset({"stream", "type"})
_NO_STORE = {"cache-control": "no-store"}


class Events(msgspec.Struct, frozen=True, rename="camel"):
    """A page of the log. `next` is where the next page begins: its `after`, or its `until` where the newest come first."""

    events: list[dict[str, Any]]
    next: int | None
    head: int
    archived_through: int


def register(door: Door, system: "System") -> None:
    """Opens the four routes."""
    history, frames = system.history, LogFrames()

    async def head() -> Response:
        known(frozenset())
        return json_response(await history.head(), headers=_NO_STORE)

    async def events() -> Response:
        if request.accept_mimetypes.best_match(("application/json", "text/event-stream")) == "text/event-stream":
            return await follow()
        known(_FILTERS | _PAGED, several=_SEVERAL)
        newest_first = _one_of("order", ("asc", "desc")) == "desc"
        limit = _number("limit", EVENTS_DEFAULT, least=1, most=PAGE_EVENTS_MAX)
        until = _number("until") if "until" in request.args else None
        wanted, after = await _wanted(system), _number("after")
        page = await history.page(wanted, after=after, until=until, limit=limit, newest_first=newest_first)
        told = [plain_event(event) for event in page.events]
        return json_response(Events(told, page.next, page.head, page.archived_through), headers=_NO_STORE)

    async def follow() -> Response:
        known(_FILTERS | {"after"}, several=_SEVERAL, what="A live feed, which has no end and one order,")
        seen = request.headers.get("last-event-id", "").strip()
        after = _position(seen, "Last-Event-ID") if seen else _number("after")
        return feed_response(current(), history.follow(await _wanted(system), after=after), frames)

    async def story(id: str) -> Response:
        known(frozenset())
        return json_response(await history.story(id), headers=_NO_STORE)

    async def state() -> Response:
        known(frozenset({"at", "actor"}))
        return json_response(await history.state(text("at"), text("actor")), headers=_NO_STORE)

    door.route("GET", "/admin/log/head", head, Caller.ADMIN, error_body, HEAD)
    door.route("GET", "/admin/events", events, Caller.ADMIN, error_body, EVENTS)
    door.route("GET", "/admin/requests/<id>", story, Caller.ADMIN, error_body, STORY)
    door.route("GET", "/admin/state", state, Caller.ADMIN, error_body, STATE)


_ID = Parameter("id", "path", "The id of a request, as x-request-id tells it")
HEAD = Operation("The end of the log and its size", tag="Log", answer=LogHead)
EVENTS = Operation(
    "Events of the log, page by page or live",
    tag="Log",
    description="With `Accept: text/event-stream` it is a live feed, which begins behind `Last-Event-ID` or `after`.",
    answer=Events,
    frame=dict[str, Any],
    failures=(404, 409, 429),
    parameters=(
        Parameter("after", "query", "Only events behind this position", int),
        Parameter("until", "query", "Only events up to this position", int),
        Parameter("from", "query", "Only events recorded since this time"),
        Parameter("to", "query", "Only events recorded before this time"),
        Parameter("limit", "query", "How many", Annotated[int, msgspec.Meta(ge=1, le=PAGE_EVENTS_MAX)]),
        Parameter("stream", "query", "Only of this stream; can be given more than once"),
        Parameter("type", "query", "Only of this type; can be given more than once"),
        Parameter("principal", "query", "Only those of this key"),
        Parameter("request", "query", "Only those of this request"),
        Parameter("order", "query", "The newest come first with desc", Literal["asc", "desc"]),
    ),
)
STORY = Operation("What became of a request", tag="Log", answer=Story, parameters=(_ID,), failures=(404, 409))
STATE = Operation(
    "The whole state, now or at any moment",
    tag="Log",
    answer=State,
    failures=(404, 409),
    parameters=(
        Parameter("at", "query", "A position, or a time"),
        Parameter("actor", "query", "Only the facts of this actor"),
    ),
)


# --- what the query says --------------------------------------------------------------------------------------------


async def _wanted(system: "System") -> Wanted:
    named = frozenset(request.args.getlist("stream"))
    of_request = text("request")
    streams = named
    if of_request is not None:
        streams = await system.history.streams(of_request)
        if named and not (streams := streams & named):
            raise ClientFailure("stream: no event of that request is in such a stream.", param="stream")
    since, to = text("from"), text("to")
    return Wanted(
        streams=streams,
        types=known_types(request.args.getlist("type")),
        principal=text("principal"),
        recorded_from=None if since is None else time_of(since, "from"),
        recorded_to=None if to is None else time_of(to, "to"),
    )


def _one_of(name: str, values: tuple[str, ...]) -> str:
    value = text(name) or values[0]
    if value not in values:
        raise ClientFailure(f"{name}: it is one of {', '.join(values)}.", param=name)
    return value


def _number(name: str, default: int = 0, *, least: int = 0, most: int | None = None) -> int:
    value = text(name)
    number = default if value is None else _position(value, name)
    if number < least or (most is not None and number > most):
        raise ClientFailure(f"{name}: it must be a number from {least} to {most}.", param=name)
    return number


def _position(value: str, name: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= POSITION_DIGITS_MAX):
        raise ClientFailure(f"{name}: '{printable(value, 40)}' is no position or number.", param=name)
    return int(value)
