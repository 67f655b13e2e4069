"""What was spent: by everybody for the admin, and by the caller's own key for whoever may use the gateway.

    GET /admin/usage   {"position", "from", "to", "by", "currency", "rows": [{"group", "principal", "figures",
    GET /v1/usage       "estimatedUsd", "unpricedTokens", "pricesDate"}], "total": {"figures", "estimatedUsd", …}}

Both take by (key, user, project, provider, account, model, day, with commas between them), from and to (days in UTC, or 7d
for seven days ago), and at (a position or a time of the log: what was known then). `llmux usage --json` prints the same.
"""

from typing import TYPE_CHECKING

import trio
from quart import Response

from llmux.actors.estimates import Prices
from llmux.actors.usage import DIMENSIONS
from llmux.actors.usage_report import UsageReport, question_of, report
from llmux.http import openai
from llmux.http.access import Caller, Door
from llmux.http.exchange import current, json_response
from llmux.http.native import error_body
from llmux.http.operations import Operation, Parameter
from llmux.http.query import known, text

if TYPE_CHECKING:
    from llmux.actors.system import System

_NAMES = frozenset({"by", "from", "to", "at"})
_NO_STORE = {"cache-control": "no-store"}


def register(door: Door, system: "System") -> None:
    """Opens the two routes."""
    counting = trio.CapacityLimiter(1)

    async def answer(only: str | None) -> Response:
        known(_NAMES)
        question = question_of(by=text("by"), since=text("from"), to=text("to"), now=system.clock.now(), only=only)
        facts = await system.history.facts(text("at"))
        prices = Prices(system.settings)
        told = await trio.to_thread.run_sync(report, facts, question, prices, limiter=counting)
        return json_response(told, headers=_NO_STORE)

    async def everybodys() -> Response:
        return await answer(None)

    async def own() -> Response:
        return await answer(current().principal.id)

    door.route("GET", "/admin/usage", everybodys, Caller.ADMIN, error_body, EVERYBODYS)
    door.route("GET", "/v1/usage", own, Caller.USER, openai.error_body, OWN)


_PARAMETERS = (
    Parameter("by", "query", f"What to group by, with commas between: {', '.join(DIMENSIONS)}"),
    Parameter("from", "query", "From this UTC day on, such as 2026-11-22, or 7d for seven days ago"),
    Parameter("to", "query", "Up to this UTC day, and including it"),
    Parameter("at", "query", "As it was known at this position or time of the log"),
)
EVERYBODYS = Operation(
    "What was spent, by whom and on what", tag="Usage", answer=UsageReport, parameters=_PARAMETERS, failures=(409,)
)
OWN = Operation(
    "What the caller's own key spent", tag="Usage", answer=UsageReport, parameters=_PARAMETERS, failures=(409,)
)
