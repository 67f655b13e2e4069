"""A local Ollama server: native chat over kept-alive connections, one line of JSON per piece of the answer; and embeddings.

Success is a line with `done: true`; whatever else ends a stream is a failure. An empty answer is one too, unless the prompt's
own `max_tokens` or stop sequences explain it.

A model that is not in memory is loaded before the first byte, which can take minutes: the whole deadline for the first byte is
for that. Once the server lists the model as loaded, a shorter one counts. The server is asked only when an answer keeps waiting.

A prompt that does not fit into the model's context: newer servers refuse it, because they are told to (`truncate: false`). Older
ones drop the beginning of it in silence. What certainly does not fit is therefore not sent at all, and an answer whose own
count of prompt tokens shows a cut ends as the failure `context_too_long` in the place of its `Finish`. The cost is one call of
/api/show per model and change of the model. Where the model does not name its context (`PARAMETER num_ctx`), an older server's
cut cannot be seen.
"""

from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import TypeVar

import msgspec
import trio

from llmux.failures import Kind, ProviderFailure, printable
from llmux.prompts import Embedding, Finish, ReasoningDelta, TextDelta, Usage
from llmux.providers.adapter import Call, Emit, Place, Readiness, Report, WorkerStatistics, refuse_if_strict
from llmux.providers.ollama_embedding import BYTES_PER_NUMBER_MAX, embed_request, read_embeddings
from llmux.providers.ollama_http import Exchange, Lost, Server, TooLong
from llmux.providers.ollama_listing import Tag, Tags, listed_of
from llmux.providers.ollama_wire import (
    UNREADABLE,
    Line,
    ModelFacts,
    chat_request,
    facts_of,
    failure_of,
    prompt_was_cut,
    read_line,
)

ERROR_BYTES_MAX = 64 * 1024
MODELS_KEPT_MAX = 256
REST_SECONDS_MAX = 0.1
"""how long the end of the body may lag behind the last line before its connection is given up"""


T = TypeVar("T")


LOOK_SECONDS = 2
"""how often the server is asked whether a model is loaded, while an answer waits for its beginning"""
LOADED_SECONDS_MAX = 120
"""how long a model that is in memory may take to begin: it reads the prompt, and it may have others to answer first"""


class _Waiting:
    """The wait for an answer to begin, and whether its model is being loaded meanwhile."""

    def __init__(self, scope: trio.CancelScope):
        self.scope, self.loading = scope, False


class _Version(msgspec.Struct):
    version: str


