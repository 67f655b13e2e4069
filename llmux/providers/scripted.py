"""A provider that does what its model's name says: for `llmux demo`, for tests and for load tests. No I/O, only trio's clock.

A name that is a script (`scripted_names`) is carried out. **Any other name** ("claude-opus-4-5") gets a short fixed text which
says that it is a demo. The provider is its own tokenizer: one word is one token, so its counts are real. `max_tokens` cuts the
answer after that many words (finish "length"), a stop sequence cuts it before itself. Asked for
vectors, every model makes the same ones: equal texts have equal vectors.
"""

import re
from collections import Counter

import trio

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import (
    Embedding,
    Finish,
    FinishReason,
    Prompt,
    ReasoningDelta,
    Text,
    TextDelta,
    ToolResult,
    Usage,
    Vectors,
)
from llmux.providers.adapter import (
    Call,
    Emit,
    Place,
    QuotaWindow,
    Readiness,
    Report,
    WorkerStatistics,
    refuse_if_strict,
)
from llmux.providers.scripted_names import Script, script_of
from llmux.providers.scripted_vectors import DIMENSIONS, vector_of

_WORD = re.compile(r"\S+\s*|\s+")


class ScriptedAdapter:
    """Answers by script, at any number at a time. Deterministic: equal calls on a fresh adapter get equal chunks."""

    def __init__(self, place: Place):
        self._place = place
        self._calls: Counter[str] = Counter()
        self._busy = 0

    def __repr__(self) -> str:
        return f"<ScriptedAdapter {self._place.name} {self._busy} busy, {self._calls.total()} asked>"

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def probe(self) -> Readiness:
        await trio.lowlevel.checkpoint()
        return Readiness(installed=True, logged_in=True, version="scripted")

    def accepts(self, model: str) -> bool:
        """Whether the name is a script."""
        return script_of(model) is not None

    def statistics(self) -> WorkerStatistics:
        return WorkerStatistics(busy=self._busy)

    async def answer(self, call: Call, emit: Emit, report: Report) -> None:
        script = script_of(call.upstream_model)
        if script is None and ("=" in call.upstream_model or "," in call.upstream_model):
            raise ProviderFailure(
                Kind.MODEL_NOT_FOUND, "The model's name is not a script that can be run.", evidence="scripted.no_script"
            )
        self._busy += 1
        try:
            refuse_if_strict(call.prompt, self._left_out(script, call))
            await self._perform(script, call, emit, report)
        finally:
            self._busy -= 1

    async def _perform(self, script: Script | None, call: Call, emit: Emit, report: Report) -> None:
        self._calls[call.upstream_model] += 1
        if call.prompt.embedding is not None:
            await self._embed(script or Script(), call, call.prompt.embedding, emit)
            return
        demo = script is None
        text = demo_text(call) if script is None else _text_of(script, call.prompt)
        script = script or Script()
        bad = self._is_bad(script, call)
        if script.used is not None:
            report(self._window(script, script.used))
        await trio.sleep(script.delay / 1000)
        words, reason, sequence = _within(text, script, call.prompt)
        for said, piece in enumerate(_pieces(words, script.chunks)):
            if bad and said == script.after:
                break
            await trio.sleep(script.gap / 1000 if said else 0)
            if said == 0 and script.reason:
                await emit(ReasoningDelta(script.reason))
            await emit(TextDelta(piece))
        if bad:
            await self._end_badly(script)
        if not words and reason == "stop" and not call.prompt.sampling.stop:
            raise _empty()
        reasoning = len(script.reason.split())
        output = script.tokens if script.tokens is not None else _tokens("".join(words)) + reasoning
        usage = Usage(input_tokens=_prompt_tokens(call.prompt), output_tokens=output, reasoning_tokens=reasoning)
        ignored = self._left_out(None if demo else script, call)
        await emit(Finish(reason, usage, model=call.upstream_model, ignored=ignored, stop_sequence=sequence))

    def _is_bad(self, script: Script, call: Call) -> bool:
        """Whether this answer is one of those that end badly."""
        return script.ends_badly and (script.times is None or self._calls[call.upstream_model] <= script.times)

    async def _embed(self, script: Script, call: Call, wanted: Embedding, emit: Emit) -> None:
        """Vectors in the place of an answer: of the steps, those count that fail, hang or wait before the first chunk."""
        await trio.sleep(script.delay / 1000)
        if self._is_bad(script, call):
            await self._end_badly(script)
        await emit(Vectors(tuple(vector_of(text, wanted.dimensions or DIMENSIONS) for text in wanted.inputs)))
        usage = Usage(input_tokens=sum(map(_tokens, wanted.inputs)))
        await emit(Finish("stop", usage, model=call.upstream_model))

    def _left_out(self, script: Script | None, call: Call) -> tuple[str, ...]:
        """The wishes that are not carried out; `script` is None for the demo."""
        return _ignored(call.prompt, schema_met=script is None and _nothing_required(call.prompt))

    async def _end_badly(self, script: Script) -> None:
        if script.hang:
            await trio.sleep_forever()
        if script.fail is None:
            raise _empty()
        raise ProviderFailure(
            script.fail,
            f"The script fails as it was told to: {script.fail}.",
            evidence="scripted.fail",
            resets_at=self._in(script.resets),
            retry_after_ms=None if script.retry is None else script.retry * 1000,
            phase=("idle" if script.after else "first_byte") if script.fail is Kind.TIMED_OUT else None,
        )

    def _in(self, seconds: int | None) -> int | None:
        return None if seconds is None else self._place.clock.now() + seconds * 1000

    def _window(self, script: Script, used: int) -> QuotaWindow:
        status = "rejected" if used >= 100 else "warning" if used >= 90 else "allowed"
        return QuotaWindow("script", status, used_percent=used, resets_at=self._in(script.resets))


