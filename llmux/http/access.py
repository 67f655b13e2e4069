"""Who may come in: nothing is served unless its route was registered here together with who may call it.

The order of the checks, each with its own status: host and origin (403), path and method (404, 405), stop under way (503),
credential (401, 403), content type (415), idempotency key (400); the body's size (413) and its wait (408) follow when it is
read. A refusal makes no event: a stranger cannot make the log grow. Whoever comes through the control socket is the admin:
there, neither host, origin nor credential is asked for.
"""

import ipaddress
import re
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import urlsplit

import msgspec
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.datastructures import Headers

from llmux.actors.messages import Principal
from llmux.failures import ClientFailure, ShuttingDown
from llmux.http.errors import ErrorBody
from llmux.http.exchange import check_switches, current, iso
from llmux.http.idempotency import key_given
from llmux.http.operations import Operation

if TYPE_CHECKING:
    from llmux.actors.system import System

Handler = Callable[..., Awaitable[Response]]
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
OWNER = Principal("admin", "admin", "admin", frozenset({"use", "admin"}))
"""who comes through the control socket"""


class Caller(Enum):
    """Who may call a route."""

    PUBLIC = "everybody"
    USER = "whoever may use the gateway"
    OPERATOR = "whoever administrates the gateway; everybody where keys are switched off"
    ADMIN = "whoever administrates the gateway"


class Variant(msgspec.Struct, frozen=True):
    """How a route answers in another dialect, to requests with `header`: how that one writes errors, and what it gives."""

    header: str
    errors: ErrorBody
    operation: Operation


class Access(msgspec.Struct, frozen=True):
    """What is known of a route: who may call it, how its dialect writes errors, and what it takes and gives."""

    caller: Caller
    errors: ErrorBody
    operation: Operation | None = None
    variant: Variant | None = None


class Routes(Protocol):
    """Where routes are registered."""

    def route(
        self,
        method: str,
        rule: str,
        handler: Handler,
        caller: Caller,
        errors: ErrorBody,
        operation: Operation | None = None,
    ) -> None:
        """Serves `method rule` with `handler`, for `caller` only."""


class Below:
    """Registers routes below a path, such as "/ollama"."""

    def __init__(self, door: Routes, path: str):
        self._door, self._path = door, path

    def route(
        self,
        method: str,
        rule: str,
        handler: Handler,
        caller: Caller,
        errors: ErrorBody,
        operation: Operation | None = None,
    ) -> None:
        """Serves `method path/rule` with `handler`, for `caller` only."""
        self._door.route(method, f"{self._path}{rule}", handler, caller, errors, operation)


class Door:
    """Registers routes and checks every request before its handler runs.

    `unrouted` tells by the beginning of a path how errors are written where no route is registered.
    """

    def __init__(self, app: QuartTrio, system: "System", unrouted: tuple[tuple[str, ErrorBody], ...]):
        self._app, self._system, self._unrouted = app, system, unrouted
        self.routes: dict[str, Access] = {}
        app.before_request(self._admit)

    def route(
        self,
        method: str,
        rule: str,
        handler: Handler,
        caller: Caller,
        errors: ErrorBody,
        operation: Operation | None = None,
    ) -> None:
        """Serves `method rule` with `handler`, for `caller` only."""
        endpoint = f"{method} {rule}"
        self.routes[endpoint] = Access(caller, errors, operation)
        self._app.add_url_rule(rule, endpoint, handler, methods=[method], provide_automatic_options=False)

    def variant(self, endpoint: str, header: str, handler: Handler, errors: ErrorBody, operation: Operation) -> None:
        """Has requests to `endpoint`, which is registered, served in another dialect when they carry `header`."""
        usual = cast("Handler", self._app.view_functions[endpoint])

        async def either(**values: str) -> Response:
            return await (handler if header in request.headers else usual)(**values)

        self._app.view_functions[endpoint] = either
        known = self.routes[endpoint]
        self.routes[endpoint] = msgspec.structs.replace(known, variant=Variant(header, errors, operation))

    def errors(self, endpoint: str | None, path: str) -> ErrorBody:
        """How the dialect that the caller speaks writes errors. `endpoint` is None for a wrong path or method."""
        for known, access in self.routes.items():
            if known == endpoint or (endpoint is None and known.partition(" ")[2] == path):
                variant = access.variant
                return variant.errors if variant is not None and variant.header in request.headers else access.errors
        return next(errors for beginning, errors in self._unrouted if path.startswith(beginning))

    def user(self) -> Principal:
        """Who is asking, where only a part of a public route is for users. Raises ClientFailure (401, 403)."""
        return OWNER if current().owner else self._principal(Caller.USER)

    async def _admit(self) -> None:
        settings = self._system.settings
        exchange = current()
        if not exchange.owner:
            check_host(host_of(request.headers.get("host", "")), settings.allowed_hosts)
            check_origin(request.headers, settings.allowed_hosts)
        if request.routing_exception is not None:
            raise request.routing_exception
        access = self.routes.get(request.endpoint or "")
        if access is None:
            raise ClientFailure("Nobody may call this path.", status=403, code="permission_denied")
        if access.caller is not Caller.PUBLIC:
            if self._system.closing:
                raise ShuttingDown("The gateway is stopping and takes no new requests.")
            exchange.principal = OWNER if exchange.owner else self._principal(access.caller)
        elif self._system.settings.api_key_required:
            exchange.principal = self._recognised() or exchange.principal
        if has_body(request.method, request.headers):
            check_content_type(request.headers)
        if access.operation is not None and access.operation.generates:
            exchange.idempotency = key_given()

    def _principal(self, caller: Caller) -> Principal:
        """Who is asking. With keys switched off everybody may use the gateway; administrating it takes a key all the same."""
        required = self._system.settings.api_key_required
        if caller is Caller.ADMIN or (caller is Caller.OPERATOR and required):
            return self._admin()
        if not required:
            return Principal()
        credential = credential_of(request.headers)
        if not credential:
            raise ClientFailure("Missing API key. Use Authorization: Bearer <key>", status=401, code="missing_api_key")
        keys = self._system.keys
        principal = keys.principal_of(credential)
        if principal is None:
            raise _closed(keys.expired_at(credential))
        if "use" not in principal.scopes:
            raise ClientFailure("This API key may not do that.", status=403, code="permission_denied")
        return principal

    def _recognised(self) -> Principal | None:
        """Who is asking for what is open to everybody: the owner of a key sees there what that key may ask for."""
        credential = credential_of(request.headers)
        principal = self._system.keys.principal_of(credential) if credential else None
        return principal if principal is not None and "use" in principal.scopes else None

    def _admin(self) -> Principal:
        """The admin, whose key comes in X-Admin-Key and nowhere else. No key of a user helps, and none is needed beside it."""
        if not self._system.settings.admin_key:
            raise ClientFailure(
                "This path is closed: the gateway has no admin key. Set ADMIN_KEY and start it again.",
                status=403,
                code="admin_key_not_set",
            )
        given = request.headers.get("x-admin-key", "").strip()
        if not given:
            raise ClientFailure("Missing admin key. Use X-Admin-Key: <key>", status=403, code="missing_admin_key")
        principal = self._system.keys.principal_of(given)
        if principal is None or "admin" not in principal.scopes:
            raise ClientFailure("Invalid admin key", status=403, code="invalid_admin_key")
        return principal


