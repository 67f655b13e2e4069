"""Ollama's /api/embed: what is asked, what is made of the answers, and what of the refusals."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Finish, Usage, Vectors, embed, numbers_of, packed
from llmux.providers.ollama import OllamaAdapter
from llmux.providers.ollama_embedding import embed_request
from tests.providers.hearing import ask, place_of
from tests.upstreams.running import Upstream, upstream


@pytest.fixture(scope="module")
def running_server() -> Iterator[Upstream]:
    with upstream("ollama") as running:
        yield running


@pytest.fixture
def server(running_server: Upstream) -> Upstream:
    running_server.reset()
    return running_server


@pytest.fixture
def adapter(server: Upstream, tmp_path: Path) -> OllamaAdapter:
    return OllamaAdapter(place_of("ollama", tmp_path, url=server.url))


async def failure(adapter: OllamaAdapter, prompt) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        await ask(adapter, prompt, "tiny", "tiny")
    return caught.value


async def test_each_text_gets_the_servers_vector_and_its_own_count_of_tokens(adapter, server):
    heard = await ask(adapter, embed("a", "bcd"), "tiny", "tiny")
    assert heard.chunks == [
        Vectors((packed([1.0, 0.5, -1.25]), packed([3.0, 0.5, -1.25]))),
        Finish("stop", Usage(input_tokens=7), model="tiny"),
    ]
    asked = [entry for entry in server.log() if entry["path"].startswith("/api/")]
    assert [entry["path"] for entry in asked] == ["/api/embed"], "one call, and no look at the model before it"


async def test_a_server_that_does_not_count_has_counted_nothing(adapter, server):
    server.control(counts=False)
    heard = await ask(adapter, embed("a"), "tiny", "tiny")
    assert heard.answer.finish.usage == Usage()


def test_the_request_holds_the_texts_and_the_wishes():
    assert json.loads(embed_request(embed("a", "").embedding, "m")) == {
        "model": "m",
        "input": ["a", ""],
        "truncate": True,
    }
    asked = json.loads(embed_request(embed("a", dimensions=3, truncate=False).embedding, "m"))
    assert (asked["dimensions"], asked["truncate"]) == (3, False)
    with pytest.raises(ProviderFailure) as caught:
        embed_request(embed("\ud800").embedding, "m")
    assert caught.value.kind is Kind.INVALID_REQUEST


@pytest.mark.parametrize(
    "vectors", [[[1.0]], [[1.0], []], [[1.0], [1e39]], ["x", "y"]], ids=["too few", "empty", "too large", "no numbers"]
)
async def test_an_answer_without_a_vector_for_each_text_is_garbled(adapter, server, vectors):
    server.control(vectors=vectors)
    assert (await failure(adapter, embed("a", "b"))).kind is Kind.GARBLED


async def test_vectors_of_another_length_than_was_asked_for_are_refused(adapter):
    assert (await ask(adapter, embed("a", dimensions=3), "tiny", "tiny")).answer.vectors
    refused = await failure(adapter, embed("a", dimensions=2))
    assert refused.kind is Kind.UNSUPPORTED
    assert "3 dimensions, not of 2" in str(refused)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (404, 'model "nope" not found, try pulling it first', Kind.MODEL_NOT_FOUND),
        (400, "the input length exceeds the context length", Kind.CONTEXT_TOO_LONG),
        (400, '"llama3" does not support embeddings', Kind.UNSUPPORTED),
        (501, "this model does not support embeddings", Kind.UNSUPPORTED),
        (503, "server busy, please try again.", Kind.OVERLOADED),
        (500, "llama runner process has terminated: exit status 2", Kind.UNAVAILABLE),
    ],
)
async def test_a_refusal_has_the_kind_it_would_have_for_a_chat(adapter, server, status, error, kind):
    server.control(mode="refuse", status=status, error=error)
    assert (await failure(adapter, embed("a"))).kind is kind


def test_numbers_come_back_as_the_model_made_them():
    made = [0.071526565, -0.00010107237, 1e-38, 3.4e38, 0.0]
    assert packed(list(numbers_of(packed(made)))) == packed(made)
    assert numbers_of(packed([0.5, -2.0])) == (0.5, -2.0)
