"""A real Ollama server with one tiny model that babbles: shapes, counts, seeds, refusals and the end of a generation.

The traps that were found in Ollama, each with its test (here, or in tests/providers against a server that misbehaves):

| trap | test |
|---|---|
| no byte until a cold model is loaded, for minutes | test_ollama_waiting: test_trap_a_cold_model_sends_no_byte_until_it_is_loaded |
| a prompt longer than num_ctx is cut in silence | test_trap_a_prompt_that_the_server_would_cut_in_silence_is_too_long |
| an image sent to a text model is ignored in silence | test_trap_an_image_for_a_model_without_eyes_is_refused |
| only leaving stops a generation | test_trap_cancelling_stops_the_generation_at_the_server |
| the runner crashes in the midst of an answer | test_trap_the_runner_crashes_and_the_next_answer_reloads_the_model |
| a stream that ends without its done line looks good | test_ollama: the row "no_done"; "cut" and "error_line" beside it |
| an error line under status 200 | test_ollama: "error_line"; test_ollama_wire: test_a_line_that_is_no_part_of_an_answer_is_a_failure |
| a wrong option is a 500, a missing model has two spellings | test_ollama_wire: test_every_refusal_has_its_kind |
| counts are left out where they are zero | test_ollama_wire: test_a_last_line_without_counts_is_good |
| max_tokens 0 means "no end" | test_ollama_wire: test_what_ollama_cannot_be_asked_is_refused_before_it_is_sent |
| a prompt without text only loads the model | the same, and test_ollama: the row with done_reason "load" |
| a redirect would lead elsewhere | test_ollama: test_a_redirect_is_never_followed |
| a kept connection is closed in the moment it is used | test_ollama_waiting: test_a_stale_connection_is_replaced_once_… |
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Answer, Finish, Image, Message, Prompt, Sampling, Text, assistant, embed, numbers_of, user
from llmux.providers import ollama_patience
from llmux.providers.adapter import Call
from llmux.providers.ollama import OllamaAdapter
from llmux.providers.ollama_http import Server
from tests.providers.hearing import Heard, ask, descendants, place_of
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


async def test_trap_an_image_for_a_model_without_eyes_is_refused(adapter):
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
async def test_trap_a_prompt_that_the_server_would_cut_in_silence_is_too_long(adapter, prompt, evidence):
    failure, _ = await failing(adapter, prompt)
    assert (failure.kind, failure.evidence) == (Kind.CONTEXT_TOO_LONG, evidence)


async def test_a_prompt_that_fits_is_answered(adapter):
    answer = await say(adapter, "word " * 40, max_tokens=3)
    assert WINDOW_TOKENS / 2 < answer.finish.usage.input_tokens < WINDOW_TOKENS


async def test_trap_cancelling_stops_the_generation_at_the_server(adapter):
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


async def test_a_model_is_cold_until_it_is_asked_and_the_first_answer_waits_for_it(adapter, server, monkeypatch):
    """The load itself takes some 0.3 s here: too short to be watched for certain, so that only its two ends are."""
    monkeypatch.setattr(ollama_patience, "LOOK_SECONDS", 0.01)
    await unload(server)
    assert await adapter._patience._is_loaded("tiny") is False
    assert (await say(adapter, "hello", max_tokens=2)).text
    assert await adapter._patience._is_loaded("tiny") is True
    assert await adapter._patience._is_loaded("tiny:latest") is True
    assert await adapter._patience._is_loaded("nope") is False
    assert adapter.statistics().starting == 0


async def unload(server: Upstream) -> None:
    """Ollama says that it unloads, and does it a moment later."""
    ollama_server = Server(server.url, connect_ms_max=5_000)
    async with ollama_server.exchange("POST", "/api/generate", b'{"model":"tiny","keep_alive":0}') as exchange:
        assert b'"unload"' in await exchange.whole(65_536)
    with trio.fail_after(20):
        while True:
            async with ollama_server.exchange("GET", "/api/ps") as exchange:
                if b'"tiny' not in await exchange.whole(65_536):
                    return
            await trio.sleep(0.02)


async def test_all_answers_go_over_one_connection(adapter):
    async with trio.open_nursery() as nursery:
        await nursery.start(adapter.serve)
        for seed in range(4):
            heard = Heard()
            call = Call(Prompt((user("hello"),), sampling=Sampling(seed=seed, max_tokens=3)), "tiny", "tiny")
            await adapter.answer(call, heard.emit, heard.report)
            assert heard.answer.text
        assert (adapter.statistics().started, adapter.statistics().idle) == (1, 1)
        nursery.cancel_scope.cancel()


async def test_a_stop_sequence_ends_the_answer_before_itself(adapter):
    whole = (await say(adapter, "hello", seed=5, max_tokens=24)).text
    cut = whole[len(whole) // 2 : len(whole) // 2 + 2]
    stopped = await say(adapter, "hello", seed=5, max_tokens=24, stop=(cut,))
    assert stopped.finish.reason == "stop"
    assert stopped.text == whole[: whole.index(cut)]


async def test_a_narrow_choice_is_another_one(adapter):
    """With top_p next to nothing, only the likeliest token is left, whatever the seed."""
    answers = {(await say(adapter, "hello", top_p=0.000001, seed=seed, max_tokens=8)).text for seed in range(3)}
    assert len(answers) == 1


async def test_trap_the_runner_crashes_and_the_next_answer_reloads_the_model(adapter, server):
    """The runner dies in the midst of an answer; the server says so in its last line, and loads the model again by itself."""
    heard, failures = Heard(), []

    async def one() -> None:
        call = Call(Prompt((user("hello"),), sampling=Sampling(max_tokens=100_000_000)), "tiny", "tiny")
        try:
            await adapter.answer(call, heard.emit, heard.report)
        except ProviderFailure as failure:
            failures.append(failure)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            while not heard.text:
                await trio.sleep(0.01)
            for pid, name in descendants(server.pid).items():
                if b"runner" in Path(f"/proc/{pid}/cmdline").read_bytes() and name:
                    os.kill(pid, signal.SIGKILL)
        assert [failure.kind for failure in failures] == [Kind.GARBLED]
        assert (await say(adapter, "hello", max_tokens=2)).text


async def test_an_embedding_has_a_vector_of_the_models_own_length_for_each_text_and_real_counts(adapter):
    answer = (await ask(adapter, embed("hello", "hello hello", ""), "tiny", "tiny")).answer
    vectors = [numbers_of(vector) for vector in answer.vectors]
    assert [len(vector) for vector in vectors] == [64, 64, 64]
    assert vectors[0] != vectors[1]
    assert answer.finish.usage.output_tokens == 0
    alone = (await ask(adapter, embed("hello"), "tiny", "tiny")).answer
    assert 0 < alone.finish.usage.input_tokens < answer.finish.usage.input_tokens
    assert max(abs(a - b) for a, b in zip(numbers_of(alone.vectors[0]), vectors[0], strict=True)) < 0.01


async def test_a_text_too_long_for_an_embedding_is_cut_only_where_that_was_asked_for(adapter):
    text = "hello " * 1000
    cut = (await ask(adapter, embed(text), "tiny", "tiny")).answer
    assert cut.finish.usage.input_tokens <= WINDOW_TOKENS
    failure, _ = await failing(adapter, embed(text, truncate=False))
    assert failure.kind is Kind.CONTEXT_TOO_LONG
    failure, _ = await failing(adapter, embed("a"), "nope")
    assert failure.kind is Kind.MODEL_NOT_FOUND
