"""How long Ollama may take to begin, and what becomes of connections that are kept."""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Prompt, user
from llmux.providers import ollama_http, ollama_patience
from llmux.providers.adapter import Call
from llmux.providers.ollama import OllamaAdapter
from llmux.providers.ollama_wire import ModelFacts
from tests.providers.hearing import Heard, ask, place_of
from tests.upstreams.running import Upstream, upstream

CALL = Call(Prompt((user("hi"),)), "tiny", "tiny")
ANSWER = b'{"model":"tiny","message":{"content":"yes"},"done":true,"done_reason":"stop"}\n'


@pytest.fixture(scope="module")
def running_server() -> Iterator[Upstream]:
    with upstream("ollama") as running:
        yield running


@pytest.fixture
def server(running_server: Upstream) -> Upstream:
    running_server.reset()
    return running_server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama_patience, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(ollama_patience, "LOADED_SECONDS_MAX", 0.2)


def made(directory: Path, url: str, **settings: int) -> OllamaAdapter:
    return OllamaAdapter(place_of("ollama", directory, url=url, **settings))


async def failure(adapter: OllamaAdapter) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        await ask(adapter, "hi", "tiny", "tiny")
    return caught.value


# --- the first byte ------------------------------------------------------------------------------------------------


async def test_trap_a_cold_model_sends_no_byte_until_it_is_loaded(server: Upstream, tmp_path: Path) -> None:
    """Four times as long as a loaded model may take; the statistics show the loading."""
    server.control(loaded=[], load_ms=800)
    adapter, heard = made(tmp_path, server.url), Heard()
    async with trio.open_nursery() as nursery:
        await nursery.start(adapter.serve)
        async with trio.open_nursery() as asking:
            asking.start_soon(adapter.answer, CALL, heard.emit, heard.report)
            with trio.fail_after(5):
                while adapter.statistics().starting == 0:
                    await trio.sleep(0.01)
            assert heard.chunks == []
        assert adapter.statistics().starting == 0
        nursery.cancel_scope.cancel()
    assert heard.answer.text == "The sky is blue."


async def test_a_model_that_is_loaded_and_silent_is_given_up(server: Upstream, tmp_path: Path) -> None:
    server.control(mode="hang")
    seen = await failure(made(tmp_path, server.url))
    assert (seen.kind, seen.evidence, seen.phase) == (Kind.TIMED_OUT, "ollama.silent", "first_byte")
    await gone(server)


async def test_a_load_that_takes_too_long_is_told_as_what_it_is(server: Upstream, tmp_path: Path) -> None:
    server.control(mode="hang", loaded=[])
    seen = await failure(adapter := made(tmp_path, server.url, first_byte_ms_max=600))
    assert (seen.kind, seen.evidence, seen.phase) == (Kind.TIMED_OUT, "ollama.loading", "first_byte")
    assert "still loading the model 'tiny'" in str(seen)
    assert adapter.statistics().starting == 0
    await gone(server)


async def test_a_server_that_does_not_tell_what_is_loaded_has_all_the_time(server: Upstream, tmp_path: Path) -> None:
    server.control(loaded=7, load_ms=600)
    assert (await ask(made(tmp_path, server.url), "hi", "tiny", "tiny")).answer.text


async def test_an_answer_that_begins_at_once_asks_nothing_else(server: Upstream, tmp_path: Path) -> None:
    await ask(made(tmp_path, server.url), "hi", "tiny", "tiny")
    assert [seen["path"] for seen in server.log()] == ["/api/show", "/api/chat"]


async def test_leaving_while_a_model_is_loaded_leaves_nothing(server: Upstream, tmp_path: Path) -> None:
    server.control(mode="hang", loaded=[])
    adapter = made(tmp_path, server.url)
    with trio.move_on_after(0.4):
        await ask(adapter, "hi", "tiny", "tiny")
    assert (adapter.statistics().busy, adapter.statistics().starting) == (0, 0)
    await gone(server)


async def gone(server: Upstream) -> None:
    with trio.fail_after(10):
        while not all(seen["closed_early"] for seen in server.log() if seen["path"] == "/api/chat"):
            await trio.sleep(0.02)


# --- kept connections ----------------------------------------------------------------------------------------------


