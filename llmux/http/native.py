"""LLMux's own dialect: POST /api/smart, /api/generate, and one path per provider.

`/api/smart` chooses by weight and falls back; `/api/generate` and the direct paths ask one provider, and cache only when told
to. Errors are `{"error": "a sentence", "code", "request_id"}`, with what else is known: `param`, `retry_after` (s), `excluded`.

Of `options`, a wrong type or an impossible value is a 400 that names the field, and unknown ones are ignored, as they always
were. `timeout` (ms) cannot exceed the configured one, `retries` counts further tries on one route (at most 4), `cacheTtl` (ms) is
how long this answer may serve others, `fallback` lets other providers answer when those that were asked cannot, `useOss` asks the
codex whose models are an Ollama's (`oss = true` in the settings). An answer names in `ignored` the wishes that its provider could
not carry out, a stream in its last frame.
"""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType
from quart import Response

from llmux.actors.messages import Principal, Wish
from llmux.actors.verdict import TRIES_MAX
from llmux.config import Settings
from llmux.failures import ClientFailure, Excluded, printable
from llmux.http.access import Caller, Door, body_bytes
from llmux.http.bodies import decoded, unsupported
from llmux.http.errors import Problem
from llmux.http.exchange import Exchange, current, iso, json_response
from llmux.http.operations import Operation
from llmux.http.streams import DONE, EventFrames, frame, route_headers, stream
from llmux.prompts import Answer, Chunk, Finish, FinishReason, Prompt, Sampling, TextDelta, Usage, user

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
    fallback: bool | None = None


class Counts(msgspec.Struct, frozen=True):
    """Real token counts, under LLMux's own names."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    cache_write_input_tokens: int
    reasoning_tokens: int
    total_tokens: int


class NativeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer. `total_duration` is in ns, `context` is always empty; only /api/smart has `smart` and `cached`.

    `ignored` names the wishes that were not carried out, where there are any.
    """

    model: str
    created_at: str
    response: str
    done: bool = True
    context: list[int] = []
    total_duration: int
    provider: str
    request_id: str
    usage: Counts
    finish_reason: FinishReason
    smart: bool | UnsetType = UNSET
    cached: bool | UnsetType = UNSET
    ignored: list[str] | UnsetType = UNSET


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One frame of a stream: who answers (`started`, /api/smart only), the next piece (`content`), or the end (`done`).

    `duration` is in ms. After the end, and after an error frame, comes `[DONE]`.
    """

    content: str | UnsetType = UNSET
    done: bool | UnsetType = UNSET
    duration: int | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    started: bool | UnsetType = UNSET
    model: str | UnsetType = UNSET
    request_id: str | UnsetType = UNSET
    usage: Counts | UnsetType = UNSET
    finish_reason: FinishReason | UnsetType = UNSET
    ignored: list[str] | UnsetType = UNSET


class Body(msgspec.Struct, frozen=True):
    """The body of a request. `prompt` is checked by hand, so that its error keeps its words."""

    prompt: Any = None
    system: str | None = None
    provider: str | None = None
    model: str | None = None
    stream: bool | None = None
    options: Options | None = None


def asking(summary: str, description: str = "") -> Operation:
    """A route of this dialect that answers prompts."""
    return Operation(
        summary, tag="LLMux", description=description, body=Body, answer=NativeAnswer, frame=Piece, generates=True
    )


SMART = asking("Ask whoever is free", "By weight, with fallback; cached. A model beside the prompt is ignored.")
GENERATE = asking("Ask one provider", "The one named by `provider`, or that offers `model`, or the default one.")


def register(door: Door, system: "System") -> None:
    """Opens the routes of this dialect."""
    door.route("POST", "/api/smart", partial(answered, "/api/smart"), Caller.USER, error_body, SMART)
    for name in DIRECT:
        path = f"/{name}"
        door.route("POST", path, partial(answered, path), Caller.USER, error_body, asking(f"Ask {name}"))


def wish_of(body: bytes, endpoint: str, principal: Principal, settings: Settings) -> Wish:
    """The wish in the body of a request to `endpoint`. Raises ClientFailure."""
    request = decoded(body, Body)
    if not isinstance(request.prompt, str) or not request.prompt.strip():
        raise ClientFailure("prompt is required", param="prompt", code="missing_prompt")
    options = request.options or Options()
    smart = endpoint == "/api/smart"
    named = request.provider or ""
    model = options.model or ("" if smart else request.model) or ""
    return Wish(
        prompt=Prompt(
            messages=(user(request.prompt),),
            system=request.system or "",
            sampling=Sampling(temperature=options.temperature, max_tokens=options.maxTokens),
        ),
        principal=principal,
        endpoint=endpoint,
        provider=_oss(_asked(endpoint, named), settings)
        if options.useOss
        else _provider(endpoint, named, model, settings),
        model=model,
        stream=bool(request.stream),
        use_cache=smart if options.useCache is None else options.useCache,
        cache_ttl_ms=options.cacheTtl,
        timeout_ms=options.timeout,
        tries=None if options.retries is None else options.retries + 1,
        fallback=bool(options.fallback),
    )


def _asked(endpoint: str, named: str) -> str:
    """The provider that the path or the body names, or ""."""
    if endpoint in ("/api/smart", "/api/generate"):
        return "" if endpoint == "/api/smart" else named
    return endpoint.removeprefix("/")


def _provider(endpoint: str, named: str, model: str, settings: Settings) -> str:
    """The provider that is pinned. `/api/generate` without provider and model means the default one."""
    return _asked(endpoint, named) or (settings.default_provider if endpoint == "/api/generate" and not model else "")


def _oss(pinned: str, settings: Settings) -> str:
    """The codex whose models are an Ollama's, in the place of the one that was asked for. Raises ClientFailure."""
    param = "options.useOss"
    local = next((name for name, each in settings.providers.items() if each.enabled and each.oss), "")
    if not local:
        raise unsupported(param, f"{param} needs a codex with the models of an Ollama, and none is configured.")
    if pinned and settings.providers[settings.provider_named(pinned)].kind != "codex":
        raise unsupported(param, f"{param} is for codex, and another provider is asked for: {printable(pinned)}.")
    return local