class OllamaAdapter:
    """Answers through one Ollama server. `serve` keeps the idle connections and closes them at its end."""

    def __init__(self, place: Place):
        self._place, self._limits = place, place.limits
        self._server = Server(place.settings.url, connect_ms_max=place.limits.probe_ms_max)
        self._facts: dict[str, ModelFacts] = {}
        self._digests: dict[str, str] = {}
        self._names: frozenset[str] = frozenset()
        self._busy = self._loading = 0

    def __repr__(self) -> str:
        return f"<OllamaAdapter {self._server.url} {self._busy} busy, {self._server.idle} idle, {len(self._digests)} models>"

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._server.keep(self._place.settings.concurrency)
        task_status.started()
        try:
            await self._server.tend()
        finally:
            await self._server.close()

    def accepts(self, model: str) -> bool:
        """Whether the server listed the model when it was probed last, with or without ":latest"."""
        return model in self._names

    def statistics(self) -> WorkerStatistics:
        """The workers are connections; `starting` are those whose answer waits for a model to be loaded (and `busy`, too)."""
        return WorkerStatistics(
            starting=self._loading, idle=self._server.idle, busy=self._busy, started=self._server.connected
        )

    # --- one answer -------------------------------------------------------------------------------------------------

    async def answer(self, call: Call, emit: Emit, report: Report) -> None:
        self._busy += 1
        try:
            await self._answer(call, emit)
        except Lost as lost:
            raise self._lost(lost) from None
        except TooLong:
            raise _garbled("Ollama sent a line that is too long.", "ollama.line_bound") from None
        finally:
            self._busy -= 1

    async def _answer(self, call: Call, emit: Emit) -> None:
        if call.prompt.embedding is not None:
            await self._embed(call, call.prompt.embedding, emit)
            return
        facts = await self._facts_of(call.upstream_model)
        body, ignored = chat_request(call.prompt, call.upstream_model, facts)
        refuse_if_strict(call.prompt, ignored)
        async with AsyncExitStack() as stack:
            exchange = await self._begin(stack, "/api/chat", body, call.upstream_model)
            last = await self._pass_on(exchange, call, emit)
            if prompt_was_cut(call.prompt, last.prompt_eval_count, facts):
                raise ProviderFailure(
                    Kind.CONTEXT_TOO_LONG,
                    f"Ollama cut the prompt down to {last.prompt_eval_count} tokens; the answer does not belong to all of it.",
                    evidence="ollama.prompt_cut",
                )
            usage = Usage(input_tokens=last.prompt_eval_count, output_tokens=last.eval_count)
            length = last.done_reason == "length"
            await emit(Finish("length" if length else "stop", usage, model=last.model, ignored=ignored))
            with trio.move_on_after(REST_SECONDS_MAX):  # so that the connection can be used again
                while await exchange.more() is not None:
                    pass

    async def _embed(self, call: Call, wanted: Embedding, emit: Emit) -> None:
        body = embed_request(wanted, call.upstream_model)
        async with AsyncExitStack() as stack:
            exchange = await self._begin(stack, "/api/embed", body, call.upstream_model)
            answer = await exchange.whole(self._limits.answer_bytes_max // 4 * BYTES_PER_NUMBER_MAX)
            for chunk in read_embeddings(answer, wanted, call.upstream_model):
                await emit(chunk)

    async def _begin(self, stack: AsyncExitStack, path: str, body: bytes, model: str) -> Exchange:
        """The exchange, opened on the stack, once its answer has begun well. Raises ProviderFailure, and Lost."""
        begun = stack.enter_async_context(self._server.exchange("POST", path, body))
        exchange = await self._patiently(begun, model)
        if exchange.status != 200:
            text = await exchange.whole(ERROR_BYTES_MAX)
            raise failure_of(exchange.status, text, model, exchange.headers.get("retry-after", ""))
        return exchange

    async def _patiently(self, begun: Awaitable[Exchange], model: str) -> Exchange:
        """Waits for the answer to begin, as long as a model that has to be loaded, or one that need not, may take."""
        bound_ms = self._place.settings.first_byte_ms_max
        waiting = _Waiting(
            trio.CancelScope(deadline=trio.current_time() + (bound_ms - min(1_000, bound_ms // 3)) / 1000)
        )
        exchange: Exchange | None = None
        raised: BaseException | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, model, waiting)
            try:
                with waiting.scope:
                    exchange = await begun
            except BaseException as error:  # raised again below, outside the nursery that would wrap it in a group
                raised = error
            nursery.cancel_scope.cancel()
        if raised is not None:
            raise raised
        if exchange is None:
            raise _silent(model, waiting.loading)
        return exchange

    async def _watch(self, model: str, waiting: "_Waiting") -> None:
        """While an answer does not begin: looks whether its model is being loaded, and shortens the wait once it is there."""
        try:
            while True:
                await trio.sleep(LOOK_SECONDS)
                loaded = await self._is_loaded(model)
                self._loading += (loaded is False) - waiting.loading
                waiting.loading = loaded is False
                if loaded:
                    ends = trio.current_time() + LOADED_SECONDS_MAX
                    waiting.scope.deadline = min(waiting.scope.deadline, ends)
                    return
        finally:
            self._loading -= waiting.loading

    async def _is_loaded(self, model: str) -> bool | None:
        """Whether the server has the model in memory; None when it does not say."""
        with trio.move_on_after(self._limits.probe_ms_max / 1000):
            try:
                running = await self._read("/api/ps", Tags)
            except (Lost, TooLong, *UNREADABLE):
                return None
            names = {tag.name for tag in running.models or []}
            return model in names or f"{model}:latest" in names
        return None

    async def _pass_on(self, exchange: Exchange, call: Call, emit: Emit) -> Line:
        """Emits what the lines say and returns the last one."""
        said = False
        while (data := await exchange.line(self._limits.line_bytes_max)) is not None:
            if not data.strip():
                continue
            line = read_line(data)
            if line.message is not None and line.message.thinking:
                said = True
                await emit(ReasoningDelta(line.message.thinking))
            if line.message is not None and line.message.content:
                said = True
                await emit(TextDelta(line.message.content))
            if line.done:
                if not said and line.done_reason != "length" and not call.prompt.sampling.stop:
                    raise _garbled("Ollama's answer is empty.", "ollama.empty")
                return line
        raise _garbled("Ollama's answer has no end.", "ollama.no_done")

    async def _facts_of(self, model: str) -> ModelFacts:
        """What the server says about a model: asked once, and again when the list of models has changed."""
        known = self._facts.get(model)
        if known is not None:
            return known
        with trio.move_on_after(self._limits.probe_ms_max / 1000):
            try:
                body = msgspec.json.encode({"model": model})
                async with self._server.exchange("POST", "/api/show", body) as exchange:
                    answer = await exchange.whole(self._limits.line_bytes_max)
                    if exchange.status == 200:
                        if len(self._facts) >= MODELS_KEPT_MAX:
                            self._facts.clear()
                        return self._facts.setdefault(model, facts_of(answer))
            except TooLong:
                pass
            except Lost as lost:
                if lost.stage == "connect":
                    raise
        return ModelFacts()  # the chat itself will tell what is wrong

    def _lost(self, lost: Lost) -> ProviderFailure:
        if lost.stage == "body":
            return _garbled("Ollama broke off in the midst of the answer.", "ollama.cut")
        if lost.stage == "head":
            return ProviderFailure(
                Kind.UNAVAILABLE, "Ollama closed the connection without an answer.", evidence="ollama.no_answer"
            )
        return ProviderFailure(Kind.UNAVAILABLE, self._down(), evidence="ollama.connect")

    # --- is it there? -----------------------------------------------------------------------------------------------

    async def probe(self) -> Readiness:
        """Asks for the version and the models. `ready` only says that a server is there; `models` says what it has."""
        reason = f"The Ollama server at {self._server.url} does not answer in time."
        with trio.move_on_after(self._limits.probe_ms_max / 1000 * 0.9):
            try:
                version = await self._read("/api/version", _Version)
                tags = await self._read("/api/tags", Tags)
                self._learn(tags.models or [])
                return Readiness(
                    installed=True,
                    logged_in=True,
                    version=printable(version.version, 40),
                    sentence=self._missing(),
                    models=tuple(sorted(self._digests)),
                    listed=tuple(map(listed_of, tags.models or [])),
                )
            except Lost as lost:
                reason = self._down() if lost.stage == "connect" else self._stranger()
            except (TooLong, *UNREADABLE):
                reason = self._stranger()
        return Readiness(installed=False, logged_in=True, sentence=reason)

    async def _read(self, path: str, form: type[T]) -> T:
        async with self._server.exchange("GET", path) as exchange:
            body = await exchange.whole(self._limits.line_bytes_max)
            return msgspec.json.decode(body if exchange.status == 200 else b"", type=form)

    def _learn(self, tags: list[Tag]) -> None:
        digests = {tag.name: tag.digest for tag in tags}
        if digests != self._digests:
            self._facts.clear()
        self._digests = digests
        self._names = frozenset(digests) | {name.removesuffix(":latest") for name in digests}

    def _missing(self) -> str:
        settings = self._place.settings
        model = settings.upstream.get(settings.default_model, settings.default_model)
        if not model or model in self._names:
            return ""
        return f"Ollama does not have the default model yet. Fetch it with: ollama pull {model}"

    def _down(self) -> str:
        return f"No Ollama server answers at {self._server.url}. Start it with: ollama serve"

    def _stranger(self) -> str:
        return f"What answers at {self._server.url} is not an Ollama server. Correct [providers.ollama] url or OLLAMA_HOST."


def _silent(model: str, loading: bool) -> ProviderFailure:
    shown = printable(model, 100)
    if loading:
        message, evidence = f"Ollama was still loading the model '{shown}' when the time was up.", "ollama.loading"
    else:
        message, evidence = f"Ollama did not begin to answer with the model '{shown}' in time.", "ollama.silent"
    return ProviderFailure(Kind.TIMED_OUT, message, evidence=evidence, phase="first_byte")


def _garbled(message: str, evidence: str) -> ProviderFailure:
    return ProviderFailure(Kind.GARBLED, message, evidence=evidence)
