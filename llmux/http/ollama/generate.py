"""POST /api/generate, the one path that two dialects claim.

It is LLMux's own, where `provider` chooses and a stream is one of server-sent events, which has to be asked for. Clients of Ollama
post to it too, with `model`, and expect JSON lines. Nothing in the body tells the two apart for sure: Ollama's official clients
always send `stream`, as LLMux's own may. So it is told by who asks: Ollama's clients by their User-Agent (`ollama-python/…`,
`ollama-js/…`, `ollama/…`), and everybody else by asking for `Accept: application/x-ndjson`. All others speak LLMux's own dialect,
whose whole answers have what Ollama's clients read (`model`, `created_at`, `response`, `done`, `context`); or they use
/ollama/api/generate, which is Ollama's in any case.
"""

from typing import TYPE_CHECKING

import msgspec
from quart import Response, request
from werkzeug.datastructures import Headers

from llmux.http import native
from llmux.http.access import Caller, Door, body_bytes
from llmux.http.bodies import decoded
from llmux.http.exchange import current, json_response
from llmux.http.ollama.answers import GenerateAnswer, GenerateFrames, generate_answer, loaded
from llmux.http.ollama.bodies import GenerateBody, generate_asked
from llmux.http.ollama.chat import answered
from llmux.http.ollama.errors import error_body
from llmux.http.operations import Operation

if TYPE_CHECKING:
    from llmux.actors.system import System

GENERATE = "/api/generate"
OLLAMAS_OWN = Operation(
    "Answer a prompt",
    tag="Ollama",
    description="A stream of JSON lines unless `stream` is false. Without a prompt it only says whether the model is known.",
    body=GenerateBody,
    answer=GenerateAnswer,
    frame=GenerateAnswer,
    media_type=GenerateFrames.media_type,
    failures=(404,),
)
_CLIENTS = ("ollama-python/", "ollama-js/", "ollama/")


def register(door: Door, system: "System") -> None:
    """Opens the route at the root, where it has both meanings, and under /ollama, where it has Ollama's alone."""

    async def generate() -> Response:
        return await (_generate(system) if speaks_ollama(request.headers) else native.answered(GENERATE))

    description = (
        f"{native.GENERATE.description} Clients of Ollama, known by User-Agent or Accept, get Ollama's answer."
    )
    operation = msgspec.structs.replace(native.GENERATE, description=description)
    door.route("POST", GENERATE, generate, Caller.USER, error_body, operation)

    async def ollamas_own() -> Response:
        return await _generate(system)

    door.route("POST", f"/ollama{GENERATE}", ollamas_own, Caller.USER, error_body, OLLAMAS_OWN)


def speaks_ollama(headers: Headers) -> bool:
    """Whether a client of Ollama is asking."""
    agent, accepts = headers.get("user-agent", "").lower(), headers.get("accept", "").lower()
    return agent.startswith(_CLIENTS) or GenerateFrames.media_type in accepts


async def _generate(system: "System") -> Response:
    body = decoded(await body_bytes(), GenerateBody)
    asked = generate_asked(body, GENERATE, current().principal, system)
    if asked.wish is None:
        system.destination(asked.model)
        return json_response(generate_answer("", "", loaded(asked.model, system.clock.now(), body.keep_alive)))
    return await answered(asked, GenerateFrames)
