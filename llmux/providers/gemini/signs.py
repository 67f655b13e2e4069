"""The signs by which a failure of the Gemini CLI is recognised: error replies, how a prompt stopped, and the words on stderr. Pure."""

import json
import re
from typing import Any

from llmux.failures import Kind, ProviderFailure, printable

LONG_WAIT_MS = 300_000
"""a wait longer than this is a spent quota, not a rate limit (the CLI itself draws the line here)"""

_DURATION = r"((?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+(?:\.\d+)?s)?)"
_RESET = re.compile(rf"reset after {_DURATION}")
_RETRY = re.compile(rf"retry (?:in|after) {_DURATION}", re.IGNORECASE)
_UNIT_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000}

_WORDS: tuple[tuple[re.Pattern[str], Kind, str, str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind, evidence, sentence)
    for pattern, kind, evidence, sentence in (
        (
            r"API key not valid|API_KEY_INVALID|API key expired",
            Kind.LOGGED_OUT,
            "gemini.api_key_invalid",
            "Google refused the API key. Put a valid GEMINI_API_KEY into [providers.gemini] env.",
        ),
        (
            r"verify your account|VALIDATION_REQUIRED",
            Kind.INELIGIBLE,
            "gemini.validation_required",
            "Google wants this account to be verified. Run: gemini, and follow the link that it shows.",
        ),
        (
            r"not eligible|ineligible",
            Kind.INELIGIBLE,
            "gemini.ineligible",
            "This Google account may not use the Gemini CLI. Log in with another one: llmux login gemini",
        ),
        (
            r"is not found for API version|Requested entity was not found|model \S+ not found",
            Kind.MODEL_NOT_FOUND,
            "gemini.model_not_found",
            "Google does not know this model, or this account may not use it.",
        ),
        (
            r"exceeds the maximum number of tokens|input token count .*exceed|context window",
            Kind.CONTEXT_TOO_LONG,
            "gemini.context",
            "The prompt is too long for this model.",
        ),
        (
            r"exhausted your daily quota",
            Kind.QUOTA_EXHAUSTED,
            "gemini.quota_day",
            "The daily quota of this model is spent.",
        ),
        (r"limit: 0\b", Kind.QUOTA_EXHAUSTED, "gemini.quota_zero", "This account has no quota for this model."),
        (r"fetch failed", Kind.UNAVAILABLE, "gemini.unreachable", "Google cannot be reached."),
        (r"No capacity available", Kind.OVERLOADED, "gemini.capacity", "Google has no capacity left for this model."),
    )
)

_BROKEN = re.compile(r"Premature close|^terminated$|in JSON at position|JSON input", re.IGNORECASE)

_CODES: dict[int, tuple[Kind, str, str]] = {
    400: (Kind.INVALID_REQUEST, "gemini.400", "Google refused the request as invalid"),
    401: (Kind.LOGGED_OUT, "gemini.401", "Google refused the login. Type: llmux login gemini"),
    403: (Kind.LOGGED_OUT, "gemini.403", "Google denied access to this login. Type: llmux login gemini"),
    404: (Kind.MODEL_NOT_FOUND, "gemini.404", "Google does not know this model."),
    413: (Kind.CONTEXT_TOO_LONG, "gemini.413", "The prompt is too large for Google."),
    429: (Kind.RATE_LIMITED, "gemini.429", "Google limits the rate of requests."),
    503: (Kind.OVERLOADED, "gemini.503", "Google says that the model is overloaded."),
    -32000: (Kind.LOGGED_OUT, "gemini.auth_required", "The Gemini CLI is not logged in. Type: llmux login gemini"),
}


def of_error(code: int, message: str, now: int) -> ProviderFailure:
    """The failure behind an error reply. `now` is wall time in ms, to which a time until reset is added."""
    for words, kind, evidence, sentence in _WORDS:
        if words.search(message):
            return ProviderFailure(kind, sentence, evidence=evidence)
    waiting = _of_waiting(code, message, now)
    if waiting is not None:
        return waiting
    if code == 500 and _BROKEN.search(message):
        return broken("gemini.stream_broken")
    if code == 400:
        said = printable(_inner(message), 200)
        return ProviderFailure(Kind.INVALID_REQUEST, f"Google refused the request: {said}", evidence="gemini.400")
    if code in _CODES:
        kind, evidence, sentence = _CODES[code]
        return ProviderFailure(kind, sentence, evidence=evidence)
    evidence = f"gemini.{code}" if 500 <= code < 600 else "gemini.rpc_error"
    return ProviderFailure(Kind.UNAVAILABLE, f"The Gemini CLI reports error {code}.", evidence=evidence)


def _of_waiting(code: int, message: str, now: int) -> ProviderFailure | None:
    reset, retry = _RESET.search(message), _RETRY.search(message)
    if reset and (wait := duration_ms(reset[1])):
        return quota(now + wait, "gemini.quota_reset")
    if code == 429 and retry and (wait := duration_ms(retry[1])):
        if wait > LONG_WAIT_MS:
            return quota(now + wait, "gemini.retry_late")
        return ProviderFailure(
            Kind.RATE_LIMITED, "Google limits the rate of requests.", evidence="gemini.retry_soon", retry_after_ms=wait
        )
    return None


