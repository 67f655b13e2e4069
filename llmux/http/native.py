"""LLMux's own dialect: POST /api/smart, /api/generate, and one path per provider.

`/api/smart` chooses by weight and falls back; `/api/generate` and the direct paths ask one provider, and cache only when told
to. Errors are `{"error": "a sentence", "code", "request_id"}`, with what else is known: `param`, `retry_after` (s), `excluded`.

Of `options`, a wrong type or an impossible value is a 400 that names the field, and unknown ones are ignored, as they always
were. `timeout` (ms) cannot exceed the configured one, `retries` counts further tries on one route (at most 4), `cacheTtl` (ms) is
how long this answer may serve others, `useOss` needs an account of codex with a local model, which cannot be configured in this
version. An answer names in `ignored` the wishes that its provider could not carry out, a stream in its last frame.
"""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from quart import Response

from llmux.actors.messages import Principal, Wish
from llmux.actors.verdict import TRIES_MAX
from llmux.config import Settings
from llmux.failures import ClientFailure
from llmux.http.access import Caller, Door, body_bytes
from llmux.http.bodies import decoded, unsupported
from llmux.http.errors import Problem
from llmux.http.exchange import Exchange, current, iso, json_response
from llmux.http.streams import DONE, EventFrames, frame, route_headers, stream
from llmux.prompts import Answer, Chunk, Finish, Prompt, Sampling, TextDelta, Usage, user

if TYPE_CHECKING:
    from llmux.actors.request import Request
    from llmux.actors.system import System

DIRECT = ("claude", "gemini", "codex", "ollama")
RETRIES_MAX = TRIES_MAX - 1
"""further tries on one route; a request for more is refused, not quietly cut"""


class Options(msgspec.Struct, frozen=True):
    """The `options` of a request. Null means: not given."""

    model: str | None = None
    timeout: Annotated[int, msgspec.Meta(ge=1, le=86_400_000)] | None = None
    retries: Annotated[int, msgspec.Meta(ge=0, le=RETRIES_MAX)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    maxTokens: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    useCache: bool | None = None
    cacheTtl: int | None = None
    useOss: bool | None = None


class Body(msgspec.Struct, frozen=True):
    """The body of a request. `prompt` is checked by hand, so that its error keeps its words."""

    prompt: Any = None
    system: str | None = None
    provider: str | None = None
    model: str | None = None
    stream: bool | None = None
    options: Options | None = None


def register(door: Door, system: "System") -> None:
    """Opens the routes of this dialect."""
    for path in ("/api/smart", "/api/generate", *(f"/{name}" for name in DIRECT)):
        door.route("POST", path, partial(_answer, path), Caller.USER, error_body)


def wish_of(body: bytes, endpoint: str, principal: Principal, settings: Settings) -> Wish:
    """The wish in the body of a request to `endpoint`. Raises ClientFailure."""
    request = decoded(body, Body)
    if not isinstance(request.prompt, str) or not request.prompt.strip():
        raise ClientFailure("prompt is required", param="prompt", code="missing_prompt")
    options = request.options or Options()
    if options.useOss:
        raise unsupported(
            "options.useOss", "options.useOss needs a codex account with a local model; none is configured."
        )
    smart = endpoint == "/api/smart"
    model = options.model or ("" if smart else request.model) or ""
    return Wish(
        prompt=Prompt(
            messages=(user(request.prompt),),
            system=request.system or "",
            sampling=Sampling(temperature=options.temperature, max_tokens=options.maxTokens),
        ),
        principal=principal,
        endpoint=endpoint,
        provider=_provider(endpoint, request.provider or "", model, settings),
        model=model,
        stream=bool(request.stream),
        use_cache=smart if options.useCache is None else options.useCache,
        cache_ttl_ms=options.cacheTtl,
        timeout_ms=options.timeout,
        tries=None if options.retries is None else options.retries + 1,
    )


def _provider(endpoint: str, asked: str, model: str, settings: Settings) -> str:
    """The provider that is pinned. `/api/generate` without provider and model means the default one."""
    if endpoint == "/api/smart":
        return ""
    if endpoint == "/api/generate":
        return asked or ("" if model else settings.default_provider)
    return endpoint.removeprefix("/")


async def _answer(endpoint: str) -> Response:
    exchange = current()
    wish = wish_of(await body_bytes(), endpoint, exchange.principal, exchange.system.settings)
    request = exchange.begin(wish)
    smart = endpoint == "/api/smart"
    if wish.stream:
        return await stream(exchange, request, partial(NativeFrames, exchange, request, smart=smart))
    answer = await request.answer()
    body = _answer_body(exchange, request, answer, smart=smart)
    return json_response(body, headers=route_headers(exchange, request, answer.finish))


def _answer_body(exchange: Exchange, request: "Request", answer: Answer, *, smart: bool) -> dict[str, Any]:
    body = {
        "model": request.model,
        "created_at": iso(exchange.system.clock.now()),
        "response": answer.text,
        "done": True,
        "context": [],
        "total_duration": request.duration_ms * 1_000_000,
        "provider": request.provider,
        "request_id": request.id,
        "usage": usage_body(answer.finish.usage),
        "finish_reason": answer.finish.reason,
    }
    if smart:
        body |= {"smart": True, "cached": request.source == "cache"}
    return body | _ignored(exchange, answer.finish)


def _ignored(exchange: Exchange, finish: Finish) -> dict[str, Any]:
    names = exchange.ignored_with(finish)
    return {"ignored": names} if names else {}


def usage_body(usage: Usage) -> dict[str, int]:
    """Token counts under LLMux's own names, with their total."""
    return {**msgspec.structs.asdict(usage), "total_tokens": usage.total_tokens}


def error_body(problem: Problem, request_id: str) -> dict[str, Any]:
    """A problem as this dialect writes it."""
    body: dict[str, Any] = {"error": problem.message, "code": problem.code, "request_id": request_id}
    if problem.param is not None:
        body["param"] = problem.param
    if problem.retry_after_s is not None:
        body["retry_after"] = problem.retry_after_s
    if problem.excluded:
        body["excluded"] = problem.excluded
    return body


class NativeFrames(EventFrames):
    """`{"provider","started"}` (smart only), `{"content","done":false}`…, `{"content":"","done":true,…}`, `[DONE]`."""

    def __init__(self, exchange: Exchange, request: "Request", *, smart: bool):
        self._exchange, self._request, self._smart = exchange, request, smart

    def opening(self) -> bytes:
        return frame({"provider": self._request.provider, "started": True}) if self._smart else b""

    def chunk(self, chunk: Chunk) -> bytes:
        if isinstance(chunk, TextDelta):
            return frame({"content": chunk.text, "done": False})
        return self._end(chunk) + DONE if isinstance(chunk, Finish) else b""

    def _end(self, finish: Finish) -> bytes:
        return frame(
            {
                "content": "",
                "done": True,
                "duration": self._request.duration_ms,
                "provider": self._request.provider,
                "model": self._request.model,
                "request_id": self._request.id,
                "usage": usage_body(finish.usage),
                "finish_reason": finish.reason,
                **_ignored(self._exchange, finish),
            }
        )

    def failure(self, problem: Problem) -> bytes:
        return frame({**error_body(problem, self._exchange.id), "done": True}) + DONE
