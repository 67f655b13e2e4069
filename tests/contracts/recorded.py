"""What every recording of a real program means: one row each, with all that its adapter must make of it.

The recordings (tests/providers/recordings) are of Claude Code 2.1.197, Codex 0.169.0, Gemini CLI 0.61.0 and Ollama 0.9.3.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from llmux.failures import Kind
from llmux.prompts import FinishReason, Image, Message, Prompt, Sampling, Text, Usage, assistant, user
from llmux.providers.adapter import QuotaWindow

NOW = 1_795_370_000_000
"""the time in ms at which the recordings are played, near that at which they were made"""

HELLO_PROMPT = Prompt((user("Say hello."),))
HISTORY = Prompt((user("What is the capital of France?"), assistant("Paris."), user("And of Spain?")))
SCHEMA = Prompt(HELLO_PROMPT.messages, json_schema={"type": "object", "properties": {"age": {"type": "integer"}}})
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PICTURE = Prompt((Message("user", (Image("image/png", PIXEL), Text("What is in the picture?"))),))


class Answer(msgspec.Struct, frozen=True):
    """A good end: everything that is heard, and what was asked."""

    text: str
    usage: Usage
    reason: FinishReason = "stop"
    windows: tuple[QuotaWindow, ...] = ()
    reasoning: str = ""
    asked: Prompt = HELLO_PROMPT
    settings: Mapping[str, Any] = {}


class Failure(msgspec.Struct, frozen=True):
    """A bad end, and what was heard before it."""

    kind: Kind
    evidence: str
    said: str = ""
    windows: tuple[QuotaWindow, ...] = ()
    resets_at: int | None = None
    retry_after_ms: int | None = None
    asked: Prompt = HELLO_PROMPT
    settings: Mapping[str, Any] = {}


Row = Answer | Failure


def _words(prefix: str, count: int) -> str:
    return " ".join(f"{prefix}{number}" for number in range(count))


def _asking(prompt: Prompt, **sampling: Any) -> Prompt:
    return Prompt(prompt.messages, sampling=Sampling(**sampling))


# --- Claude Code ---------------------------------------------------------------------------------------------------


def _hours(seconds: int, status: str = "allowed", used: int | None = None) -> tuple[QuotaWindow, ...]:
    return (QuotaWindow("five_hour", status, used_percent=used, resets_at=seconds * 1000),)


_HI = "Hello from the fake API."
_FIVE = _words("w", 5) + " "

CLAUDE: dict[str, Row] = {
    "ok-stream": Answer(_HI, Usage(310, 13), windows=_hours(1795371056)),
    "ok-stream-token-env": Answer(_HI, Usage(304, 13), windows=_hours(1795371057)),
    "long-answer": Answer(_words("w", 60), Usage(310, 64), windows=_hours(1795371058)),
    "multi-turn": Answer(
        _HI,
        Usage(374, 13),
        windows=_hours(1795371059),
        asked=Prompt((user("Hi."), assistant("Hi!"), *HISTORY.messages)),
    ),
    "image": Answer(_HI, Usage(355, 13), windows=_hours(1795371060), asked=PICTURE),
    "sampling": Answer(
        _HI,
        Usage(294, 13),
        windows=_hours(1795371061),
        asked=_asking(HELLO_PROMPT, temperature=0.5, max_tokens=500, reasoning_effort="low"),
    ),
    "json-schema": Answer('{"name": "sample", "age": 7}', Usage(396, 30), windows=_hours(1795371061), asked=SCHEMA),
    "max-tokens": Answer(_HI, Usage(310, 13), "length"),
    "stop-sequence": Answer(_HI, Usage(316, 13), windows=_hours(1795371080), asked=_asking(HELLO_PROMPT, stop=("X",))),
    "quota-warning": Answer(_HI, Usage(310, 13), windows=_hours(1795371064, "warning", 91)),
    "token-expired-refreshed": Answer(_HI, Usage(312, 13), windows=_hours(1795371103)),
    "at-path-blocked": Answer(_HI, Usage(316, 13), windows=_hours(1795371100)),
    "slash-escaped": Answer(_HI, Usage(312, 13), windows=_hours(1795371101)),
    "empty-text": Answer(_HI, Usage(310, 13), windows=_hours(1795371102)),
    "quota-five-hour": Failure(
        Kind.QUOTA_EXHAUSTED, "claude.plan_limit", "", _hours(1795371063, "rejected"), 1795371063000
    ),
    "rate-limited": Failure(Kind.RATE_LIMITED, "claude.rate_limit"),
    "rate-limited-api-key": Failure(Kind.RATE_LIMITED, "claude.rate_limit", retry_after_ms=2000),
    "overloaded": Failure(Kind.OVERLOADED, "claude.overloaded"),
    "server-error": Failure(Kind.UNAVAILABLE, "claude.upstream"),
    "connection-refused": Failure(Kind.UNAVAILABLE, "claude.connection"),
    "logged-out": Failure(Kind.LOGGED_OUT, "claude.login"),
    "unauthorized-login": Failure(Kind.LOGGED_OUT, "claude.login"),
    "unauthorized-token-env": Failure(Kind.LOGGED_OUT, "claude.login"),
    "forbidden": Failure(Kind.LOGGED_OUT, "claude.login"),
    "model-not-found": Failure(Kind.MODEL_NOT_FOUND, "claude.model"),
    "context-too-long": Failure(Kind.CONTEXT_TOO_LONG, "claude.length"),
    "bad-request": Failure(Kind.INVALID_REQUEST, "claude.request"),
    "stream-cut": Failure(Kind.GARBLED, "claude.cut"),
    "tools-unknown-tool": Failure(Kind.GARBLED, "claude.empty"),
    "interrupted": Failure(Kind.CRASHED, "claude.interrupted", _FIVE),
    "killed-sigint": Failure(Kind.CRASHED, "claude.interrupted", _FIVE),
    "killed-sigterm": Failure(Kind.CRASHED, "claude.gone", _FIVE),
}

# --- Codex ---------------------------------------------------------------------------------------------------------


def _plan(seconds: int, used: int = 12) -> tuple[QuotaWindow, ...]:
    return (
        QuotaWindow("primary", "rejected" if used == 100 else "allowed", used_percent=used, resets_at=seconds * 1000),
        QuotaWindow("secondary", "allowed", used_percent=34, resets_at=(seconds + 292_800) * 1000),
    )


def _echo(count: int = 8, said: str = "Say hello.") -> str:
    return f"ECHO<{said}> {_words('tok', count)} "


_ALL = _echo() + "✓end"


def _used(input_tokens: int = 78, output_tokens: int = 11, cached: int = 26) -> Usage:
    return Usage(input_tokens, output_tokens, cached_input_tokens=cached, reasoning_tokens=2)


CODEX: dict[str, Row] = {
    "ok-stream": Answer(_ALL, _used(), windows=_plan(1795374970)),
    "long-answer": Answer(_echo(60) + "✓end", _used(78, 63), windows=_plan(1795374971)),
    "reasoning": Answer(_ALL, _used(), windows=_plan(1795374972), reasoning="**Thinking about it**\n\nfake"),
    "multi-turn": Answer(
        _echo(said="And of Spain?") + "✓end", _used(195, 11, 65), windows=_plan(1795374973), asked=HISTORY
    ),
    "image": Answer(
        _echo(said="What is in the picture?\\n") + "✓end",
        _used(126, 11, 42),
        windows=_plan(1795374974),
        asked=PICTURE,
    ),
    "json-schema": Answer('{"name": "fake", "age": 7}', _used(), windows=_plan(1795374975), asked=SCHEMA),
    "max-tokens": Answer(_ALL, _used(78, 10), "length", windows=_plan(1795374983)),
    "token-refreshed": Answer(_ALL, _used(), windows=_plan(1795374990)),
    "external-tokens-refreshed": Answer(_ALL, _used(), windows=_plan(1795374991)),
    "quota-usage-limit": Failure(
        Kind.QUOTA_EXHAUSTED, "codex.usageLimitExceeded", "", _plan(1795374975, 100), 1795374975000
    ),
    "quota-insufficient": Failure(Kind.QUOTA_EXHAUSTED, "codex.usageLimitExceeded"),
    "rate-limited": Failure(Kind.RATE_LIMITED, "codex.http.429"),
    "overloaded": Failure(Kind.OVERLOADED, "codex.serverOverloaded"),
    "server-error": Failure(Kind.UNAVAILABLE, "codex.internalServerError"),
    "model-not-found": Failure(Kind.MODEL_NOT_FOUND, "codex.modelNotFound"),
    "context-too-long": Failure(Kind.CONTEXT_TOO_LONG, "codex.contextWindowExceeded", windows=_plan(1795374982)),
    "bad-request": Failure(Kind.INVALID_REQUEST, "codex.other.body"),
    "logged-out": Failure(Kind.LOGGED_OUT, "codex.http.401"),
    "unauthorized": Failure(Kind.LOGGED_OUT, "codex.http.401"),
    "refresh-token-reused": Failure(Kind.LOGGED_OUT, "codex.unauthorized"),
    "stall": Failure(Kind.TIMED_OUT, "codex.other.idle", _echo(4), _plan(1795374985)),
    "stream-cut": Failure(Kind.GARBLED, "codex.other.cut", _echo(4), _plan(1795374983)),
    "stream-cut-retried-duplicate": Failure(Kind.GARBLED, "codex.retry_after_text", _echo(4), _plan(1795374984)),
    "tool-hallucinated": Failure(Kind.GARBLED, "codex.second_call", windows=_plan(1795374989)),
    "interrupted": Failure(Kind.UNAVAILABLE, "codex.turn_interrupted", _echo(2), _plan(1795374988)),
    "killed-sigkill": Failure(Kind.CRASHED, "codex.ended", _echo(1)),
}

# --- Gemini CLI ----------------------------------------------------------------------------------------------------

_WELL = "Hello from the fake API. All is well."
_GOOGLE: dict[str, Any] = {"google": True}
_HASTY: dict[str, Any] = {"first_byte_ms_max": 400}


def _spent(resets_at: int | None) -> tuple[QuotaWindow, ...]:
    return (QuotaWindow("model", "rejected", "gemini-3-flash-preview", 100, resets_at),)


GEMINI: dict[str, Row] = {
    "ok-stream": Answer(_WELL, Usage(160, 9)),
    "ok-api-key": Answer(_WELL, Usage(147, 9)),
    "long-answer": Answer(_words("w", 100), Usage(160, 97)),
    "multi-turn": Answer(_WELL, Usage(236, 9), asked=HISTORY),
    "image": Answer(_WELL, Usage(200, 9), asked=PICTURE),
    "json-schema": Answer('{"answer": 4, "ok": true}', Usage(188, 6), asked=SCHEMA),
    "sampling": Answer(_WELL, Usage(176, 9), asked=_asking(HELLO_PROMPT, temperature=0.5, max_tokens=500)),
    "thinking": Answer("The answer is 4.", Usage(160, 4), reasoning="**Planning**\nThinking about the question."),
    "max-tokens": Answer(
        "This answer is cut off by max", Usage(160, 7), "length", asked=_asking(HELLO_PROMPT, max_tokens=7)
    ),
    "refused-safety": Answer("I can", Usage(160, 1)),  # nothing tells it from a normal end
    "slash-escaped": Answer(_WELL, Usage(161, 9)),
    "token-expired-refreshed": Answer(_WELL, Usage(160, 9)),
    "quota-per-day": Failure(Kind.QUOTA_EXHAUSTED, "gemini.quota_day", "", _spent(None)),
    "quota-exhausted-pro": Failure(
        Kind.QUOTA_EXHAUSTED, "gemini.quota_reset", "", _spent(NOW + 20_530_000), NOW + 20_530_000
    ),
    "quota-exhausted-flash-silent": Failure(
        Kind.QUOTA_EXHAUSTED,
        "gemini.quota_reset",
        "",
        _spent(NOW + 20_530_000),
        NOW + 20_530_000,
        settings=_HASTY,
    ),
    "rate-limited-silent": Failure(Kind.RATE_LIMITED, "gemini.retry_soon", retry_after_ms=2500, settings=_HASTY),
    "overloaded-silent": Failure(Kind.OVERLOADED, "gemini.503", settings=_HASTY),
    "overloaded-pro": Failure(Kind.OVERLOADED, "gemini.503"),
    "capacity-exhausted": Failure(Kind.OVERLOADED, "gemini.capacity"),
    "bad-request": Failure(Kind.INVALID_REQUEST, "gemini.400"),
    "unauthorized": Failure(Kind.LOGGED_OUT, "gemini.401"),
    "forbidden": Failure(Kind.LOGGED_OUT, "gemini.403"),
    "code-assist-401": Failure(Kind.LOGGED_OUT, "gemini.auth_required"),
    "logged-out": Failure(Kind.LOGGED_OUT, "gemini.login_dialog", settings=_GOOGLE),
    "model-not-found": Failure(Kind.MODEL_NOT_FOUND, "gemini.model_not_found"),
    "stream-cut": Failure(Kind.GARBLED, "gemini.stream_broken", "Hello from the fake "),
    "empty-answer": Failure(Kind.GARBLED, "gemini.empty"),
    "cancelled": Failure(Kind.GARBLED, "gemini.stop_reason", _words("w", 10) + " "),
}

# --- Ollama --------------------------------------------------------------------------------------------------------

OLLAMA: dict[str, Row] = {
    "ok-stream": Answer("I in of and>+", Usage(24, 6), "length"),
    "json-schema": Answer('{ "a"\n \t:420', Usage(24, 12), "length", asked=SCHEMA),
    "model-not-found": Failure(Kind.MODEL_NOT_FOUND, "ollama.404"),
    "queue-full": Failure(Kind.OVERLOADED, "ollama.503"),
    "bad-json": Failure(Kind.INVALID_REQUEST, "ollama.refused"),
    "missing-body": Failure(Kind.INVALID_REQUEST, "ollama.refused"),
    "unknown-route": Failure(Kind.UNAVAILABLE, "ollama.not_ollama"),
    "wrong-method": Failure(Kind.UNAVAILABLE, "ollama.not_ollama"),
    "stream-error-line": Failure(Kind.GARBLED, "ollama.error_line", "} in"),
    "client-disconnect": Failure(Kind.GARBLED, "ollama.cut", "2EK"),
}

RECORDED: dict[str, dict[str, Row]] = {"claude": CLAUDE, "codex": CODEX, "gemini": GEMINI, "ollama": OLLAMA}
