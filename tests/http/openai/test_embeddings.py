"""Vectors as OpenAI's clients read them."""

import base64
import struct

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmux.actors.messages import Principal
from llmux.config import Limits, ProviderSettings
from llmux.failures import ClientFailure
from llmux.http.openai.embeddings import EmbeddingWish, embedding_wish_of, written
from llmux.prompts import packed
from tests.http.served import gateway, settings_of
from tests.http.test_bad_input import VALUES

LIMITS = Limits(embedding_inputs_max=3)


def asked(**fields) -> EmbeddingWish:
    body = msgspec.json.encode({"model": "m", "input": "a", **fields})
    return embedding_wish_of(body, "/v1/embeddings", Principal(), LIMITS)


def refused(**fields) -> ClientFailure:
    with pytest.raises(ClientFailure) as caught:
        asked(**fields)
    return caught.value


async def test_each_text_has_its_vector_in_order_and_tokens_are_counted(door):
    reply = await door.post("/v1/embeddings", {"model": "ollama/auto", "input": ["one two", "three", "one two"]})
    body = reply.json
    assert (reply.status, reply.headers["x-llmux-provider"], body["object"]) == (200, "ollama", "list")
    assert body["model"] == "say=hello+from+ollama"
    assert [(each["object"], each["index"]) for each in body["data"]] == [("embedding", at) for at in range(3)]
    first, second, third = (each["embedding"] for each in body["data"])
    assert first == third != second
    assert all(isinstance(number, float) for number in first)
    assert body["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert (body["_meta"]["provider"], body["_meta"]["ignored"]) == ("ollama", [])


async def test_base64_holds_the_same_numbers_as_32_bit_floats_with_the_little_end_first(door):
    """OpenAI's own client asks for base64 unless it is told otherwise."""
    body = {"model": "ollama/auto", "input": "hello", "dimensions": 7}
    numbers = (await door.post("/v1/embeddings", body)).json["data"][0]["embedding"]
    encoded = (await door.post("/v1/embeddings", {**body, "encoding_format": "base64"})).json["data"][0]["embedding"]
    assert list(struct.unpack("<7f", base64.b64decode(encoded))) == numbers


async def test_a_provider_that_makes_no_vectors_is_a_wrong_request(tmp_path):
    claude = ProviderSettings(kind="claude", default_model="claude-opus-4-5", command="/nothing/here")
    async with gateway(settings_of(tmp_path, providers={"claude": claude})) as here:
        reply = await here.post("/v1/embeddings", {"model": "claude-opus-4-5", "input": "a"})
        error = reply.json["error"]
        assert (reply.status, error["code"], error["type"]) == (400, "unsupported_parameter", "invalid_request_error")
        assert "makes no embeddings" in error["message"]


def test_a_text_or_several_become_the_texts_of_the_prompt_and_none_is_cut():
    wanted = asked(input=["a", ""], dimensions=5, user="u").wish.prompt.embedding
    assert (wanted.inputs, wanted.dimensions, wanted.truncate) == (("a", ""), 5, False)
    one = asked(input="a")
    assert (one.wish.prompt.embedding.inputs, one.wish.model, one.encoding) == (("a",), "m", "float")


def test_what_cannot_be_done_is_refused_by_name():
    for tokens in ([1, 2], [[1], [2]], ["a", 1]):
        failure = refused(input=tokens)
        assert (failure.status, failure.code, failure.param) == (400, "unsupported_parameter", "input")
    for field, value, code in (
        ("input", None, "missing_input"),
        ("input", [], "missing_input"),
        ("input", 5, "invalid_type"),
        ("model", None, "missing_model"),
        ("model", "", "missing_model"),
        ("dimensions", 0, "invalid_type"),
        ("encoding_format", "int8", "invalid_type"),
    ):
        failure = refused(**{field: value})
        assert (failure.status, failure.code, failure.param) == (400, code, field)
    many = refused(input=["a"] * 4)
    assert (many.status, many.code, many.param) == (422, "too_many", "input")


@given(VALUES, VALUES)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_is_a_wish_for_vectors_or_a_client_failure(texts, other):
    for field in ("model", "dimensions", "encoding_format"):
        try:
            prompt = asked(input=texts, **{field: other}).wish.prompt
        except ClientFailure:
            continue
        assert prompt.embedding is not None
        assert prompt.embedding.inputs
        assert prompt.messages == ()


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20))
def test_both_ways_of_writing_a_vector_say_the_same(numbers):
    vector = packed(numbers)
    assert written(vector, "float") == tuple(numbers)
    encoded = written(vector, "base64")
    assert isinstance(encoded, str)
    assert base64.b64decode(encoded) == vector
