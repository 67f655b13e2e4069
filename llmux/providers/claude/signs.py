"""The signs of a failure that Claude Code gives, and what kind of failure each one is.

The kind follows from fields, never from texts: their wording changes with every release. One row per sign.
"""

from collections.abc import Mapping
from typing import Any

from llmux.failures import Kind, ProviderFailure, printable

Line = Mapping[str, Any]

IN_A_CONTAINER = "(in a container: claude setup-token, and set CLAUDE_CODE_OAUTH_TOKEN)."
LOG_IN = f"Type: llmux login claude   {IN_A_CONTAINER}"

ACCOUNT_LIMITS = ("five_hour", "seven_day", "overage")
"""the limits that cover the whole account; every other one ("seven_day_opus") is that of the model that was asked"""

_SENTENCES: dict[str, tuple[Kind, str]] = {
    "plan_limit": (Kind.QUOTA_EXHAUSTED, "The plan's usage limit is reached."),
    "model_limit": (Kind.QUOTA_EXHAUSTED, "The plan's usage limit for this model is reached."),
    "credit": (Kind.QUOTA_EXHAUSTED, "The account's credit does not suffice."),
    "rate_limit": (Kind.RATE_LIMITED, "Anthropic is limiting requests for the moment."),
    "overloaded": (Kind.OVERLOADED, "Anthropic is overloaded."),
    "login": (Kind.LOGGED_OUT, f"Claude Code's login is missing or no longer valid. {LOG_IN}"),
    "model": (Kind.MODEL_NOT_FOUND, "Anthropic does not know this model, or the account may not use it."),
    "length": (Kind.CONTEXT_TOO_LONG, "The prompt is longer than the model's context."),
    "size": (Kind.INVALID_REQUEST, "The request is larger than Anthropic takes."),
    "request": (Kind.INVALID_REQUEST, "Anthropic refused the request."),
    "schema": (Kind.UNSUPPORTED, "Claude Code cannot use this JSON schema."),
    "refusal": (Kind.REFUSED, "The model refused to answer."),
    "upstream": (Kind.UNAVAILABLE, "Anthropic answered with a server error."),
    "connection": (Kind.UNAVAILABLE, "Claude Code could not reach Anthropic."),
    "no_headers": (Kind.TIMED_OUT, "Anthropic did not begin to answer in time."),
    "cut": (Kind.GARBLED, "The answer broke off."),
    "not_an_answer": (Kind.GARBLED, "What came back was not an answer of a model."),
    "empty": (Kind.GARBLED, "The answer was empty."),
    "not_json": (Kind.GARBLED, "The answer is not the JSON that was asked for."),
    "too_long": (Kind.GARBLED, "The answer was too long."),
    "babble": (Kind.GARBLED, "Claude Code wrote something that is not its protocol."),
    "control": (Kind.GARBLED, "Claude Code refused a setting."),
    "mute": (Kind.CRASHED, "Claude Code does not say anything."),
    "interrupted": (Kind.CRASHED, "Claude Code stopped in the middle of the answer."),
    "gone": (Kind.CRASHED, "Claude Code ended before the answer did."),
}


def failure(
    sign: str, addition: str = "", *, resets_at: int | None = None, wait_ms: int | None = None
) -> ProviderFailure:
    """The failure that a sign stands for. `addition` goes behind the sentence; it is made printable here."""
    kind, sentence = _SENTENCES[sign]
    return ProviderFailure(
        kind,
        f"{sentence} {printable(addition)}".strip(),
        evidence=f"claude.{sign}",
        resets_at=resets_at,
        retry_after_ms=wait_ms,
        phase="first_byte" if kind is Kind.TIMED_OUT else None,
        model_only=sign == "model_limit",
    )


def of_result(result: Line, *, error: str, begun: bool, limit: Line | None, waited: bool) -> ProviderFailure:
    """What a `result` with `is_error` means.

    `error` is the field of the same name of the assistant line before it, `begun` says whether a message of the model had
    begun, `limit` is the rate_limit_info that said "rejected", `waited` whether the CLI's own time limit had passed.
    """
    status = result.get("api_error_status")
    if result.get("subtype") == "error_during_execution":
        return failure("interrupted")
    if error == "rate_limit" or status == 429:
        return _of_limit(limit)
    if error == "billing_error":
        return failure("credit")
    if error == "authentication_failed" or status in (401, 403):
        return failure("login")
    if error == "model_not_found" or status == 404:
        return failure("model")
    if status == 413 or result.get("terminal_reason") == "image_error":
        return failure("size")
    if result.get("stop_reason") == "refusal":
        return failure("refusal")
    if error == "invalid_request" and status in (400, None):  # every other 400 has the error "unknown"
        return failure("length")
    if isinstance(status, int):
        return _of_status(status, str(result.get("result", "")))
    if error == "server_error" and not begun:
        return failure("no_headers" if waited else "connection")
    return failure("cut" if begun else "not_an_answer")


def of_retry(line: Line, *, begun: bool, waited: bool) -> ProviderFailure | None:
    """What a `system/api_retry` means: trying again is the gateway's business, so it ends the attempt at once.

    None for a login that is refused: the CLI renews it before it tries again, which only it can do.
    """
    status = line.get("error_status")
    if status in (401, 403):
        return None
    if begun:
        return failure("cut")
    if status == 429:
        delay = number(line.get("retry_delay_ms"))
        return failure("rate_limit", wait_ms=None if delay is None else int(delay))
    if isinstance(status, int):
        return _of_status(status, "")
    return failure("no_headers" if waited else "connection")


def _of_limit(limit: Line | None) -> ProviderFailure:
    """Only a limit that has a name is the plan's; without one the server is merely busy."""
    if limit is None or not limit.get("rateLimitType"):
        return failure("rate_limit")
    sign = "plan_limit" if limit["rateLimitType"] in ACCOUNT_LIMITS else "model_limit"
    return failure(sign, resets_at=epoch_ms(limit.get("resetsAt")))


def _of_status(status: int, words: str) -> ProviderFailure:
    if status == 529:
        return failure("overloaded")
    if status >= 500 or status in (408, 409):
        return failure("upstream")
    return failure("request", words)


def number(value: object) -> float | None:
    """A JSON number of a sensible size, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 1e15 else None


def epoch_ms(value: object) -> int | None:
    """Seconds since 1970 as milliseconds."""
    seconds = number(value)
    return None if seconds is None else int(seconds * 1000)
