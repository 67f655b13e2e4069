"""POST /v1/embeddings: vectors of texts, from providers that make them. `_meta` and headers are those of chat completions.

A text that is longer than the model takes in is refused, as OpenAI does, and not cut.
"""

import base64
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from quart import Response

from llmux.actors.messages import Principal, Wish
from llmux.config import Limits
from llmux.failures import ClientFailure
from llmux.http.access import Caller, Door, body_bytes
from llmux.http.bodies import check_count, decoded, unsupported
from llmux.http.exchange import Exchange, current, json_response
from llmux.http.meta import Meta, meta_of
from llmux.http.openai.errors import error_body
from llmux.http.operations import Operation
from llmux.http.streams import route_headers
from llmux.prompts import Answer, embed, numbers_of

if TYPE_CHECKING:
    from llmux.actors.request import Request
    from llmux.actors.system import System

EMBEDDINGS = "/v1/embeddings"
Encoding = Literal["float", "base64"]


class EmbeddingBody(msgspec.Struct, frozen=True):
    """The body of a request. Null means: not given. `input` is a text or several."""

    input: str | list[str | int | list[int]] | None = None
    model: str | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = None
    encoding_format: Encoding | None = None
    user: str | None = None


class EmbeddingWish(msgspec.Struct, frozen=True):
    """A wish, and how the vectors are to be written."""

    wish: Wish
    encoding: Encoding


class Embedded(msgspec.Struct, frozen=True):
    """The vector of the text number `index`: numbers, or, as base64, its 32-bit floats, little end first."""

    index: int
    embedding: tuple[float, ...] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(msgspec.Struct, frozen=True):
    """Real token counts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True):
    """One vector for each text, in their order."""

    data: tuple[Embedded, ...]
    model: str
    usage: EmbeddingUsage
    meta: Meta = msgspec.field(name="_meta")
    object: Literal["list"] = "list"


OPERATION = Operation("Vectors of texts", tag="OpenAI", body=EmbeddingBody, answer=EmbeddingList, generates=True)


def register(door: Door, system: "System") -> None:
    """Opens the route."""
    door.route("POST", EMBEDDINGS, _embeddings, Caller.USER, error_body, OPERATION)


async def _embeddings() -> Response:
    exchange = current()
    limits = exchange.system.settings.limits
    asked = embedding_wish_of(await body_bytes(), EMBEDDINGS, exchange.principal, limits)
    request = exchange.begin(asked.wish)
    answer = await request.answer()
    return json_response(
        _list(exchange, request, answer, asked.encoding), headers=route_headers(exchange, request, answer.finish)
    )


def embedding_wish_of(body: bytes, endpoint: str, principal: Principal, limits: Limits) -> EmbeddingWish:
    """What the body of a request asks for. Raises ClientFailure."""
    asked = decoded(body, EmbeddingBody)
    if not asked.model:
        raise ClientFailure(
            "model is required: vectors of different models cannot be compared.", param="model", code="missing_model"
        )
    prompt = embed(*_texts(asked, limits), dimensions=asked.dimensions, truncate=False)
    wish = Wish(prompt=prompt, principal=principal, endpoint=endpoint, model=asked.model)
    return EmbeddingWish(wish, asked.encoding_format or "float")


def _texts(asked: EmbeddingBody, limits: Limits) -> list[str]:
    given = asked.input if isinstance(asked.input, list) else [] if asked.input is None else [asked.input]
    texts = [each for each in given if isinstance(each, str)]
    if len(texts) < len(given):
        raise unsupported("input", "input: numbers of tokens are not taken; send the text.")
    if not texts:
        raise ClientFailure("input is required", param="input", code="missing_input")
    check_count(texts, limits.embedding_inputs_max, "input")
    return texts


def _list(exchange: Exchange, request: "Request", answer: Answer, encoding: Encoding) -> EmbeddingList:
    tokens = answer.finish.usage.input_tokens
    return EmbeddingList(
        data=tuple(Embedded(index, written(vector, encoding)) for index, vector in enumerate(answer.vectors)),
        model=request.model,
        usage=EmbeddingUsage(tokens, tokens),
        meta=meta_of(exchange, request, answer.finish),
    )


def written(vector: bytes, encoding: Encoding) -> tuple[float, ...] | str:
    """A vector as the client asked for it. Pure."""
    return base64.b64encode(vector).decode("ascii") if encoding == "base64" else numbers_of(vector)
