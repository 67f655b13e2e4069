"""Ollama's /api/embed as pure functions: texts to its request, its answer to vectors."""

from typing import Any

import msgspec

from llmux.failures import Kind, ProviderFailure, printable
from llmux.prompts import Embedding, Finish, Usage, Vectors, packed
from llmux.providers.ollama_wire import UNREADABLE

BYTES_PER_NUMBER_MAX = 16
"""how long one number of a vector is in JSON, with its comma"""


class _Answer(msgspec.Struct):
    model: str = ""
    embeddings: list[list[float]] | None = None
    prompt_eval_count: int = 0


_ANSWERS = msgspec.json.Decoder(_Answer)


def embed_request(wanted: Embedding, model: str) -> bytes:
    """The body of /api/embed. Raises ProviderFailure when the texts cannot be written."""
    request: dict[str, Any] = {"model": model, "input": wanted.inputs, "truncate": wanted.truncate}
    if wanted.dimensions is not None:
        request["dimensions"] = wanted.dimensions
    try:
        return msgspec.json.encode(request)
    except UnicodeEncodeError:
        raise ProviderFailure(
            Kind.INVALID_REQUEST, "The input holds text that is not valid Unicode.", evidence="ollama.unicode"
        ) from None


def read_embeddings(body: bytes, wanted: Embedding, model: str) -> tuple[Vectors, Finish]:
    """What an answer of /api/embed says. Raises ProviderFailure when it is not one vector for each text.

    Older servers do not know `dimensions`: vectors of another length are refused, as nothing could be compared with them.
    """
    try:
        answer = _ANSWERS.decode(body)
        vectors = tuple(packed(numbers) for numbers in answer.embeddings or ())
    except (*UNREADABLE, OverflowError):
        raise _garbled("Ollama's answer holds no vectors.", "ollama.bad_vectors") from None
    if len(vectors) != len(wanted.inputs) or not all(vectors):
        raise _garbled("Ollama's answer does not hold one vector for each text.", "ollama.vectors_missing")
    made = len(vectors[0]) // 4
    if wanted.dimensions not in (None, made):
        raise ProviderFailure(
            Kind.UNSUPPORTED,
            f"The model '{printable(model, 100)}' makes vectors of {made} dimensions, not of {wanted.dimensions}.",
            evidence="ollama.dimensions",
        )
    return Vectors(vectors), Finish("stop", Usage(input_tokens=answer.prompt_eval_count), model=answer.model)


def _garbled(message: str, evidence: str) -> ProviderFailure:
    return ProviderFailure(Kind.GARBLED, message, evidence=evidence)
