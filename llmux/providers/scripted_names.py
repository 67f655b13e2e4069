"""The names of the scripted provider's models: what they ask for. Pure.

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

"delay=250,say=hi" is a script, and so is "fail=overloaded,times=2". A name with "=" or "," that is none is not found.
"""

import re

import msgspec

from llmux.failures import Kind
from llmux.prompts import FinishReason

NAME_CHARS_MAX = 200
NUMBER_MAX = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9._:/@=,+-]+")
_NUMBER = re.compile(r"[0-9]{1,7}")


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