def quota(resets_at: int | None, evidence: str) -> ProviderFailure:
    """A spent quota that comes back at `resets_at` (wall time in ms, None = not told)."""
    return ProviderFailure(
        Kind.QUOTA_EXHAUSTED, "The quota of this model is spent.", evidence=evidence, resets_at=resets_at
    )


def broken(evidence: str) -> ProviderFailure:
    """The answer stopped before its end, or is none."""
    return ProviderFailure(Kind.GARBLED, "The answer of the Gemini CLI broke off or is empty.", evidence=evidence)


def logged_out(sentence: str) -> ProviderFailure:
    """There is no login, which `sentence` explains."""
    return ProviderFailure(Kind.LOGGED_OUT, sentence, evidence="gemini.no_login")


def useless() -> ProviderFailure:
    """A worker got ready and ended by itself before anybody could use it."""
    return ProviderFailure(
        Kind.CRASHED, "The Gemini CLI ends as soon as it has started.", evidence="gemini.ended_unused"
    )


def not_served() -> ProviderFailure:
    """The adapter has not started, or is stopping."""
    return ProviderFailure(Kind.UNAVAILABLE, "The gemini provider is not running.", evidence="gemini.not_served")


def unwritable(error: OSError) -> ProviderFailure:
    """The private directory of a worker cannot be used."""
    return ProviderFailure(
        Kind.UNAVAILABLE,
        f"The private directory of the gemini provider cannot be written: {error.strerror}.",
        evidence="gemini.home",
    )


def duration_ms(text: str) -> int:
    """`5h42m10.1s` in milliseconds; 0 for anything that is no duration."""
    return int(sum(float(number) * _UNIT_MS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)))


def _inner(message: str) -> str:
    """The sentence inside an error body that the CLI hands on as a text."""
    try:
        value: Any = json.loads(message)
        value = value[0] if isinstance(value, list) else value
        return str(value["error"]["message"])
    except (ValueError, KeyError, IndexError, TypeError):
        return message


def of_stop(reason: str, said_anything: bool, input_tokens: int, output_tokens: int) -> ProviderFailure | None:
    """The failure behind a prompt that ended without an error reply, or None when the answer is good.

    The CLI hides why a model stopped; what is left to see is whether tokens were counted and whether there is text.
    """
    if reason == "max_turn_requests":
        return ProviderFailure(
            Kind.GARBLED, "The model called a tool that was not offered.", evidence="gemini.unknown_tool"
        )
    if reason == "max_tokens":
        return ProviderFailure(
            Kind.CONTEXT_TOO_LONG, "The prompt is too long for this model.", evidence="gemini.overflow"
        )
    counted = input_tokens > 0 or output_tokens > 0
    if reason == "refusal" or (reason == "end_turn" and not said_anything and not counted):
        return ProviderFailure(Kind.REFUSED, "Google blocked this prompt.", evidence="gemini.blocked")
    if reason != "end_turn":
        return broken("gemini.stop_reason")
    if not counted:
        return broken("gemini.no_finish")
    return None if said_anything else broken("gemini.empty")


_ATTEMPT = re.compile(
    r"^Attempt \d+ failed(?:: (?P<words>.*?)\. (?:Retrying after (?P<wait>\d+)ms|Max attempts)| with status (?P<status>\d{3})"
    r"|(?P<other>\.| ))",
    re.MULTILINE | re.DOTALL,
)
_STATUS = re.compile(r"^\s+(?:status|code): (\d{3})\b", re.MULTILINE)


def of_silence(stderr: bytes, now: int) -> ProviderFailure:
    """Why a worker said nothing until the first-byte deadline, from the stderr it wrote when it ended.

    In ACP mode the CLI retries without a word and keeps its stderr to itself until it ends.
    """
    text = stderr.decode("utf-8", "replace")
    attempts = list(_ATTEMPT.finditer(text))
    if attempts:
        last = attempts[-1]
        if last["status"]:
            return of_error(int(last["status"]), "", now)
        if last["words"] is None:
            return ProviderFailure(Kind.UNAVAILABLE, "Google cannot be reached.", evidence="gemini.unreachable")
        failure = of_error(429, last["words"], now)
        if failure.evidence == "gemini.429" and last["wait"] and int(last["wait"]) > LONG_WAIT_MS:
            return quota(now + int(last["wait"]), "gemini.retry_late")
        return failure
    statuses = _STATUS.findall(text)
    if statuses and int(statuses[-1]) in (429, 500, 503):  # the tail is cut: only the end of the error's dump is left
        return of_error(int(statuses[-1]), "", now)
    return ProviderFailure(
        Kind.TIMED_OUT, "The Gemini CLI sent nothing in time.", evidence="gemini.silence", phase="first_byte"
    )
