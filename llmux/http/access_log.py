"""hypercorn's log, written through structlog: one line per response, without query strings, headers, keys and words of exceptions."""

import re
import sys
from typing import TYPE_CHECKING, Any, cast

import structlog
from hypercorn.logging import Logger

from llmux.failures import printable
from llmux.http.exchange import KEY, Exchange
from llmux.logs import report

if TYPE_CHECKING:
    from hypercorn.typing import ResponseSummary, WWWScope

log = structlog.get_logger("llmux.http")
_QUIET = frozenset({"/health", "/metrics"})
"""asked for every few seconds by machines"""
_KEYS = "/admin/api-keys/"
_KEY = re.compile(r"sk-[^/]*")


def without_keys(path: str) -> str:
    """A path from the wire, fit for the log: a key in it is a key still, and a path with one can be a misspelled one."""
    if path.startswith(_KEYS):
        return f"{_KEYS}<key>"
    return printable(_KEY.sub("<key>", path), 200)


class AccessLog(Logger):
    """What hypercorn calls when a response has ended, and when something is wrong."""

    async def access(self, request: "WWWScope", response: "ResponseSummary | None", request_time: float) -> None:
        exchange: Exchange | None = cast("dict[str, Any]", request).get(KEY)
        if response is None and not (exchange and exchange.under_way):
            return  # a client that hung up on its last byte; the line of its response still comes
        write = log.debug if request["path"] in _QUIET else log.info
        write(
            "answered" if response is not None else "client left",
            method=request.get("method", ""),
            path=without_keys(request["path"]),
            status=response["status"] if response is not None else None,
            request_id=exchange.id if exchange is not None else "",
            duration_ms=int(request_time * 1000),
        )

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        error = sys.exception()
        if error is not None:
            report(error, "unexpected failure")
