"""Embeddings go the way of every request: routed, recorded, counted, cached; only providers that make vectors are asked."""

from pathlib import Path

import msgspec
import pytest

from llmux.actors.facts.quotas import Quota, Rest, quota_key
from llmux.actors.fingerprints import Fingerprints
from llmux.actors.keeping import Keep, content_of
from llmux.actors.opening import open_system
from llmux.actors.router import route
from llmux.clock import SystemClock
from llmux.config import Limits, ProviderSettings
from llmux.events import RequestAccepted, RequestCompleted
from llmux.eventstore import KeptText
from llmux.failures import LLMuxError, NoRoute, ProviderFailure
from llmux.prompts import Prompt, Vectors, embed, numbers_of, packed, size_bytes, user
from tests.actors.house import facts_of, house_settings, scripted, types_of, wish
from tests.actors.test_router import NOW, world


def with_a_cli(directory: Path, **changes):
    """A house in which claude has nearly all the weight, and makes no vectors."""
    claude = ProviderSettings(kind="claude", default_model="claude-opus-4-5", weight=99, command="/nothing/here")
    return house_settings(directory, {"claude": claude, "vectors": scripted(weight=1)}, **changes)


def test_only_providers_that_make_vectors_are_candidates_and_the_others_say_why():
    routing = route(wish(prompt=embed("a"), model="auto"), world(with_a_cli(Path("/nowhere"))), 5)
    assert [each.provider for each in routing.candidates] == ["vectors"]
    assert [(each.provider, each.reason) for each in routing.excluded] == [("claude", "cannot_embed")]
    assert "makes no embeddings" in routing.excluded[0].sentence
    assert not routing.pinned


def test_a_provider_that_makes_none_is_a_wrong_request_and_one_that_rests_is_not():
    settings = with_a_cli(Path("/nowhere"))
    pinned = route(wish(prompt=embed("a"), provider="claude"), world(settings), 5)
    refused = NoRoute(pinned.excluded, NOW)
    assert (refused.status, refused.code) == (400, "unsupported_parameter")
    rest = Rest("unavailable", "x", NOW - 1, NOW + 5000, None)
    resting = {quota_key("vectors", "default", "*"): Quota("vectors", "default", "*", rest=rest)}
    nobody = route(wish(prompt=embed("a")), world(settings, quotas=resting), 5)
    later = NoRoute(nobody.excluded, NOW)
    assert (later.status, later.code, later.retry_after_ms) == (502, "provider_unavailable", 5000)


async def test_an_embedding_is_recorded_counted_and_cached_like_any_answer(tmp_path):
    async with open_system(with_a_cli(tmp_path), SystemClock(), environ={}) as system:
        for source in ("flight", "cache"):
            with system.request(
                wish(prompt=embed("one two", "three"), use_cache=True, endpoint="/api/embed")
            ) as request:
                answer = await request.answer()
            assert request.source == source
            assert [len(numbers_of(vector)) for vector in answer.vectors] == [16, 16]
            assert answer.finish.usage.input_tokens == 3
        accepted, cached = await facts_of(system, RequestAccepted)
        assert accepted.prompt_bytes == 12
        assert [(each.provider, each.reason) for each in accepted.exclusions] == [("claude", "cannot_embed")]
        assert accepted.fingerprint == cached.fingerprint
        first, _ = await facts_of(system, RequestCompleted)
        assert (first.provider, first.usage.input_tokens, first.usage.output_tokens) == ("vectors", 3, 0)
        assert (await types_of(system))[:4] == [
            "RequestAccepted",
            "AttemptStarted",
            "AttemptSucceeded",
            "RequestCompleted",
        ]


async def test_an_embedding_falls_back_and_is_bounded(tmp_path):
    providers = {"bad": scripted("fail=garbled,times=1"), "good": scripted(weight=0)}
    limits = Limits(answer_bytes_max=100)
    async with open_system(house_settings(tmp_path, providers, limits=limits), SystemClock(), environ={}) as system:
        with system.request(wish(prompt=embed("a"))) as request:
            assert len((await request.answer()).vectors) == 1
            assert (request.provider, request.attempts) == ("good", 2)
        with pytest.raises(LLMuxError) as caught, system.request(wish(prompt=embed("a", "b"))) as request:
            await request.answer()
        assert caught.value.code == "provider_garbled", "128 bytes of vectors are more than 100"


def test_equal_texts_have_equal_fingerprints_and_other_wishes_other_ones():
    fingerprints = Fingerprints(b"secret")
    prompts = (
        embed("a", "b"),
        embed("ab"),
        embed("a", "b", dimensions=8),
        embed("a", "b", truncate=False),
        Prompt((user("a"),)),
        embed("a"),
    )
    assert len({fingerprints.of(wish(prompt=each)) for each in prompts}) == len(prompts)
    assert fingerprints.of(wish(prompt=embed("a", "b"))) == fingerprints.of(wish(prompt=embed("a", "b")))
    assert size_bytes(embed("ä", "b")) == 3


def test_of_an_embedding_the_texts_are_kept_and_the_vectors_are_not():
    keep = Keep("r", "k", embed("a", "b"), (Vectors((packed([1.0]), packed([2.0]))),), "stop", "", 2)
    kept = content_of(keep, 1, 2)
    assert kept.text.prompt == embed("a", "b")
    assert kept.text.answer == ""
    assert msgspec.json.decode(msgspec.json.encode(kept.text), type=KeptText) == kept.text


async def test_a_script_that_fails_fails_vectors_too(tmp_path):
    async with open_system(
        house_settings(tmp_path, {"one": scripted("fail=overloaded,retry=600")}), SystemClock(), environ={}
    ) as system:
        with pytest.raises(ProviderFailure), system.request(wish(prompt=embed("a"))) as request:
            await request.answer()