def _empty() -> ProviderFailure:
    return ProviderFailure(Kind.GARBLED, "The provider's answer is empty.", evidence="scripted.empty")


def demo_text(call: Call) -> str:
    """What a model that is no script answers: that it is a demo, the model's name, and the first words of the prompt."""
    if _nothing_required(call.prompt):
        return "{}"
    words = call.prompt.messages[-1].text.split()
    began = " ".join(words[:12]) + (" …" if len(words) > 12 else "")
    return (
        "This is a demo of LLMux: no model was asked. "
        f"In its place {call.model} would have answered the prompt that begins: {began or '(no text)'}"
    )


def _nothing_required(prompt: Prompt) -> bool:
    """Whether the prompt asks for JSON and an empty object is what it asks for."""
    schema = prompt.json_schema
    return schema is not None and (not schema or (schema.get("type") == "object" and not schema.get("required")))


def _text_of(script: Script, prompt: Prompt) -> str:
    if script.empty:
        return ""
    return script.say or prompt.messages[-1].text


def _within(text: str, script: Script, prompt: Prompt) -> tuple[list[str], FinishReason, str]:
    """The words that may be said (each with the blanks after it), why the answer ends there, and the stop sequence that did it."""
    words = _WORD.findall(text)
    if script.chunks is not None and words and len(words) < script.chunks:
        words[-1] = words[-1].rstrip() + " "
        words = [words[index % len(words)] for index in range(script.chunks)]
    whole = "".join(words)
    cuts = [(whole.index(stop), stop) for stop in prompt.sampling.stop if stop and stop in whole]
    cut, sequence = min(cuts, default=(len(whole), ""))
    words = _WORD.findall(whole[:cut])
    bound = prompt.sampling.max_tokens
    if bound is not None and len(words) > bound:
        return words[:bound], "length", ""
    return words, script.finish, sequence


def _pieces(words: list[str], chunks: int | None) -> list[str]:
    """The words as chunks: one each, or divided into `chunks` as evenly as they go."""
    count = min(chunks or len(words), len(words))
    return ["".join(words[i * len(words) // count : (i + 1) * len(words) // count]) for i in range(count)]


def _tokens(text: str) -> int:
    return len(text.split())


def _prompt_tokens(prompt: Prompt) -> int:
    total = _tokens(prompt.system)
    for message in prompt.messages:
        for part in message.parts:
            pieces = part.content if isinstance(part, ToolResult) else (part,)
            total += sum(_tokens(piece.text) for piece in pieces if isinstance(piece, Text))
    return total


def _ignored(prompt: Prompt, *, schema_met: bool) -> tuple[str, ...]:
    """The wishes that no script can carry out. A seed is none of them: equal calls get equal answers anyway."""
    sampling = prompt.sampling
    wishes = {
        "temperature": sampling.temperature is not None,
        "top_p": sampling.top_p is not None,
        "reasoning_effort": sampling.reasoning_effort is not None,
        "json_schema": prompt.json_schema is not None and not schema_met,
        "tools": bool(prompt.tools),
    }
    return tuple(name for name, wished in wishes.items() if wished)