async def answered(endpoint: str) -> Response:
    """The response to what the current request asks of this endpoint."""
    exchange = current()
    wish = wish_of(await body_bytes(), endpoint, exchange.principal, exchange.system.settings)
    request = exchange.begin(wish)
    smart = endpoint == "/api/smart"
    if wish.stream:
        return await stream(exchange, request, partial(NativeFrames, exchange, request, smart=smart))
    answer = await request.answer()
    body = _answer_body(exchange, request, answer, smart=smart)
    return json_response(body, headers=route_headers(exchange, request, answer.finish))


def _answer_body(exchange: Exchange, request: "Request", answer: Answer, *, smart: bool) -> NativeAnswer:
    return NativeAnswer(
        model=request.model,
        created_at=iso(exchange.system.clock.now()),
        response=answer.text,
        total_duration=request.duration_ms * 1_000_000,
        provider=request.provider,
        request_id=request.id,
        usage=usage_body(answer.finish.usage),
        finish_reason=answer.finish.reason,
        smart=True if smart else UNSET,
        cached=request.source == "cache" if smart else UNSET,
        ignored=exchange.ignored_with(answer.finish) or UNSET,
    )


def usage_body(usage: Usage) -> Counts:
    """Token counts under LLMux's own names, with their total."""
    return Counts(**msgspec.structs.asdict(usage), total_tokens=usage.total_tokens)


class NativeError(msgspec.Struct, frozen=True):
    """A failure: a sentence, and what else is known. `retry_after` is in seconds; `excluded` tells why nobody could answer.

    In a stream it is a frame, with `done`.
    """

    error: str
    code: str
    request_id: str
    param: str | UnsetType = UNSET
    retry_after: int | UnsetType = UNSET
    excluded: tuple[Excluded, ...] | UnsetType = UNSET
    done: bool | UnsetType = UNSET


def error_body(problem: Problem, request_id: str) -> NativeError:
    """A problem as this dialect writes it."""
    return NativeError(
        error=problem.message,
        code=problem.code,
        request_id=request_id,
        param=UNSET if problem.param is None else problem.param,
        retry_after=UNSET if problem.retry_after_s is None else problem.retry_after_s,
        excluded=problem.excluded or UNSET,
    )


class NativeFrames(EventFrames):
    """`{"provider","started"}` (smart only), `{"content","done":false}`…, `{"content":"","done":true,…}`, `[DONE]`."""

    def __init__(self, exchange: Exchange, request: "Request", *, smart: bool):
        self._exchange, self._request, self._smart = exchange, request, smart

    def opening(self) -> bytes:
        return frame(Piece(provider=self._request.provider, started=True)) if self._smart else b""

    def chunk(self, chunk: Chunk) -> bytes:
        if isinstance(chunk, TextDelta):
            return frame(Piece(content=chunk.text, done=False))
        return self._end(chunk) + DONE if isinstance(chunk, Finish) else b""

    def _end(self, finish: Finish) -> bytes:
        return frame(
            Piece(
                content="",
                done=True,
                duration=self._request.duration_ms,
                provider=self._request.provider,
                model=self._request.model,
                request_id=self._request.id,
                usage=usage_body(finish.usage),
                finish_reason=finish.reason,
                ignored=self._exchange.ignored_with(finish) or UNSET,
            )
        )

    def failure(self, problem: Problem) -> bytes:
        return frame(msgspec.structs.replace(error_body(problem, self._exchange.id), done=True)) + DONE
