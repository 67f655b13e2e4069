"""The application: all dialects behind one door, and every failure told in the caller's own dialect, as JSON."""

from typing import TYPE_CHECKING

from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from llmux.failures import LLMuxError
from llmux.http import (
    admin,
    anthropic,
    archive,
    content,
    health,
    log,
    manage,
    native,
    ollama,
    openai,
    openapi,
    resuming,
    usage,
)
from llmux.http.access import Door, has_body
from llmux.http.errors import problem_of
from llmux.http.exchange import ExchangeConnection, current, json_response
from llmux.http.ratelimits import headers_of
from llmux.http.streams import tried_headers
from llmux.logs import report

if TYPE_CHECKING:
    from llmux.actors.system import System

DIALECTS = (native, openai, anthropic, ollama, resuming, health, manage, admin, log, content, archive, usage, openapi)
"""Each of these modules has `register(door, system)`."""


class Application(QuartTrio):
    """Quart with an `Exchange` around every request."""

    asgi_http_class = ExchangeConnection


def make_app(system: "System") -> QuartTrio:
    """The ASGI application over a running system. It owns nothing: what is under way lives in the system."""
    app = Application("llmux.http", static_folder=None)
    app.extensions["llmux.system"] = system
    app.url_map.merge_slashes = False  # a redirect would be HTML
    app.config.update(
        RESPONSE_TIMEOUT=None,  # Quart would cut every stream after 60 s
        MAX_CONTENT_LENGTH=system.settings.limits.body_bytes_max,
        BODY_TIMEOUT=system.settings.limits.body_wait_ms_max / 1000,
        PROVIDE_AUTOMATIC_OPTIONS=False,
        PROPAGATE_EXCEPTIONS=False,
    )
    unrouted = (("/v1/messages", anthropic.error_body), ("/v1/", openai.error_body), ("", native.error_body))
    door = Door(app, system, unrouted)
    for dialect in DIALECTS:
        dialect.register(door, system)

    async def failed(error: Exception) -> Response:
        return _told(error, door, system)

    for kind in (HTTPException, Exception):
        app.register_error_handler(kind, failed)
    app.after_request(_sealed)
    return app


def _told(error: Exception, door: Door, system: "System") -> Response:
    """The response that tells a failure. What came before there was a request is counted as refused."""
    exchange = current()
    problem = problem_of(error, system.clock.now())
    if not isinstance(error, LLMuxError | HTTPException):
        report(error, "unexpected failure", request_id=exchange.id)
    if exchange.request is None:
        rule = request.url_rule.rule if request.url_rule is not None else "unknown"
        system.metrics.rejected(rule, problem.code)
    headers = problem.headers() | (tried_headers(exchange.request) if exchange.request is not None else {})
    body = door.errors(request.endpoint, request.path)(problem, exchange.id)
    return json_response(body, problem.status, headers)


async def _sealed(response: Response) -> Response:
    """What every response has."""
    exchange = current()
    system = exchange.system
    response.headers["x-request-id"] = exchange.id
    response.headers["request-id"] = exchange.id  # as Anthropic's clients read it
    if has_body(request.method, request.headers) and not exchange.body_read:
        response.headers["connection"] = "close"  # it ends anyway, and a client that is not told uses it again
    response.headers["x-content-type-options"] = "nosniff"
    measures = system.limiter.measures(exchange.principal)
    if measures:
        response.headers.update(headers_of(measures, request.path, system.clock.now()))
    return response
