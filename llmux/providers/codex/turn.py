"""One answer: the notifications of one turn in, canonical chunks out."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import USAGE, Chunk, Finish, FinishReason, ReasoningDelta, TextDelta, Usage
from llmux.providers.adapter import Emit, QuotaWindow, Report
from llmux.providers.codex.failures import failure_of, garbled, incomplete, turn_error
from llmux.providers.codex.quota import windows_of
from llmux.providers.codex.request import TurnRequest
from llmux.providers.codex.server import AppServer, Thread
from llmux.providers.stopping import Stopping

ACTIONS = frozenset(
    {
        "commandExecution",
        "fileChange",
        "mcpToolCall",
        "dynamicToolCall",
        "collabAgentToolCall",
        "webSearch",
        "imageView",
    }
    | {"imageGeneration", "subAgentActivity"}
)
"""Items that are deeds, not words. None can happen without tools; if one does, the turn ends."""


async def answer(server: AppServer, request: TurnRequest, emit: Emit, report: Report) -> None:
    """Runs one turn in a thread of its own, which is always closed again; a turn that is left early is interrupted."""
    async with server.thread(request) as thread:
        await thread.call("thread/inject_items", {"items": request.items})
        turn = Turn(thread.model, request.ignored)
        thread.inbox.watch = Wordless(thread.interrupt)
        await thread.start_turn(request.turn)
        try:
            await _read(turn, thread, Stopping(request.stop), emit)
            if turn.over:
                thread.turn_over()
        except ProviderFailure as failure:
            if turn.over:
                thread.turn_over()
            server.failed(failure)
            raise
        finally:
            for window in turn.windows():
                report(window)


async def _read(turn: "Turn", thread: Thread, stopping: Stopping, emit: Emit) -> None:
    """Reads to the end of the turn, or to a stop sequence: then the turn still runs."""
    while not turn.over:
        method, params = await thread.inbox.get()
        for chunk in turn.take(method, params):
            for passed in stopping.take(chunk):
                await emit(passed)
            if stopping.found:
                await emit(turn.stopped(stopping.found))
                return


class Wordless:
    """Interrupts a turn whose model has ended without a message: if it called a tool, Codex is about to ask it again.

    It hears each notification as it is read: Codex, which has nothing to wait for either, asks within a few milliseconds.
    """

    def __init__(self, interrupt: Callable[[str], None]) -> None:
        self._interrupt = interrupt
        self._over = False

    def __call__(self, method: str, params: dict[str, Any]) -> None:
        if self._over:
            return
        if method == "thread/tokenUsage/updated":
            if _usage(params.get("tokenUsage")) is not None:
                self._over = True
                self._interrupt(_text(params.get("turnId")))
        elif method == "item/agentMessage/delta" or (method == "item/started" and _kind(params) == "agentMessage"):
            self._over = True  # the model speaks


class Turn:
    """What has been heard of a turn so far. `take` returns the chunks that a notification adds, and raises its failures."""

    def __init__(self, model: str, ignored: tuple[str, ...] = ()) -> None:
        self.over = False
        self._model, self._ignored = model, ignored
        self._began = self._spoken = False
        self._thought = False
        self._usage: Usage | None = None
        self._limits: dict[str, dict[str, Any]] = {}

    def take(self, method: str, params: dict[str, Any]) -> Iterator[Chunk]:
        """Reads one notification. What is not known is ignored."""
        match method:
            case "item/agentMessage/delta":
                yield from self._delta(params, TextDelta)
            case "item/reasoning/summaryTextDelta":
                yield from self._delta(params, ReasoningDelta)
            case "item/reasoning/summaryPartAdded":
                if self._thought:  # parts of a summary are paragraphs
                    yield ReasoningDelta("\n\n")
            case "item/started":
                self._started(_kind(params))
            case "thread/tokenUsage/updated":
                self._usage = _usage(params.get("tokenUsage")) or self._usage
            case "account/rateLimits/updated":
                self._limited(params.get("rateLimits"))
            case "model/rerouted":
                self._model = _text(params.get("toModel")) or self._model
            case "error":
                if params.get("willRetry") is True and (self._spoken or self._thought):
                    raise garbled("codex.retry_after_text", "The answer of Codex broke off and would be repeated.")
            case "turn/completed":
                yield from self._completed(params.get("turn"))

    def stopped(self, sequence: str) -> Finish:
        """The end of an answer that is cut before a stop sequence. Codex tells its usage only at the end of a whole one."""
        return msgspec.structs.replace(self._finish("stop"), stop_sequence=sequence)

    def windows(self) -> Iterator[QuotaWindow]:
        """The quota windows that were told during this turn."""
        for snapshot in self._limits.values():
            yield from windows_of(snapshot)

    def _delta(self, params: dict[str, Any], kind: type[TextDelta] | type[ReasoningDelta]) -> Iterator[Chunk]:
        text = _text(params.get("delta"))
        if text:
            self._one_answer()
            self._began |= kind is TextDelta
            self._spoken |= kind is TextDelta
            self._thought |= kind is ReasoningDelta
            yield kind(text)

    def _started(self, kind: str) -> None:
        if kind == "contextCompaction":
            raise ProviderFailure(
                Kind.CONTEXT_TOO_LONG,
                "The prompt is so long that Codex would summarise it.",
                evidence="codex.context_compaction",
            )
        if kind in ACTIONS:
            raise garbled("codex.action", "Codex started to act instead of answering.")
        if kind in ("agentMessage", "reasoning"):
            self._one_answer()
            self._began |= kind == "agentMessage"

    def _one_answer(self) -> None:
        """The model's message ended, and another begins: it called a tool that nobody offered, and Codex asked it again."""
        if self._usage is not None:
            raise _second_call()

    def _limited(self, snapshot: Any) -> None:
        if isinstance(snapshot, dict):
            self._limits[_text(snapshot.get("limitId")) or "codex"] = snapshot

    def _completed(self, turn: Any) -> Iterator[Chunk]:
        self.over = True
        if not isinstance(turn, dict):
            raise garbled("codex.turn_without_end")
        status = turn.get("status")
        if status == "completed":
            if not self._spoken:  # deltas are only a courtesy: the whole message counts
                for text in _messages(turn.get("items")):
                    self._spoken = True
                    yield TextDelta(text)
            yield self._finish("stop")
        elif status == "failed":
            error = turn_error(turn.get("error"))
            reason = incomplete(error)
            if reason is None:
                raise failure_of(error, self._resets_at())
            yield self._finish(reason)
        elif self._usage is not None and not self._began:  # it was we who interrupted it
            raise _second_call()
        else:
            raise ProviderFailure(Kind.UNAVAILABLE, "Codex gave the answer up.", evidence="codex.turn_interrupted")

    def _finish(self, reason: FinishReason) -> Finish:
        if self._spoken:
            untold = () if self._usage else (USAGE,)  # for instance of an answer that the vendor's filter ended
            return Finish(reason, self._usage or Usage(), self._model, self._ignored + untold)
        if reason == "content_filter":
            raise ProviderFailure(
                Kind.REFUSED, "The service behind Codex refused to answer.", evidence="codex.filtered"
            )
        raise garbled("codex.empty", "Codex answered without a word.")

    def _resets_at(self) -> int | None:
        """When the last of the spent windows ends (ms), or None when none is known to be spent."""
        spent = [window.resets_at for window in self.windows() if window.status == "rejected" and window.resets_at]
        return max(spent, default=None)


