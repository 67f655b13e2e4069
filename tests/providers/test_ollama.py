"""The Ollama adapter against a server that misbehaves on command."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from llmux.config import Limits
from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Finish, Prompt, ReasoningDelta, Sampling, TextDelta, Usage, assistant, user
from llmux.providers.adapter import Call
from llmux.providers.ollama import OllamaAdapter
from tests.providers.hearing import Heard, ask, place_of
from tests.upstreams.running import Upstream, upstream

TEXT = "Grüße aus 東京 🗼: naïve, Ωμέγα. "


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


async def failure(adapter: OllamaAdapter, prompt: Prompt | str = "hi", heard: Heard | None = None) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        await ask(adapter, prompt, "tiny", "tiny", heard)
    return caught.value


def chats(server: Upstream) -> list[dict]:
    return [entry for entry in server.log() if entry["path"] == "/api/chat"]


async def test_an_answer_is_the_servers_text_its_counts_and_its_model(adapter, server):
    server.control(text=TEXT, chunks=5)
    heard = await ask(adapter, "hi", "tiny", "tiny")
    assert heard.text == TEXT
    assert heard.chunks[-1] == Finish("stop", Usage(input_tokens=7, output_tokens=5), model="tiny")
    assert len(heard.chunks) == 6


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
async def test_lines_and_characters_that_are_split_between_reads_come_out_whole(adapter, server, size):
    server.control(text=TEXT, chunks=4, write_bytes=size)
    assert (await ask(adapter, "hi", "tiny", "tiny")).text == TEXT


async def test_lines_that_come_in_one_read_are_all_passed_on(adapter, server):
    server.control(text=TEXT * 40, chunks=400, write_bytes=0)
    heard = await ask(adapter, "hi", "tiny", "tiny")
    assert (heard.text, len(heard.chunks)) == (TEXT * 40, 401)


async def test_thinking_comes_as_reasoning_before_the_text(adapter, server):
    server.control(thinking=["Let me ", "see."], text="Yes.", chunks=1)
    heard = await ask(adapter, "hi", "tiny", "tiny")
    assert heard.chunks[:3] == [ReasoningDelta("Let me "), ReasoningDelta("see."), TextDelta("Yes.")]


async def test_an_answer_cut_by_max_tokens_says_length(adapter, server):
    server.control(last={"done_reason": "length"})
    assert (await ask(adapter, "hi", "tiny", "tiny")).answer.finish.reason == "length"


async def test_counts_that_the_server_leaves_out_are_zero(adapter, server):
    server.control(counts=False)
    assert (await ask(adapter, "hi", "tiny", "tiny")).answer.finish.usage == Usage()


@pytest.mark.parametrize(
    ("modes", "kind", "evidence", "spoke"),
    [
        ({"mode": "cut"}, Kind.GARBLED, "ollama.cut", True),
        ({"mode": "no_done"}, Kind.GARBLED, "ollama.no_done", True),
        ({"mode": "error_line"}, Kind.GARBLED, "ollama.error_line", True),
        ({"mode": "garbage"}, Kind.GARBLED, "ollama.bad_line", True),
        ({"text": ""}, Kind.GARBLED, "ollama.empty", False),
        ({"text": "", "last": {"done_reason": "load"}}, Kind.GARBLED, "ollama.empty", False),
        ({"mode": "disconnect"}, Kind.UNAVAILABLE, "ollama.no_answer", False),
        ({"mode": "refuse", "status": 503}, Kind.OVERLOADED, "ollama.503", False),
        ({"mode": "refuse", "status": 404}, Kind.MODEL_NOT_FOUND, "ollama.404", False),
        ({"mode": "refuse", "status": 302, "headers": {"location": "http://127.0.0.1:1/"}}, Kind.UNAVAILABLE, "ollama.not_ollama", False),
        ({"mode": "refuse", "status": 500, "error": "x" * 100_000}, Kind.GARBLED, "ollama.line_bound", False),
        ({"last": {"prompt_eval_count": 4096}}, Kind.CONTEXT_TOO_LONG, "ollama.prompt_cut", True),
    ],
)  # fmt: skip
async def test_a_bad_end_is_a_failure_of_its_kind_and_the_next_answer_is_good(
    adapter, server, modes, kind, evidence, spoke
):
    heard = Heard()
    server.control(**modes)
    seen = await failure(adapter, heard=heard)
    assert (seen.kind, seen.evidence) == (kind, evidence)
    assert bool(heard.chunks) is spoke
    assert not any(isinstance(chunk, Finish) for chunk in heard.chunks)
    server.reset()
    assert (await ask(adapter, "hi", "tiny", "tiny")).text == "The sky is blue."


async def test_an_empty_answer_is_good_when_a_stop_sequence_explains_it(adapter, server):
    server.control(text="")
    prompt = Prompt((user("hi"),), sampling=Sampling(stop=("X",)))
    assert (await ask(adapter, prompt, "tiny", "tiny")).answer.text == ""


async def test_nothing_listens_is_unavailable_and_says_what_to_type(tmp_path):
    with socket.socket() as bound:  # bound and not listening: nobody else takes the port
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        adapter = OllamaAdapter(place_of("ollama", tmp_path, url=url))
        seen = await failure(adapter)
        readiness = await adapter.probe()
    assert seen.kind is Kind.UNAVAILABLE
    assert not readiness.ready
    assert not readiness.installed
    assert readiness.sentence == f"No Ollama server answers at {url}. Start it with: ollama serve" == str(seen)


async def test_a_redirect_is_never_followed(adapter, server):
    with upstream("ollama") as elsewhere:
        server.control(mode="refuse", status=307, headers={"location": f"{elsewhere.url}/api/chat"})
        await failure(adapter)
        assert elsewhere.log() == []


async def test_equal_conversations_are_sent_with_equal_bytes(adapter, server):
    first = Prompt((user("a"),), system="s")
    await ask(adapter, first, "tiny", "tiny")
    await ask(adapter, Prompt((user("a"), assistant("b"), user("c")), system="s"), "tiny", "tiny")
    bodies = [entry["body"] for entry in chats(server)]
    common = json.dumps(json.loads(bodies[0])["messages"], separators=(",", ":"))[:-1]
    assert all(common in body for body in bodies)


async def test_the_upstream_name_of_the_model_is_what_the_server_is_told(adapter, server):
    await ask(adapter, "hi", "small", "tiny:latest")
    assert json.loads(chats(server)[0]["body"])["model"] == "tiny:latest"


async def test_one_connection_serves_answer_after_answer(adapter, server):
    heard = Heard()
    async with trio.open_nursery() as nursery:
        await nursery.start(adapter.serve)
        for _ in range(5):
            await adapter.answer(Call(Prompt((user("hi"),)), "tiny", "tiny"), heard.emit, heard.report)
        assert adapter.statistics().started == 1
        assert adapter.statistics().idle == 1
        nursery.cancel_scope.cancel()
    assert adapter.statistics().idle == 0


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again(tmp_path):
    """The server restarts between two requests, on the same port."""
    heard = Heard()
    call = Call(Prompt((user("hi"),)), "tiny", "tiny")
    async with trio.open_nursery() as nursery:
        with upstream("ollama") as first:
            adapter = OllamaAdapter(place_of("ollama", tmp_path, url=first.url))
            await nursery.start(adapter.serve)
            await adapter.answer(call, heard.emit, heard.report)
        with upstream("ollama", "--port", str(first.port)):
            await adapter.answer(call, heard.emit, heard.report)
        nursery.cancel_scope.cancel()
    assert heard.text == "The sky is blue." * 2
    assert adapter.statistics().started == 2


async def test_a_body_that_never_ends_after_its_last_line_does_not_hold_the_answer_up(adapter, server):
    server.control(mode="linger")
    heard = await ask(adapter, "hi", "tiny", "tiny")
    assert heard.answer.text == "The sky is blue."


async def test_cancelling_while_the_reader_is_slow_closes_the_connection(adapter, server):
    """The client stopped reading in the midst of a stream, and leaves."""
    server.control(text=TEXT * 2000, chunks=5000)
    began = trio.Event()

    async def emit(chunk):
        began.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(adapter.answer, Call(Prompt((user("hi"),)), "tiny", "tiny"), emit, lambda window: None)
        await began.wait()
        nursery.cancel_scope.cancel()
    await closed_early(server)


async def closed_early(server: Upstream) -> None:
    with trio.fail_after(10):
        while not chats(server)[-1]["closed_early"]:
            await trio.sleep(0.02)


async def test_what_the_server_says_of_a_model_is_asked_once_and_again_when_its_models_change(adapter, server):
    def shows() -> int:
        return [entry["path"] for entry in server.log()].count("/api/show")

    for _ in range(3):
        await adapter.probe()
        await ask(adapter, "hi", "tiny", "tiny")
    assert shows() == 1
    server.control(models=["tiny:latest", "more:1b"])
    await adapter.probe()
    await ask(adapter, "hi", "tiny", "tiny")
    assert shows() == 2


async def test_a_prompt_that_cannot_fit_is_not_sent_at_all(adapter, server):
    seen = await failure(adapter, "x" * (8 * 4096 + 1))
    assert seen.kind is Kind.CONTEXT_TOO_LONG
    assert chats(server) == []


async def test_a_probe_says_version_and_models_and_what_to_pull(adapter, server):
    server.control(models=["tiny:latest", "qwen2.5:0.5b"], version="0.12.6")
    readiness = await adapter.probe()
    assert readiness.ready
    assert (readiness.version, readiness.models) == ("0.12.6", ("qwen2.5:0.5b", "tiny:latest"))
    assert readiness.sentence.endswith("ollama pull qwen3:14b")
    assert adapter.accepts("tiny")
    assert adapter.accepts("tiny:latest")
    assert adapter.accepts("qwen2.5:0.5b")
    assert not adapter.accepts("qwen2.5")
    assert chats(server) == []
    server.control(models=["qwen3:14b"])
    assert (await adapter.probe()).sentence == ""
    assert not adapter.accepts("tiny")


async def test_a_server_that_is_no_ollama_is_not_taken_for_one(tmp_path):
    with upstream("anthropic") as other:
        adapter = OllamaAdapter(place_of("ollama", tmp_path, url=other.url))
        readiness = await adapter.probe()
    assert not readiness.ready
    assert "is not an Ollama server" in readiness.sentence


async def test_a_probe_of_a_server_that_is_silent_ends_in_time(tmp_path):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        adapter = OllamaAdapter(place_of("ollama", tmp_path, url=url, limits=Limits(probe_ms_max=300)))
        readiness = await adapter.probe()
    assert not readiness.ready
    assert readiness.sentence.endswith("does not answer in time.")
