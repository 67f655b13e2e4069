"""The lines of Claude Code as chunks, quota windows and one end. Pure: no process, no clock, no waiting.

The first message of the model is the whole answer: its terminal stop_reason ends the request. What the CLI would do next (ask
again after max_tokens, after an empty answer, after a tool that does not exist) would be billed and is not awaited.
"""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from llmux.failures import ProviderFailure
from llmux.prompts import Chunk, Finish, FinishReason, ReasoningDelta, TextDelta, Usage
from llmux.providers.adapter import QuotaWindow
from llmux.providers.claude import signs

Line = Mapping[str, Any]

OUTPUT_TOOL = "StructuredOutput"

_REASONS: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
_STATUSES = {"allowed": "allowed", "allowed_warning": "warning", "rejected": "rejected"}


class Step(msgspec.Struct, frozen=True):
    """What one line brought. `quiet` tells whether the CLI will now rest, or must be killed before it asks again."""

    chunks: tuple[Chunk, ...] = ()
    windows: tuple[QuotaWindow, ...] = ()
    finish: Finish | None = None
    quiet: bool = False


NOTHING = Step()


class Reading:
    """Reads the answer to the last user line. `take` each line in order; it raises ProviderFailure at a bad end."""

    def __init__(self, *, structured: bool, model: str, ignored: tuple[str, ...]):
        self._structured, self._asked_model, self._ignored = structured, model, ignored
        self._begun = self._said = False
        self._model, self._error = "", ""
        self._usage: dict[str, Any] = {}
        self._limit: Line | None = None
        self._output_block: int | None = None
        self._withheld: list[str] = []

    def take(self, line: Line, *, waited: bool) -> Step:
        """`waited` says whether the time that the CLI gives the API for its first byte has passed."""
        match line.get("type"):
            case "stream_event" if line.get("parent_tool_use_id") is None:
                return self._event(_mapping(line.get("event")))
            case "rate_limit_event":
                return self._quota(_mapping(line.get("rate_limit_info")))
            case "assistant" if line.get("error"):
                self._error = str(line["error"])
            case "system":
                self._system(line, waited)
            case "result":
                raise self._unfinished(line, waited)
        return NOTHING

    # --- the model's message ---------------------------------------------------------------------------------------

    def _event(self, event: Line) -> Step:
        match event.get("type"):
            case "message_start":
                message = _mapping(event.get("message"))
                self._begun, self._model = True, str(message.get("model") or "")
                self._count(message)
            case "content_block_start":
                return self._block(event.get("index"), _mapping(event.get("content_block")))
            case "content_block_delta":
                return self._delta(event.get("index"), _mapping(event.get("delta")))
            case "content_block_stop" if event.get("index") == self._output_block and not self._said:
                return self._say("{}")  # a tool's input that is empty comes without a delta
            case "message_delta":
                self._count(event)
                delta = _mapping(event.get("delta"))
                reason, sequence = delta.get("stop_reason"), delta.get("stop_sequence")
                return self._end(str(reason), str(sequence or "")) if reason else NOTHING
            case "message_stop":
                raise signs.failure("not_an_answer")
        return NOTHING

    def _block(self, index: object, block: Line) -> Step:
        if block.get("type") == "tool_use" and block.get("name") == OUTPUT_TOOL and self._output_block is None:
            self._output_block = index if self._structured and isinstance(index, int) else None
        return self._text(block.get("text")) if block.get("type") == "text" else NOTHING

    def _delta(self, index: object, delta: Line) -> Step:
        match delta.get("type"):
            case "text_delta":
                return self._text(delta.get("text"))
            case "thinking_delta" if isinstance(delta.get("thinking"), str) and delta["thinking"]:
                return Step(chunks=(ReasoningDelta(delta["thinking"]),))
            case "input_json_delta" if self._output_block is not None and index == self._output_block:
                return self._say(delta.get("partial_json"))
        return NOTHING

    def _text(self, text: object) -> Step:
        """Beside JSON that comes as a tool's input, text is only talk: it is withheld until it proves to be the answer."""
        if not self._structured:
            return self._say(text)
        if isinstance(text, str):
            self._withheld.append(text)
        return NOTHING

    def _say(self, text: object) -> Step:
        if not isinstance(text, str) or not text:
            return NOTHING
        self._said = True
        return Step(chunks=(TextDelta(text),))

    def _end(self, stop_reason: str, sequence: str) -> Step:
        reason = _REASONS.get(stop_reason, "stop")
        chunks: tuple[Chunk, ...] = ()
        withheld = "".join(self._withheld)
        if withheld and not self._said:
            if reason == "stop" and not _is_object(withheld):
                raise signs.failure("not_json")
            chunks = self._say(withheld).chunks
        if not self._said and reason == "content_filter":
            raise signs.failure("refusal")
        stopped = stop_reason == "stop_sequence" and not self._structured  # by the client's own words, before the first
        if not self._said and reason == "stop" and not stopped:
            raise signs.failure("empty")
        quiet = stop_reason in ("end_turn", "stop_sequence") or (
            stop_reason == "tool_use" and self._output_block is not None
        )
        finish = Finish(reason, self._counted(), self._model, self._ignored, sequence)
        return Step(chunks=chunks, finish=finish, quiet=quiet)

    def _count(self, holder: Line) -> None:
        """The later figure wins: message_delta repeats or completes what message_start said."""
        self._usage |= {name: value for name, value in _mapping(holder.get("usage")).items() if isinstance(value, int)}

    def _counted(self) -> Usage:
        cached = self._usage.get("cache_read_input_tokens", 0)
        written = self._usage.get("cache_creation_input_tokens", 0)
        return Usage(
            input_tokens=self._usage.get("input_tokens", 0) + cached + written,
            output_tokens=self._usage.get("output_tokens", 0),
            cached_input_tokens=cached,
            cache_write_input_tokens=written,
        )

    # --- everything around it --------------------------------------------------------------------------------------

    def _system(self, line: Line, waited: bool) -> None:
        tools = line.get("tools")
        offered = isinstance(tools, list) and OUTPUT_TOOL in tools
        if line.get("subtype") == "init" and self._structured and not offered:
            raise signs.failure("schema")  # else the CLI would ask for an answer without it, and say nothing
        if line.get("subtype") == "api_retry":
            failure = signs.of_retry(line, begun=self._begun, waited=waited)
            if failure is not None:
                raise failure

    def _unfinished(self, result: Line, waited: bool) -> ProviderFailure:
        """A `result` comes before the model's message has ended: an error, or a command that the CLI carried out itself."""
        if result.get("is_error"):
            return signs.of_result(result, error=self._error, begun=self._begun, limit=self._limit, waited=waited)
        return signs.failure("not_an_answer")

    def _quota(self, info: Line) -> Step:
        if info.get("status") == "rejected":
            self._limit = info
        named: dict[str, Line] = {
            name: _mapping(window) for name, window in _mapping(info.get("unifiedWindows")).items()
        }
        if info.get("rateLimitType"):
            named[str(info["rateLimitType"])] = info
        return Step(windows=tuple(self._window(name, said) for name, said in named.items()))

    def _window(self, name: str, said: Line) -> QuotaWindow:
        share = signs.number(said.get("utilization"))
        return QuotaWindow(
            window=name,
            status=_STATUSES.get(str(said.get("status")), "allowed"),
            model="*" if name in signs.ACCOUNT_LIMITS else self._asked_model,
            used_percent=max(0, min(100, round(share * 100))) if share is not None else None,
            resets_at=signs.epoch_ms(said.get("resetsAt")),
        )


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
