"""`/health?deep=true`: what came of really calling each provider. For known keys only where keys are required, as it costs tokens."""

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import UNSET, UnsetType
from quart import request

from llmux.failures import ClientFailure
from llmux.http.operations import Parameter

if TYPE_CHECKING:
    from llmux.actors.system import System
    from llmux.http.access import Door

DEEP = Parameter(
    "deep",
    "query",
    '"true": each provider is really called (at most once a minute), and `deepCheck` tells what came of it',
)


class DeepCheckBody(msgspec.Struct, frozen=True):
    """One provider: "ok" with how long its answer took in ms, or "error" with a sentence."""

    status: Literal["ok", "error"]
    latencyMs: int | UnsetType = UNSET
    error: str | UnsetType = UNSET


async def deep_check(door: "Door", system: "System") -> dict[str, DeepCheckBody] | None:
    """By provider; None where the request does not ask for it. Raises ClientFailure (401, 403) and ShuttingDown."""
    if request.args.get("deep", "").lower() != "true":
        return None
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):  # an image's URL sends no Origin
        raise ClientFailure("Web pages of another site may not do that.", status=403, code="origin_not_allowed")
    results = await system.deep_check.results(door.user())
    return {
        name: DeepCheckBody("error", error=each.error) if each.error else DeepCheckBody("ok", latencyMs=each.latency_ms)
        for name, each in results.items()
    }


def nobody_answered(checks: dict[str, DeepCheckBody] | None) -> bool:
    """Whether a check was made and every call failed: then no request can be answered either."""
    return checks is not None and all(each.status == "error" for each in checks.values())
