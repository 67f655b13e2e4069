"""One and the same answer, asked for in every dialect: each tells the same of it, whole and streamed, in its own words."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.http.served import Gateway, Reply

TURNS = [{"role": "user", "content": "one two three"}]
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": TURNS, "stream_options": {"include_usage": True}}),
    "completions": ("/v1/completions", {"prompt": "one two three", "stream_options": {"include_usage": True}}),
    "responses": ("/v1/responses", {"input": "one two three"}),
    "anthropic": ("/v1/messages", {"messages": TURNS, "max_tokens": 50}),
    "ollama chat": ("/api/chat", {"messages": TURNS}),
    "ollama generate": ("/ollama/api/generate", {"prompt": "one two three"}),
    "native": ("/api/generate", {"prompt": "one two three"}),
}
CUT = {"chat": "length", "responses": "incomplete", "anthropic": "max_tokens"}
WHOLE = {"responses": "completed", "anthropic": "end_turn"}


class Told(msgspec.Struct, frozen=True):
    """What a client makes of a response."""

    text: str
    end: str
    tokens: tuple[int, int]


def chat(answer: dict[str, Any]) -> Told:
    choice, usage = answer["choices"][0], answer["usage"]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    return Told(text, choice["finish_reason"], (usage["prompt_tokens"], usage["completion_tokens"]))


def responses(answer: dict[str, Any]) -> Told:
    usage = answer["usage"]
    text = answer["output"][-1]["content"][0]["text"]
    return Told(text, answer["status"], (usage["input_tokens"], usage["output_tokens"]))


def anthropic(answer: dict[str, Any]) -> Told:
    usage = answer["usage"]
    return Told(answer["content"][0]["text"], answer["stop_reason"], (usage["input_tokens"], usage["output_tokens"]))


def ollama(answer: dict[str, Any]) -> Told:
    text = answer["message"]["content"] if "message" in answer else answer["response"]
    return Told(text, answer["done_reason"], (answer["prompt_eval_count"], answer["eval_count"]))


def native(answer: dict[str, Any]) -> Told:
    usage = answer["usage"]
    return Told(answer["response"], answer["finish_reason"], (usage["input_tokens"], usage["output_tokens"]))


def chat_stream(frames: list[Any]) -> Told:
    *pieces, last, usage, done = frames
    assert done == "[DONE]"
    choices = [piece["choices"][0] for piece in pieces]
    text = "".join(each["delta"].get("content", "") if "delta" in each else each["text"] for each in choices)
    counts = usage["usage"]
    return Told(text, last["choices"][0]["finish_reason"], (counts["prompt_tokens"], counts["completion_tokens"]))


def responses_stream(frames: list[Any]) -> Told:
    text = "".join(each["delta"] for each in frames if each["type"] == "response.output_text.delta")
    told = responses(frames[-1]["response"])
    assert told.text == text
    return told


def anthropic_stream(frames: list[Any]) -> Told:
    text = "".join(each["delta"]["text"] for each in frames if each["type"] == "content_block_delta")
    end = frames[-2]
    return Told(text, end["delta"]["stop_reason"], (end["usage"]["input_tokens"], end["usage"]["output_tokens"]))


def ollama_stream(frames: list[Any]) -> Told:
    *pieces, last = frames
    text = "".join(each["message"]["content"] if "message" in each else each["response"] for each in pieces)
    return Told(text, last["done_reason"], (last["prompt_eval_count"], last["eval_count"]))


def native_stream(frames: list[Any]) -> Told:
    *pieces, last, done = frames
    assert done == "[DONE]"
    usage = last["usage"]
    text = "".join(piece["content"] for piece in pieces)
    return Told(text, last["finish_reason"], (usage["input_tokens"], usage["output_tokens"]))


READERS: dict[str, tuple[Callable[[Any], Told], Callable[[Any], Told]]] = {
    "chat": (chat, chat_stream),
    "completions": (chat, chat_stream),
    "responses": (responses, responses_stream),
    "anthropic": (anthropic, anthropic_stream),
    "ollama chat": (ollama, ollama_stream),
    "ollama generate": (ollama, ollama_stream),
    "native": (native, native_stream),
}


def frames_of(reply: Reply) -> list[Any]:
    if reply.headers["content-type"] == "application/x-ndjson":
        return [msgspec.json.decode(line) for line in reply.body.splitlines()]
    datas = [line.removeprefix(b"data: ") for line in reply.body.splitlines() if line.startswith(b"data: ")]
    return [data.decode() if data == b"[DONE]" else msgspec.json.decode(data) for data in datas]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", WAYS)
async def test_every_dialect_tells_the_same_of_one_answer(door: Gateway, dialect: str, stream: bool) -> None:
    path, body = WAYS[dialect]
    read = READERS[dialect][stream]
    for model, text, tokens, ends in (
        ("gemini/say=hi", "hi", (3, 1), WHOLE.get(dialect, "stop")),
        ("gemini/echo,tokens=9", "one two three", (3, 9), WHOLE.get(dialect, "stop")),
        ("gemini/say=a+b,finish=length", "a b", (3, 2), CUT.get(dialect, "length")),
    ):
        reply = await door.post(path, {**body, "model": model, "stream": stream})
        assert reply.status == 200
        assert read(frames_of(reply) if stream else reply.json) == Told(text, ends, tokens)
        names = ("provider", "model", "attempts", "cache")
        told = [reply.headers[f"x-llmux-{name}"] for name in names]
        assert told == ["gemini", model.partition("/")[2], "1", "miss"]