class Server:
    """A server of bytes: `told(number)` is what connection number N says to its chats, one by one; b"" closes it."""

    def __init__(self, told: Callable[[int], list[bytes]]):
        self.told, self.connections, self.chats, self.open = told, 0, 0, 0

    async def handle(self, stream: trio.SocketStream) -> None:
        chats = self.told(self.connections)
        self.connections += 1
        self.open += 1
        try:
            data = b""
            while piece := await stream.receive_some():
                data += piece
                head, found, body = data.partition(b"\r\n\r\n")
                if not found or len(body) < int(head.lower().split(b"content-length:")[1].split()[0]):
                    continue
                data = b""
                self.chats += 1
                if reply := chats.pop(0):
                    await stream.send_all(reply)
                if not reply.endswith(b"\n"):
                    return
        finally:
            self.open -= 1
            await stream.aclose()


def whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body) + 1, body + b"\n")


@asynccontextmanager
async def served(
    told: Callable[[int], list[bytes]], directory: Path
) -> AsyncGenerator[tuple[OllamaAdapter, Server], None]:
    server = Server(told)
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, server.handle, 0, host="127.0.0.1"))
        adapter = made(directory, f"http://127.0.0.1:{listener.socket.getsockname()[1]}")
        adapter._facts["tiny"] = ModelFacts()  # so that the first exchange is a chat
        await nursery.start(adapter.serve)
        yield adapter, server
        nursery.cancel_scope.cancel()


async def outcome(adapter: OllamaAdapter) -> str:
    heard = Heard()
    try:
        await adapter.answer(CALL, heard.emit, heard.report)
    except ProviderFailure as failed:
        return failed.evidence
    return heard.answer.text


GOOD = whole(ANSWER[:-1])
CUT = b"HTTP/1.1 200 OK\r\ncontent-le"


@pytest.mark.parametrize(
    ("told", "outcomes", "connections", "chats"),
    [
        (lambda number: [GOOD, GOOD], ["yes", "yes"], 1, 2),
        (lambda number: [GOOD, b""], ["yes", "yes"], 2, 3),  # closed when it was to be used again: once more
        (lambda number: [GOOD, b""] if number == 0 else [b""], ["yes", "ollama.no_answer"], 2, 3),  # but only once
        (lambda number: [b""], ["ollama.no_answer"], 1, 1),  # a new connection was not stale
        (lambda number: [GOOD, CUT], ["yes", "ollama.no_answer"], 1, 2),  # an answer had begun
    ],
    ids=["kept", "stale", "stale and down", "new and down", "begun"],
)
async def test_a_stale_connection_is_replaced_once_and_only_when_nothing_was_received(
    tmp_path: Path, told: Callable[[int], list[bytes]], outcomes: list[str], connections: int, chats: int
) -> None:
    async with served(told, tmp_path) as (adapter, server):
        assert [await outcome(adapter) for _ in outcomes] == outcomes
        assert (server.connections, server.chats) == (connections, chats)


async def test_what_comes_behind_an_answer_is_not_taken_for_the_next_one(tmp_path: Path) -> None:
    poisoned = whole(ANSWER[:-1].replace(b"yes", b"not this"))
    async with served(lambda number: [GOOD + poisoned if number == 0 else GOOD], tmp_path) as (adapter, server):
        assert [await outcome(adapter) for _ in range(2)] == ["yes", "yes"]
        assert (server.connections, server.chats) == (2, 2)


async def test_a_prompt_on_which_the_server_may_have_worked_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that dies long after it was asked was not stale, though no byte of the answer had come."""
    monkeypatch.setattr(ollama_http, "STALE_SECONDS_MAX", -1)  # any time at all is long
    async with served(lambda number: [GOOD, b""], tmp_path) as (adapter, server):
        assert [await outcome(adapter) for _ in range(2)] == ["yes", "ollama.no_answer"]
        assert (server.connections, server.chats) == (1, 2)


async def test_connections_that_nobody_uses_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama_http, "IDLE_SECONDS_MAX", 0.2)
    async with served(lambda number: [GOOD] * 9, tmp_path) as (adapter, server):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(outcome, adapter)
        assert adapter.statistics().idle == server.open > 0
        with trio.fail_after(5):
            while server.open:
                await trio.sleep(0.02)
        assert adapter.statistics().idle == 0
        assert await outcome(adapter) == "yes"


async def test_no_more_connections_are_kept_than_answers_are_made_at_a_time(tmp_path: Path) -> None:
    async with served(lambda number: [GOOD] * 9, tmp_path) as (adapter, server):
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(outcome, adapter)
        assert adapter.statistics().idle <= adapter._place.settings.concurrency
        assert server.chats == 12
