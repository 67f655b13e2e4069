"""POST /api/embed and its forerunner /api/embeddings: vectors of texts."""

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from quart import Response

from llmux.actors.messages import Wish
from llmux.http.access import Caller, Routes, body_bytes
from llmux.http.bodies import check_count, decoded
from llmux.http.exchange import current, json_response
from llmux.http.ollama.errors import error_body
from llmux.http.ollama.names import model_named
from llmux.http.ollama.options import Options, ignored_of
from llmux.http.operations import Operation
from llmux.http.streams import route_headers
from llmux.prompts import Answer, Prompt, embed, numbers_of

if TYPE_CHECKING:
    from llmux.actors.request import Request
    from llmux.actors.system import System

EMBED, EMBEDDINGS = "/api/embed", "/api/embeddings"


class EmbedBody(msgspec.Struct, frozen=True):
    """The body of a request for vectors. `input` is one text or several."""

    model: str | None = None
    input: str | list[str] | None = None
    truncate: bool | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = None
    options: Options | None = None
    keep_alive: Any = None


class Embeddings(msgspec.Struct, frozen=True):
    """One vector for each text, in their order. Durations are in ns."""

    model: str
    embeddings: list[tuple[float, ...]]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0


class EmbeddingsBody(msgspec.Struct, frozen=True):
    """The body of an older request, for the vector of one text."""

    model: str | None = None
    prompt: str | None = None
    options: Options | None = None
    keep_alive: Any = None


class OneEmbedding(msgspec.Struct, frozen=True):
    """The vector."""

    embedding: tuple[float, ...]


SEVERAL = Operation("Vectors of texts", tag="Ollama", body=EmbedBody, answer=Embeddings, failures=(404,))
ONE = Operation("The vector of a text", tag="Ollama", body=EmbeddingsBody, answer=OneEmbedding, failures=(404,))


def register(door: Routes, system: "System") -> None:
    """Opens both routes."""

    async def several() -> Response:
        body = decoded(await body_bytes(), EmbedBody)
        texts = [body.input] if isinstance(body.input, str) and body.input else list(body.input or ())
        check_count(texts, system.settings.limits.embedding_inputs_max, "input")
        model = model_named(body.model, system)
        if not texts:  # Ollama's way of loading a model
            system.destination(model)
            return json_response(Embeddings(model, []))
        prompt = embed(*texts, dimensions=body.dimensions, truncate=body.truncate is not False)
        request, answer, headers = await _embedded(prompt, model, EMBED, body.options)
        vectors = [numbers_of(vector) for vector in answer.vectors]
        total, count = request.duration_ms * 1_000_000, answer.finish.usage.input_tokens
        return json_response(Embeddings(request.model, vectors, total, 0, count), headers=headers)

    async def one() -> Response:
        body = decoded(await body_bytes(), EmbeddingsBody)
        model = model_named(body.model, system)
        if not body.prompt:
            system.destination(model)
            return json_response(OneEmbedding(()))
        _, answer, headers = await _embedded(embed(body.prompt), model, EMBEDDINGS, body.options)
        return json_response(OneEmbedding(numbers_of(answer.vectors[0])), headers=headers)

    door.route("POST", EMBED, several, Caller.USER, error_body, SEVERAL)
    door.route("POST", EMBEDDINGS, one, Caller.USER, error_body, ONE)


async def _embedded(
    prompt: Prompt, model: str, endpoint: str, options: Options | None
) -> tuple["Request", Answer, dict[str, str]]:
    """The answer, the request that it is of, and the headers that tell who answered."""
    exchange = current()
    wish = Wish(prompt=prompt, principal=exchange.principal, endpoint=endpoint, model=model)
    request = exchange.begin(wish, ignored_of(options))
    answer = await request.answer()
    return request, answer, route_headers(exchange, request, answer.finish)
