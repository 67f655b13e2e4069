"""How Ollama's answers look: whole ones, and streams of JSON lines. Durations are in ns; 0 where nobody measured them."""

from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from llmux.http.errors import Problem
from llmux.http.exchange import Exchange, iso
from llmux.http.ollama.errors import error_body
from llmux.prompts import Answer, Chunk, Finish, ReasoningDelta, TextDelta

if TYPE_CHECKING:
    from llmux.actors.request import Request


class Said(msgspec.Struct, frozen=True):
    """What the model said, or the next piece of it; `thinking` is what it showed of its thoughts."""

    role: str
    content: str
    thinking: str | UnsetType = UNSET


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What chats and generates have in common. In a stream, only the last line is `done`, and only that one has the rest.

    The token counts are real. `provider` and `request_id` say who answered, `ignored` which wishes were not carried out.
    """

    model: str
    created_at: str
    done: bool
    done_reason: str | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    request_id: str | UnsetType = UNSET
    ignored: list[str] | UnsetType = UNSET


class ChatAnswer(Answered, frozen=True, kw_only=True):
    """An answer of a chat, or one line of its stream."""

    message: Said


class GenerateAnswer(Answered, frozen=True, kw_only=True):
    """An answer of a generate, or one line of its stream. `context` is always empty: no provider hands its tokens out."""

    response: str
    thinking: str | UnsetType = UNSET
    context: list[int] | UnsetType = UNSET


def chat_answer(text: str, thinking: str, fields: dict[str, Any]) -> ChatAnswer:
    """An answer of a chat, or a line of it."""
    return ChatAnswer(message=Said("assistant", text, thinking or UNSET), **fields)


def generate_answer(text: str, thinking: str, fields: dict[str, Any]) -> GenerateAnswer:
    """An answer of a generate, or a line of it."""
    return GenerateAnswer(response=text, thinking=thinking or UNSET, context=[] if fields["done"] else UNSET, **fields)


def ending(exchange: Exchange, request: "Request", finish: Finish) -> dict[str, Any]:
    """What the last object of an answer holds beside the answer."""
    usage = finish.usage
    return {
        "done": True,
        "done_reason": finish.reason,
        "total_duration": request.duration_ms * 1_000_000,
        "load_duration": 0,
        "prompt_eval_count": usage.input_tokens,
        "prompt_eval_duration": 0,
        "eval_count": usage.output_tokens,
        "eval_duration": 0,
        "provider": request.provider,
        "request_id": request.id,
        "ignored": exchange.ignored_with(finish) or UNSET,
    }


def loaded(model: str, now: int, keep_alive: Any) -> dict[str, Any]:
    """What is told to who only wanted a model to be loaded, or unloaded. `now` is wall time in ms."""
    unload = keep_alive in (0, "0", "0s", "0m")
    return {"model": model, "created_at": iso(now), "done": True, "done_reason": "unload" if unload else "load"}


class LineFrames:
    """One JSON object a line: one for each piece, the last with what there is to tell of the whole. A failure is the last."""

    media_type: ClassVar[str] = "application/x-ndjson"
    keep_alive: ClassVar[bytes]

    def __init__(self, exchange: Exchange, request: "Request", created_at: int):
        self._exchange, self._request = exchange, request
        self._created_at = iso(created_at)

    def opening(self) -> bytes:
        return b""

    def chunk(self, chunk: Chunk) -> bytes:
        if isinstance(chunk, TextDelta):
            return self._line(chunk.text, "", {"done": False})
        if isinstance(chunk, ReasoningDelta):
            return self._line("", chunk.text, {"done": False})
        return self._line("", "", ending(self._exchange, self._request, chunk)) if isinstance(chunk, Finish) else b""

    def failure(self, problem: Problem) -> bytes:
        return line(error_body(problem, self._exchange.id))

    def whole(self, answer: Answer) -> Any:
        """The answer as one object."""
        fields = ending(self._exchange, self._request, answer.finish)
        return self.piece(answer.text, answer.reasoning, self._with_names(fields))

    def _line(self, text: str, thinking: str, fields: dict[str, Any]) -> bytes:
        return line(self.piece(text, thinking, self._with_names(fields)))

    def _with_names(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"model": self._request.model, "created_at": self._created_at, **fields}

    def piece(self, text: str, thinking: str, fields: dict[str, Any]) -> Any:
        """One object."""
        raise NotImplementedError


class ChatFrames(LineFrames):
    """Lines of a chat. An empty piece fills a silence: clients add it to what they have."""

    keep_alive = b'{"message":{"role":"assistant","content":""},"done":false}\n'

    def piece(self, text: str, thinking: str, fields: dict[str, Any]) -> ChatAnswer:
        return chat_answer(text, thinking, fields)


class GenerateFrames(LineFrames):
    """Lines of a generate."""

    keep_alive = b'{"response":"","done":false}\n'

    def piece(self, text: str, thinking: str, fields: dict[str, Any]) -> GenerateAnswer:
        return generate_answer(text, thinking, fields)


def line(payload: Any) -> bytes:
    """One line of a stream."""
    return msgspec.json.encode(payload) + b"\n"
