"""What Ollama's clients ask a server about itself, and what they would have it do that a gateway does not.

Models are not fetched, made, copied or removed here: each provider keeps its own. Those paths say so (403), and record nothing.
"""

from typing import TYPE_CHECKING

import msgspec
from quart import Response

from llmux.failures import ClientFailure
from llmux.http.access import Caller, Routes, body_bytes
from llmux.http.exchange import json_response
from llmux.http.ollama.errors import error_body
from llmux.http.operations import Operation, Parameter

if TYPE_CHECKING:
    from llmux.actors.system import System

VERSION = "0.13.4"
"""The Ollama whose API this is. Clients compare it with the oldest they work with: GitHub Copilot with 0.6.4, Codex with
0.13.4, because it needs /v1/responses. What came later they would look for in vain."""
RUNNING = "Ollama is running"
_REFUSED = (
    ("POST", "/api/pull"),
    ("POST", "/api/push"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("DELETE", "/api/delete"),
    ("POST", "/api/blobs/<digest>"),
)


class Version(msgspec.Struct, frozen=True):
    """The version of Ollama whose API is served; the gateway's own is at /health."""

    version: str


TELLS_VERSION = Operation("The version of Ollama whose API this is", tag="Ollama", answer=Version)
TELLS_RUNNING = Operation(
    "A sentence by which clients find out that there is a server", tag="Ollama", media_type="text/plain"
)
DIGEST = (Parameter("digest", "path", "The blob's digest"),)


def register_root(door: Routes) -> None:
    """Opens `GET /`, which answers `HEAD /` too."""
    door.route("GET", "/", _root, Caller.PUBLIC, error_body, TELLS_RUNNING)


def register(door: Routes, system: "System") -> None:
    """Opens the other routes."""
    door.route("GET", "/api/version", _version, Caller.PUBLIC, error_body, TELLS_VERSION)
    for method, rule in _REFUSED:
        parameters = DIGEST if "<digest>" in rule else ()
        refusal = Operation(
            "Refused: models are not managed here", tag="Ollama", parameters=parameters, failures=(403,)
        )
        door.route(method, rule, _refused, Caller.USER, error_body, refusal)


async def _version() -> Response:
    return json_response(Version(VERSION))


async def _root() -> Response:
    return Response(RUNNING, content_type="text/plain; charset=utf-8")


async def _refused(digest: str = "") -> Response:
    await body_bytes()  # so that the connection can be used again
    raise ClientFailure(
        "LLMux does not manage models: each provider keeps its own. For a local model, ask the Ollama server itself.",
        status=403,
        code="models_not_managed",
    )
