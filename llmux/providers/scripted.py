"""A provider that does what its model's name says: for `llmux demo`, for tests and for load tests. No I/O, only trio's clock.

A name that is a **script** is a list of steps joined by "," (at most 200 characters of A-Z a-z 0-9 . _ : / @ = + - and ","):

    echo              answers with the text of the last user message (also what a script does that says nothing else)
    say=hello+world   answers "hello world" ("+" stands for a blank)
    empty             says nothing at all: the failure `garbled`
    hang              never answers, until it is cancelled
    fail=KIND         fails with that kind of `failures.Kind`, before the first chunk
    after=3           the failure (or the hang) comes after 3 chunks
    times=1           only the first answer under this very name fails, hangs or is empty; the later ones are good
    resets=3600       with fail=quota_exhausted: the quota resets in that many seconds (with used=: the window does)
    retry=2           with fail=...: asks to wait that many seconds
    used=91           reports before the answer that 91 % of the window "script" are used
    delay=250         milliseconds before the first chunk
    gap=5             milliseconds before every further chunk
    chunks=20         the answer comes in 20 chunks; a text of fewer words is repeated until it has 20
    reason=let+me+see reasons aloud first
    finish=length     ends with that reason instead of "stop"
    tokens=12         reports 12 output tokens instead of the words it said

"delay=250,say=hi" is a script, and so is "fail=overloaded,times=2". A name with "=" or "," that is none is not found. **Any
other name** ("claude-opus-4-5") gets a short fixed text which says that it is a demo. The provider is its own tokenizer: one
word is one token, so its counts are real. `max_tokens` cuts the answer after that many words (finish "length"), a stop
sequence cuts it before itself. Asked for vectors, every model makes the same ones: equal texts have equal vectors.
"""

import re
from collections import Counter

import msgspec
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
from llmux.providers.scripted_vectors import DIMENSIONS, vector_of

NAME_CHARS_MAX = 200
NUMBER_MAX = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9._:/@=,+-]+")
_NUMBER = re.compile(r"[0-9]{1,7}")
_WORD = re.compile(r"\S+\s*|\s+")


class Script(msgspec.Struct, frozen=True):
    """What a model's name asks for, field by field as in the module's caption; times in ms or s as written there."""

    echo: bool = False
    say: str = ""
    empty: bool = False
    hang: bool = False
    fail: Kind | None = None
    after: int = 0
    times: int | None = None
    resets: int | None = None
    retry: int | None = None
    used: int | None = None
    delay: int = 0
    gap: int = 0
    chunks: int | None = None
    reason: str = ""
    finish: FinishReason = "stop"
    tokens: int | None = None

    @property
    def ends_badly(self) -> bool:
        return self.empty or self.hang or self.fail is not None


_FLAGS = frozenset({"echo", "empty", "hang"})
_TEXTS = frozenset({"say", "reason"})
_NUMBERS = frozenset({"after", "times", "resets", "retry", "used", "delay", "gap", "chunks", "tokens"})
_KINDS = {kind.value: kind for kind in Kind}
_FINISHES: dict[str, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "content_filter"}


def script_of(model: str) -> Script | None:
    """The script that `model` is, or None when it is none. Pure."""
    if len(model) > NAME_CHARS_MAX or not _NAME.fullmatch(model):
        return None
    fields: dict[str, object] = {}
    for step in model.split(","):
        name, equals, value = step.partition("=")
        if name in fields:
            return None
        read = _step(name, value if equals else None)
        if read is None:
            return None
        fields[name] = read
    script = Script(**fields)  # type: ignore[arg-type]  # _step checked every value
    return script if _makes_sense(script, fields) else None


def _step(name: str, value: str | None) -> object:
    """The value of one step, or None when it is no step. `value` is None where there is no "="."""
    if value is None:
        return True if name in _FLAGS else None
    if name in _TEXTS:
        return value.replace("+", " ").strip() or None
    if name in _NUMBERS:
        return int(value) if _NUMBER.fullmatch(value) and int(value) <= NUMBER_MAX else None
    if name == "fail":
        return _KINDS.get(value)
    return _FINISHES.get(value) if name == "finish" else None


def _makes_sense(script: Script, fields: dict[str, object]) -> bool:
    """Whether the steps go together: one source of text, one bad end, and no step that could never have an effect."""
    sources = script.echo + bool(script.say) + script.empty
    bad_ends = script.empty + script.hang + (script.fail is not None)
    return (
        sources <= 1
        and bad_ends <= 1
        and ("times" not in fields or script.ends_badly)
        and ("after" not in fields or script.hang or script.fail is not None)
        and ("resets" not in fields or script.fail is Kind.QUOTA_EXHAUSTED or script.used is not None)
        and ("retry" not in fields or script.fail is not None)
        and script.chunks != 0
        and (script.used is None or script.used <= 100)
    )


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
