"""One HTTP request and its response: the id they carry, and the promise that an answer nobody waits for is left.

A client that goes away arrives in a handler as `Cancelled`, and in a response's body in more ways than one: before its first
byte, between two, or never, because the body was not even begun. So no handler and no body has to notice. The exchange does:
whatever ends it, its answer under way is left.
"""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec
from quart import Response, request
from quart_trio.asgi import TrioASGIHTTPConnection

from llmux.actors.messages import Principal, Wish
from llmux.failures import ClientFailure
from llmux.http.bodies import unsupported
from llmux.http.control import by_owner
from llmux.prompts import Finish

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable

    from llmux.actors.request import Request
    from llmux.actors.resumables import Place
    from llmux.actors.system import System

KEY = "llmux.exchange"
STRICT = "x-llmux-strict"
"""the request wants everything carried out, or an error"""
FALLBACK = "x-llmux-fallback"
"""providers that the request does not ask for may answer when those it asks for cannot"""
RESUMABLE = "x-llmux-resumable"
"""the request wants its stream to outlive its connection"""


class Exchange:
    """What belongs to one HTTP request. `principal` is set once the door has admitted it.

    `owner` says that it came through the control socket.
    """

    def __init__(self, system: "System", *, owner: bool = False):
        self.system, self.owner = system, owner
        self.principal = Principal(scopes=frozenset())
        self.request: Request | None = None
        self.body_read = False
        """the whole body has been taken off the connection"""
        self.place: Place | None = None
        """the client's place in the request, where that can be read again; else the request itself is its place"""
        self.ignored: tuple[str, ...] = ()
        """the wishes that the gateway itself leaves out, as no provider could carry them out"""
        self.idempotency = ""
        """the key under which the request is carried out once, where it came with one"""
        self.filler = b""
        """what can be sent amid the response and means nothing; set by who streams it"""
        self._id = ""

    @property
    def id(self) -> str:
        """The request's own id where there is a request, else one made for this exchange."""
        if self.request is not None:
            return self.request.id
        self._id = self._id or self.system.clock.new_id()
        return self._id

    @property
    def under_way(self) -> bool:
        """Whether an answer is being produced for this exchange."""
        return self.request is not None and not self.request.ended

    def begin(self, wish: Wish, ignored: tuple[str, ...] = ()) -> "Request":
        """Hands the wish to the actors, with what the request's headers add to it.

        `ignored` names what was asked for and no provider can do. Raises ClientFailure for that where the request is strict,
        and whatever `System.request` raises.
        """
        wants_to_resume = switched_on(RESUMABLE)
        if wants_to_resume and not wish.stream:
            ignored += (RESUMABLE,)
        self.ignored = ignored
        if switched_on(STRICT):
            self.refuse(ignored)
            prompt = msgspec.structs.replace(wish.prompt, strict=True)
            wish = msgspec.structs.replace(wish, prompt=prompt)
        wish = cached_as_asked(wish, self.system.settings.limits.cache_ttl_ms_max)
        if switched_on(FALLBACK):
            wish = msgspec.structs.replace(wish, fallback=True)
        if self.idempotency:
            wish = msgspec.structs.replace(wish, idempotency=self.system.idempotency.digest(self.idempotency))
        if wants_to_resume and wish.stream:
            self.system.resumables.make_room()
        self.request = self.system.request(wish)
        if wants_to_resume and wish.stream:
            self.place = self.system.resumables.hold(self.request)
        return self.request

    def resume(self, id: str) -> "Place":
        """Takes another place in a request that is held. Raises ClientFailure (404)."""
        self.place = self.system.resumables.resume(id, self.principal)
        self.request = self.place.request
        return self.place

    def ignore(self, name: str) -> None:
        """One more wish that is left out. Raises ClientFailure where the request is strict."""
        if switched_on(STRICT):
            self.refuse((name,))
        self.ignored += (name,)

    def refuse(self, ignored: tuple[str, ...]) -> None:
        """Raises ClientFailure where a strict request has wishes that nobody can carry out."""
        if ignored:
            names = ", ".join(ignored)
            raise unsupported(ignored[0], f"No provider can carry out: {names}. (x-llmux-strict is true.)")

    def ignored_with(self, finish: Finish | None) -> list[str]:
        """The wishes that were not carried out: what the gateway itself left out, then what the provider could not do."""
        return list(dict.fromkeys((*self.ignored, *(finish.ignored if finish is not None else ()))))

    def end(self) -> None:
        """The client has its answer, or has gone."""
        place = self.place or self.request
        if place is not None:
            place.leave()


def switched_on(header: str) -> bool:
    """Whether the request has this header with the value `true`. Raises ClientFailure when it is neither that nor `false`."""
    value = request.headers.get(header, "").strip().lower()
    if value not in ("", "true", "false"):
        raise ClientFailure(f"{header} is true or false.", param=header)
    return value == "true"


def check_switches() -> None:
    """Raises ClientFailure when one of these headers is neither `true` nor `false`, whatever becomes of the request."""
    for header in (STRICT, FALLBACK, RESUMABLE):
        switched_on(header)


def cached_as_asked(wish: Wish, ttl_ms_max: int) -> Wish:
    """The wish with what the headers say of the cache. Raises ClientFailure.

    `Cache-Control: no-cache`   an answer of its own, which may serve others
    `Cache-Control: no-store`   an answer of its own, which serves nobody else
    `x-llmux-cache-ttl: 60`     seconds for which this answer may serve others
    """
    directives = {part.strip().lower() for part in request.headers.get("cache-control", "").split(",")}
    if "no-store" in directives:
        wish = msgspec.structs.replace(wish, use_cache=False)
    elif "no-cache" in directives:
        wish = msgspec.structs.replace(wish, fresh=True)
    seconds = request.headers.get("x-llmux-cache-ttl", "").strip()
    if seconds:
        if not re.fullmatch(r"[0-9]{1,12}", seconds, re.ASCII):
            raise ClientFailure("x-llmux-cache-ttl is a whole number of seconds.", param="x-llmux-cache-ttl")
        wish = msgspec.structs.replace(wish, cache_ttl_ms=int(seconds) * 1000)
    if wish.cache_ttl_ms is not None and not 1 <= wish.cache_ttl_ms <= ttl_ms_max:
        param = "x-llmux-cache-ttl" if seconds else "options.cacheTtl"
        most = f"{ttl_ms_max // 1000} s" if seconds else f"{ttl_ms_max} ms"
        raise ClientFailure(
            f"{param} is more than 0 and at most {most}; Cache-Control: no-store keeps nothing.", param=param
        )
    return wish


class ExchangeConnection(TrioASGIHTTPConnection):
    """Quart's connection of one HTTP request, with an `Exchange` around it."""

    async def __call__(self, receive: "ASGIReceiveCallable", send: "ASGISendCallable") -> None:
        exchange = Exchange(self.app.extensions["llmux.system"], owner=by_owner(self.scope))
        cast("dict[str, Any]", self.scope)[KEY] = exchange
        try:
            await super().__call__(receive, send)
        finally:
            exchange.end()


def current() -> Exchange:
    """The exchange of the request that is being handled."""
    return cast("dict[str, Exchange]", request.scope)[KEY]


def json_response(payload: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response with `payload` as JSON."""
    return Response(
        msgspec.json.encode(payload), status, headers=headers, content_type="application/json; charset=utf-8"
    )


def iso(ms: int) -> str:
    """Wall time in ms as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