def _closed(expired_at: int | None) -> ClientFailure:
    """Why a credential opens nothing. That a key has expired is told to whoever has its secret, and to nobody else."""
    if expired_at is None:
        return ClientFailure("Invalid API key", status=401, code="invalid_api_key")
    return ClientFailure(
        f"This API key expired at {iso(expired_at)}. Ask whoever runs the gateway for another one.",
        status=401,
        code="expired_api_key",
    )


def credential_of(headers: Headers) -> str:
    """The key a request carries in `Authorization: Bearer`, `x-api-key` or `api-key`, or ""."""
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return (headers.get("x-api-key") or headers.get("api-key") or "").strip()


def host_of(netloc: str) -> str:
    """The host of `host[:port]`, in lower case, without brackets and a last dot; "" when it is none."""
    try:
        parts = urlsplit(f"//{netloc}")
        host, _ = parts.hostname, parts.port  # the port has to be a number
    except ValueError:
        return ""
    if parts.path or parts.query or parts.fragment or parts.username is not None or not host:
        return ""
    return host.removesuffix(".")


def check_host(host: str, allowed: tuple[str, ...]) -> None:
    """Raises ClientFailure (403) for a name that could have been pointed at us by anybody (DNS rebinding)."""
    if host in allowed or _is_address(host) or _LABEL.fullmatch(host):
        return
    if host.endswith((".local", ".internal")) and all(_LABEL.fullmatch(label) for label in host.split(".")):
        return
    raise ClientFailure(
        "This gateway does not answer under that Host. Use an IP address or localhost, or list the name in ALLOWED_HOSTS.",
        status=403,
        code="host_not_allowed",
    )


def check_origin(headers: Headers, allowed: tuple[str, ...]) -> None:
    """Raises ClientFailure (403) when a web page of somewhere else is asking. Programs send no Origin."""
    origin = headers.get("origin")
    if origin is None:
        return
    scheme, _, netloc = origin.partition("://")
    same = netloc.lower() == headers.get("host", "").lower()
    if scheme in ("http", "https") and netloc and (same or host_of(netloc) in allowed):
        return
    raise ClientFailure("Web pages of another origin may not call this gateway.", status=403, code="origin_not_allowed")


def has_body(method: str, headers: Headers) -> bool:
    """Whether the head announces a body."""
    length = headers.get("content-length", "0").strip()
    return method not in _BODILESS and (length != "0" or "transfer-encoding" in headers)


def check_content_type(headers: Headers) -> None:
    """Raises ClientFailure (415) when the body is not plain JSON."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise ClientFailure(
            "The body must be JSON; send Content-Type: application/json.", status=415, code="unsupported_media_type"
        )
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ClientFailure("Compressed bodies are not taken.", status=415, code="unsupported_media_type")


async def body_bytes() -> bytes:
    """The whole body, which is JSON or empty. Raises ClientFailure (400, 415), RequestEntityTooLarge (413), RequestTimeout (408)."""
    data = await request.get_data(cache=False, as_text=False, parse_form_data=False)
    assert isinstance(data, bytes)
    current().body_read = True
    if data:  # HTTP need not announce it in the head
        check_content_type(request.headers)
    check_switches()
    return data


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
