"""OpenAI's dialect: POST /v1/chat/completions, GET /v1/models and /v1/models/{id}.

Beside OpenAI's own fields an answer has `_meta` (provider, attempts, duration_ms, request_id, cached, ignored), a stream in its
chunk with the finish reason; and the same in headers: x-llmux-provider, x-llmux-attempts, x-llmux-cache (hit, joined or miss) and
x-llmux-ignored (of a stream: what is known when it begins). A request with `Cache-Control: no-cache` gets a fresh answer.
"""

from typing import TYPE_CHECKING, Any

from quart import Response
from quart import request as http_request

from llmux.failures import ModelUnknown
from llmux.http.access import Caller, Door, body_bytes
from llmux.http.bodies import unsupported
from llmux.http.errors import Problem
from llmux.http.exchange import Exchange, current, json_response, strict
from llmux.http.openai_chat import ChatWish, chat_wish_of
from llmux.http.streams import DONE, frame, ignored_of, route_headers, stream
from llmux.prompts import Answer, Chunk, Finish, ReasoningDelta, TextDelta, Usage

if TYPE_CHECKING:
    from llmux.actors.request import Request
    from llmux.actors.system import ModelEntry, System

CHAT = "/v1/chat/completions"


def register(door: Door, system: "System") -> None:
    """Opens the routes of this dialect."""
    created = system.clock.now() // 1000

    async def models() -> Response:
        entries: dict[str, ModelEntry] = {}
        for entry in system.models():  # of two providers that offer a model, the first in the settings
            entries.setdefault(entry.id, entry)
        return json_response({"object": "list", "data": [_model_body(each, created) for each in entries.values()]})

    async def model(id: str) -> Response:
        for entry in system.models():
            if entry.id == id:
                return json_response(_model_body(entry, created))
        raise ModelUnknown(id, tuple(dict.fromkeys(entry.id for entry in system.models())))

    door.route("POST", CHAT, _chat, Caller.USER, error_body)
    door.route("GET", "/v1/models", models, Caller.PUBLIC, error_body)
    door.route("GET", "/v1/models/<path:id>", model, Caller.PUBLIC, error_body)


async def _chat() -> Response:
    exchange = current()
    fresh = "no-cache" in http_request.headers.get("cache-control", "").lower()
    asked = chat_wish_of(await body_bytes(), CHAT, exchange.principal, exchange.system.settings, use_cache=not fresh)
    if asked.ignored and strict():
        names = ", ".join(asked.ignored)
        raise unsupported(asked.ignored[0], f"No provider can carry out: {names}. (x-llmux-strict is true.)")
    request = exchange.begin(asked.wish)
    if asked.wish.stream:
        return await stream(exchange, request, ChatFrames(exchange, request, asked), ignored=asked.ignored)
    answer = await request.answer()
    headers = route_headers(request, answer.finish, asked.ignored)
    return json_response(_completion(exchange, request, answer, asked.ignored), headers=headers)


def _completion(exchange: Exchange, request: "Request", answer: Answer, ignored: tuple[str, ...]) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    return {
        "id": completion_id(request),
        "object": "chat.completion",
        "created": exchange.system.clock.now() // 1000,
        "model": request.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish.reason}],
        "usage": usage_body(answer.finish.usage),
        "_meta": _meta(request, answer.finish, ignored),
    }


def completion_id(request: "Request") -> str:
    """The id of a completion: the request id under OpenAI's prefix."""
    return "chatcmpl-" + request.id.replace("-", "")


def _meta(request: "Request", finish: Finish, ignored: tuple[str, ...]) -> dict[str, Any]:
    return {
        "provider": request.provider,
        "attempts": request.attempts,
        "duration_ms": request.duration_ms,
        "request_id": request.id,
        "cached": request.source == "cache",
        "ignored": ignored_of(finish, ignored),
    }


def usage_body(usage: Usage) -> dict[str, Any]:
    """Token counts under OpenAI's names."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _model_body(entry: "ModelEntry", created: int) -> dict[str, Any]:
    return {
        "id": entry.id,
        "object": "model",
        "created": created,
        "owned_by": entry.provider,
        "permission": [],
        "root": entry.id,
        "parent": None,
    }


def error_body(problem: Problem, request_id: str) -> dict[str, Any]:
    """A problem as OpenAI's clients read it; `excluded` tells per provider why none could answer."""
    error: dict[str, Any] = {
        "message": problem.message,
        "type": error_type(problem),
        "param": problem.param,
        "code": problem.code,
    }
    if problem.excluded:
        error["excluded"] = problem.excluded
    return {"error": error}


def error_type(problem: Problem) -> str:
    """OpenAI's word for whose fault it is."""
    if problem.status == 429:
        return problem.code if problem.code == "insufficient_quota" else "rate_limit_exceeded"
    known = {401: "authentication_error", 403: "permission_error"}
    return known.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")


class ChatFrames:
    """A chunk with the role, one per delta, one with the finish reason, one with the usage where it was asked for, `[DONE]`."""

    def __init__(self, exchange: Exchange, request: "Request", asked: ChatWish):
        self._request, self._asked = request, asked
        self._exchange = exchange
        self._created = exchange.system.clock.now() // 1000

    def opening(self) -> bytes:
        return self._delta({"role": "assistant", "content": ""})

    def chunk(self, chunk: Chunk) -> bytes:
        if isinstance(chunk, TextDelta):
            return self._delta({"content": chunk.text})
        if isinstance(chunk, ReasoningDelta):
            return self._delta({"reasoning_content": chunk.text})
        return self._end(chunk) if isinstance(chunk, Finish) else b""

    def _delta(self, delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._frame([choice], None, **more)

    def _frame(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None, **more: Any) -> bytes:
        body = {
            "id": completion_id(self._request),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._request.model,
            "choices": choices,
            **more,
        }
        return frame(body | {"usage": usage} if self._asked.include_usage else body)

    def _end(self, finish: Finish) -> bytes:
        end = self._delta({}, finish.reason, _meta=_meta(self._request, finish, self._asked.ignored))
        if self._asked.include_usage:
            end += self._frame([], usage_body(finish.usage))
        return end + DONE

    def failure(self, problem: Problem) -> bytes:
        return frame(error_body(problem, self._exchange.id)) + DONE
