"""Talking to a running gateway: over its control socket, in its own words."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmux.cli import control
from llmux.cli.control import GatewaySays, GatewaySilent, GatewayUnreachable, call, carry_out, opened
from llmux.config import Settings
from llmux.eventstore import own_directory
from llmux.http.control import FILE
from tests.cli.running import SCRIPTED
from tests.gateway import gateway_process


@contextmanager
def answering(directory: Path, *answers: bytes) -> Iterator[Settings]:
    """Something that owns the directory and gives each connection its answer, whatever it asks."""
    with own_directory(directory), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / FILE))
        listener.listen()
        listener.settimeout(10)

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Settings(data_dir=directory)
        finally:
            thread.join(10)
            (directory / FILE).unlink()


def response(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def test_an_answer_is_its_json_and_a_refusal_its_sentence(tmp_path: Path):
    refusal = response(409, b'{"error":"Not now.\\u009b","code":"not_now"}')
    with answering(
        tmp_path, response(200, b'{"a":1}'), response(204, b""), refusal, response(500, b"<html>")
    ) as settings:
        assert call(settings, "GET", "/x") == {"a": 1}
        assert call(settings, "DELETE", "/x") is None
        with pytest.raises(GatewaySays, match="Not now") as refused:
            call(settings, "GET", "/x")
        assert (refused.value.status, refused.value.code, str(refused.value)) == (409, "not_now", "Not now. ")
        with pytest.raises(GatewaySays, match="status 500"):
            call(settings, "GET", "/x")


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\nhalf", b"\xff\x00 no http\r\n\r\n"]
)
def test_a_gateway_that_dies_meanwhile_is_a_sentence(tmp_path: Path, answer: bytes):
    with answering(tmp_path, answer) as settings, pytest.raises(GatewaySilent, match="ended the connection"):
        call(settings, "GET", "/x")


def test_a_gateway_that_says_nothing_is_not_waited_for_for_ever(tmp_path: Path):
    with own_directory(tmp_path), socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / FILE))
        silent.listen()
        with pytest.raises(GatewaySilent, match="did not answer in time"):
            call(Settings(data_dir=tmp_path), "GET", "/x", timeout_s=0.05)


def test_a_command_that_meets_a_gateway_at_its_start_waits_for_it(tmp_path: Path):
    asked: list[int] = []

    def ask() -> str:
        asked.append(1)
        if len(asked) < 3:
            raise GatewayUnreachable("It starts.")
        return "answered"

    async def never(journal: object) -> str:
        raise AssertionError

    with own_directory(tmp_path):
        assert carry_out(Settings(data_dir=tmp_path), ask=ask, here=never) == "answered"
    assert len(asked) == 3


def test_what_may_have_been_done_is_not_tried_again(tmp_path: Path):
    asked: list[int] = []

    def ask() -> None:
        asked.append(1)
        raise GatewaySilent("Who knows.")

    async def never(journal: object) -> None:
        raise AssertionError

    with own_directory(tmp_path), pytest.raises(GatewaySilent):
        carry_out(Settings(data_dir=tmp_path), ask=ask, here=never)
    assert len(asked) == 1


def test_without_a_gateway_the_command_has_the_log_to_itself(tmp_path: Path):
    async def here(journal) -> int:
        assert control.running(settings)
        return journal.facts.position

    settings = Settings(data_dir=tmp_path / "data")
    assert carry_out(settings, ask=lambda: pytest.fail("nobody to ask"), here=here) == 0
    assert not control.running(settings)


def test_a_long_answer_is_read_piece_by_piece_from_a_real_gateway(tmp_path: Path):
    with gateway_process(tmp_path / "home", toml=SCRIPTED) as gateway:
        settings = Settings(data_dir=gateway.data_dir)
        assert control.running(settings)
        with opened(settings, "GET", "/admin/events", headers={"accept": "text/event-stream"}) as feed:
            while (line := feed.readline()) != b"event: GatewayStarted\n":
                assert line
            assert gateway.call("POST", "/claude", {"prompt": "hi"}).status == 200
            while (line := feed.readline()) != b"event: RequestCompleted\n":
                assert line
            assert gateway.stop() == 0
            assert feed.read().endswith(b": the gateway stops\n\n")
    assert not (gateway.data_dir / FILE).exists()