class _Breakdown(msgspec.Struct, frozen=True):
    inputTokens: int
    outputTokens: int
    cachedInputTokens: int = 0
    cacheWriteInputTokens: int = 0
    reasoningOutputTokens: int = 0


def _usage(told: Any) -> Usage | None:
    """The thread is fresh, so its total is this turn's. (`last` is all zeros when the model was cut at its limit.)"""
    total = told.get("total") if isinstance(told, dict) else None
    try:
        usage = msgspec.convert(total, _Breakdown)
    except msgspec.ValidationError:
        return None
    if usage.outputTokens <= 0:  # before the answer it would be an estimate
        return None
    return Usage(
        input_tokens=usage.inputTokens,
        output_tokens=usage.outputTokens,
        cached_input_tokens=usage.cachedInputTokens,
        cache_write_input_tokens=usage.cacheWriteInputTokens,
        reasoning_tokens=usage.reasoningOutputTokens,
    )


def _kind(params: dict[str, Any]) -> str:
    """What the item of a notification is."""
    item = params.get("item")
    return _text(item.get("type")) if isinstance(item, dict) else ""


def _second_call() -> ProviderFailure:
    return garbled("codex.second_call", "The model called a tool that does not exist.")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _messages(items: Any) -> Iterator[str]:
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and item.get("type") == "agentMessage" and _text(item.get("text")):
            yield item["text"]
