"""A real Ollama server with one tiny model that babbles: shapes, counts, seeds, refusals and the end of a generation."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Answer, Finish, Image, Message, Prompt, Sampling, Text, assistant, user
from llmux.providers.adapter import Call
from llmux.providers.ollama import OllamaAdapter
from tests.providers.hearing import Heard, ask, place_of
from tests.upstreams.running import Upstream, upstream

WINDOW_TOKENS = 256
"""the `num_ctx` of the model "tiny" """


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    """One generation at a time: a generation that goes on after its client has left would block all others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLLAMA_NUM_PARALLEL", "1")
        with upstream("real_ollama") as running:
            yield running


@pytest.fixture
def adapter(server: Upstream, tmp_path: Path) -> OllamaAdapter:
    return OllamaAdapter(place_of("ollama", tmp_path, url=server.url, default_model="tiny"))


async def say(adapter: OllamaAdapter, prompt: Prompt | str, **sampling: object) -> Answer:
    whole = Prompt((user(prompt),), sampling=Sampling(**sampling)) if isinstance(prompt, str) else prompt
    return (await ask(adapter, whole, "tiny", "tiny")).answer


async def failing(adapter: OllamaAdapter, prompt: Prompt, model: str = "tiny") -> tuple[ProviderFailure, Heard]:
    heard = Heard()
    with pytest.raises(ProviderFailure) as caught:
        await ask(adapter, prompt, model, model, heard)
    assert not any(isinstance(chunk, Finish) for chunk in heard.chunks)
    return caught.value, heard


async def test_an_answer_has_text_the_models_name_and_real_counts(adapter):
    answer = await say(adapter, "hello", seed=1, max_tokens=6)
    assert answer.text
    assert answer.finish.model == "tiny"
    assert answer.finish.reason == "length"
    assert answer.finish.usage.output_tokens == 6
    assert 0 < answer.finish.usage.input_tokens < 60
    longer = await say(adapter, "hello hello hello hello", seed=1, max_tokens=6)
    assert longer.finish.usage.input_tokens > answer.finish.usage.input_tokens


async def test_equal_seeds_give_equal_answers_and_other_seeds_others(adapter):
    first, again = [await say(adapter, "hello", seed=7, max_tokens=16) for _ in range(2)]
    assert first.text == again.text
    others = {(await say(adapter, "hello", seed=seed, max_tokens=16)).text for seed in range(20, 24)}
    assert others != {first.text}


async def test_temperature_zero_is_sent(adapter):
    answers = {(await say(adapter, "hello", temperature=0.0, seed=seed, max_tokens=12)).text for seed in range(3)}
    assert len(answers) == 1, "without chance, the seed changes nothing"


async def test_a_conversation_with_a_system_text_counts_all_of_it(adapter):
    bare = Prompt((user("hi"),), sampling=Sampling(max_tokens=2))
    whole = Prompt((user("hi"), assistant("yes"), user("hi")), system="be brief", sampling=Sampling(max_tokens=2))
    assert (await say(adapter, whole)).finish.usage.input_tokens > (await say(adapter, bare)).finish.usage.input_tokens


async def test_json_is_what_comes_when_json_is_asked_for(adapter):
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    prompt = Prompt((user("hello"),), json_schema=schema, sampling=Sampling(seed=1, max_tokens=40))
    answer = await say(adapter, prompt)
    assert answer.text.lstrip().startswith("{")


async def test_a_schema_that_is_none_is_the_clients_fault(adapter):
    failure, _ = await failing(adapter, Prompt((user("x"),), json_schema={"type": "nonsense"}))
    assert failure.kind is Kind.INVALID_REQUEST


async def test_a_model_that_is_not_there_is_not_found(adapter):
    failure, _ = await failing(adapter, Prompt((user("x"),)), "nope")
    assert failure.kind is Kind.MODEL_NOT_FOUND
    assert str(failure).endswith("ollama pull nope")


async def test_reasoning_effort_is_reported_as_ignored_by_a_model_that_does_not_think(adapter):
    assert (await say(adapter, "x", reasoning_effort="high", max_tokens=2)).finish.ignored == ("reasoning_effort",)
    assert (await say(adapter, "x", reasoning_effort="none", max_tokens=2)).finish.ignored == ()


async def test_an_image_for_a_model_without_eyes_is_refused(adapter):
    prompt = Prompt((Message("user", (Text("x"), Image("image/png", "aGFsbG8="))),))
    assert (await failing(adapter, prompt))[0].evidence == "ollama.no_vision"


@pytest.mark.parametrize(
    ("prompt", "evidence"),
    [
        (Prompt((user("word " * 60),)), "ollama.prompt_cut"),  # the server fills its window with a part of it
        (
            Prompt((user("word " * 200), assistant("x"), user("again"))),
            "ollama.prompt_cut",
        ),  # it drops the first message
        (Prompt((user("word " * 10_000),)), "ollama.window"),
    ],
)
async def test_a_prompt_that_the_server_would_cut_in_silence_is_too_long(adapter, prompt, evidence):
    failure, _ = await failing(adapter, prompt)
    assert (failure.kind, failure.evidence) == (Kind.CONTEXT_TOO_LONG, evidence)


async def test_a_prompt_that_fits_is_answered(adapter):
    answer = await say(adapter, "word " * 40, max_tokens=3)
    assert WINDOW_TOKENS / 2 < answer.finish.usage.input_tokens < WINDOW_TOKENS


async def test_cancelling_stops_the_generation_at_the_server(adapter):
    """The server makes one answer at a time: while an endless one went on, no other would come."""
    call = Call(Prompt((user("hello"),), sampling=Sampling(max_tokens=100_000_000)), "tiny", "tiny")
    spoke = trio.Event()

    async def emit(chunk):
        spoke.set()

    for _ in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(adapter.answer, call, emit, lambda window: None)
            with trio.fail_after(30):
                await spoke.wait()
            nursery.cancel_scope.cancel()
    with trio.fail_after(30):
        assert (await say(adapter, "hello", max_tokens=2)).text


async def test_a_full_queue_is_overloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("OLLAMA_NUM_PARALLEL", "1")
    monkeypatch.setenv("OLLAMA_MAX_QUEUE", "1")
    kinds = []

    async def one(adapter: OllamaAdapter) -> None:
        heard = Heard()
        try:
            call = Call(Prompt((user("hello"),), sampling=Sampling(max_tokens=40)), "tiny", "tiny")
            await adapter.answer(call, heard.emit, heard.report)
        except ProviderFailure as failure:
            kinds.append(failure.kind)

    with upstream("real_ollama") as busy:
        adapter = OllamaAdapter(place_of("ollama", tmp_path, url=busy.url))
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(one, adapter)
    assert set(kinds) == {Kind.OVERLOADED}
    assert len(kinds) < 16, "those that had a place were answered"


async def test_a_probe_finds_the_version_and_the_model(adapter):
    readiness = await adapter.probe()
    assert readiness.ready
    assert readiness.version.count(".") == 2
    assert readiness.models == ("tiny:latest",)
    assert readiness.sentence == ""
    assert adapter.accepts("tiny")
