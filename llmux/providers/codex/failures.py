"""What Codex's error signs mean, as kinds of failure: one table, read by sign and never by wording where there is a sign.

A failed turn carries a `codexErrorInfo`: a word, or one word with an HTTP status. Only "other" leaves nothing but its message;
then a few fixed beginnings of Codex's own sentences tell what happened.
"""

import re
from typing import Any, Literal

import msgspec

from llmux.failures import Kind, ProviderFailure

_WORDS: dict[str, tuple[Kind, str]] = {
    "usageLimitExceeded": (Kind.QUOTA_EXHAUSTED, "The usage limit of this Codex account is reached."),
    "rateLimitExceeded": (Kind.RATE_LIMITED, "Codex is being asked too often."),
    "serverOverloaded": (Kind.OVERLOADED, "The model behind Codex is at its capacity."),
    "flexUnavailable": (Kind.OVERLOADED, "The model behind Codex has no capacity for this service tier."),
    "policyCapacityUnavailable": (Kind.OVERLOADED, "The model behind Codex has no capacity now."),
    "modelNotFound": (Kind.MODEL_NOT_FOUND, "Codex does not know this model, or this account may not use it."),
    "contextWindowExceeded": (Kind.CONTEXT_TOO_LONG, "The prompt is longer than the model's context window."),
    "unauthorized": (Kind.LOGGED_OUT, "The login of Codex is no longer accepted; type: llmux login codex"),
    "badRequest": (Kind.INVALID_REQUEST, "The service behind Codex refused the request as wrong."),
    "cyberPolicy": (Kind.REFUSED, "The service behind Codex refused the prompt by its policy."),
    "misalignmentPolicyViolation": (Kind.REFUSED, "The service behind Codex refused the prompt by its policy."),
    "inferenceHookDenied": (Kind.REFUSED, "The service behind Codex refused the prompt by its policy."),
    "internalServerError": (Kind.UNAVAILABLE, "The service behind Codex had an internal error."),
    "responseStreamDisconnected": (Kind.GARBLED, "The answer of Codex broke off."),
}

_STATUSES: dict[int, tuple[Kind, str]] = {
    400: _WORDS["badRequest"],
    401: _WORDS["unauthorized"],
    403: (Kind.LOGGED_OUT, "The login of Codex may not do this; type: llmux login codex"),
    404: _WORDS["modelNotFound"],
    408: (Kind.TIMED_OUT, "The service behind Codex took too long."),
    413: (Kind.INVALID_REQUEST, "The request is too large for the service behind Codex."),
    422: _WORDS["badRequest"],
    429: _WORDS["rateLimitExceeded"],
    503: _WORDS["serverOverloaded"],
    504: (Kind.TIMED_OUT, "The service behind Codex took too long."),
    529: _WORDS["serverOverloaded"],
}

# Codex has one sign for a spent quota and for a plan that has none; this beginning of its own sentence tells them apart.
_NOT_IN_PLAN = "To use Codex with your ChatGPT plan"
_CUT = "stream disconnected before completion: "
# Beginnings of Codex's own sentences under the sign "other". What follows _CUT may also be the upstream's words.
_SENTENCES: tuple[tuple[str, Kind, str, str], ...] = (
    (_CUT + "idle timeout", Kind.TIMED_OUT, "codex.other.idle", "The answer of Codex stood still for too long."),
    (_CUT + "Transport error", Kind.GARBLED, "codex.other.cut", "The answer of Codex broke off."),
    (_CUT + "stream closed", Kind.GARBLED, "codex.other.unfinished", "The answer of Codex ended without its end mark."),
    (_CUT, Kind.UNAVAILABLE, "codex.other.upstream", "The service behind Codex had an internal error."),
)
_REFRESH_REFUSED = re.compile(r"(auth|token)\b.{0,40}\brefresh", re.IGNORECASE)
_INCOMPLETE = re.compile(r"Incomplete response returned, reason: (max_output_tokens|content_filter)\b")
_WAIT = re.compile(r"try again in (\d{1,6}(?:\.\d{1,6})?)(ms|s)\b")


class TurnError(msgspec.Struct, frozen=True):
    """The error of a failed turn: `sign` is the word of codexErrorInfo, `status` the HTTP status beside it (0: none)."""

    sign: str = "other"
    status: int = 0
    message: str = ""


def turn_error(error: Any) -> TurnError:
    """Reads the `error` of a turn, whatever its shape."""
    if not isinstance(error, dict):
        return TurnError()
    info, message = error.get("codexErrorInfo"), error.get("message")
    text = message if isinstance(message, str) else ""
    if isinstance(info, str):
        return TurnError(info, 0, text)
    if isinstance(info, dict) and len(info) == 1:
        (sign, detail), *_ = info.items()
        status = detail.get("httpStatusCode") if isinstance(detail, dict) else None
        return TurnError(str(sign), status if isinstance(status, int) else 0, text)
    return TurnError("other", 0, text)


def incomplete(error: TurnError) -> Literal["length", "content_filter"] | None:
    """The finish reason, when the "error" only says that the model was stopped before its own end."""
    found = _INCOMPLETE.search(error.message) if error.sign == "other" else None
    if found is None:
        return None
    return "length" if found[1] == "max_output_tokens" else "content_filter"


def failure_of(error: TurnError, resets_at: int | None) -> ProviderFailure:
    """The failure that a failed turn stands for. `resets_at` (ms) is when the exhausted quota window ends, if it was told."""
    kind, sentence, evidence = _judged(error)
    wait = _WAIT.search(error.message) if kind is Kind.RATE_LIMITED else None
    return ProviderFailure(
        kind,
        sentence,
        evidence=evidence,
        resets_at=resets_at if kind is Kind.QUOTA_EXHAUSTED else None,
        retry_after_ms=int(float(wait[1]) * (1 if wait[2] == "ms" else 1000)) if wait else None,
        phase="idle" if kind is Kind.TIMED_OUT else None,
    )


def _judged(error: TurnError) -> tuple[Kind, str, str]:
    if error.status:
        kind, sentence = _STATUSES.get(error.status, _WORDS["internalServerError"])
        known = error.status if error.status in _STATUSES else "5xx" if error.status >= 500 else "4xx"
        return kind, sentence, f"codex.http.{known}"
    if error.sign == "usageLimitExceeded" and error.message.startswith(_NOT_IN_PLAN):
        sentence = "The plan of this ChatGPT account does not include Codex; upgrade it, or log in as another: llmux login codex"
        return Kind.INELIGIBLE, sentence, "codex.usage_not_included"
    if error.sign in _WORDS:
        return (*_WORDS[error.sign], f"codex.{error.sign}")
    if error.sign in ("httpConnectionFailed", "responseStreamConnectionFailed"):
        return Kind.UNAVAILABLE, "Codex cannot reach its service.", "codex.http.unreachable"
    if error.sign != "other":
        return Kind.UNAVAILABLE, "Codex failed in a way that is not known here.", "codex.unknown_sign"
    for beginning, kind, evidence, sentence in _SENTENCES:
        if error.message.startswith(beginning):
            return kind, sentence, evidence
    if _REFRESH_REFUSED.search(error.message):
        return (*_WORDS["unauthorized"], "codex.other.refresh")
    if _is_body(error.message):  # a 400 arrives as the upstream's raw JSON body
        return (*_WORDS["badRequest"], "codex.other.body")
    return Kind.UNAVAILABLE, "Codex failed without saying why.", "codex.other"


def _is_body(message: str) -> bool:
    try:
        body = msgspec.json.decode(message)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return False
    return isinstance(body, dict) and bool({"error", "detail", "message"} & set(body))


def rpc_failure(error: Any) -> ProviderFailure:
    """The failure that a JSON-RPC error reply stands for."""
    code = error.get("code") if isinstance(error, dict) else None
    data = error.get("data") if isinstance(error, dict) else None
    if isinstance(data, dict) and data.get("input_error_code") == "input_too_large":
        return ProviderFailure(
            Kind.INVALID_REQUEST,
            "The prompt is longer than Codex takes in one turn.",
            evidence="codex.rpc.input_too_large",
        )
    if code == -32602:
        return ProviderFailure(
            Kind.INVALID_REQUEST, "Codex refused the prompt as wrong.", evidence="codex.rpc.invalid_params"
        )
    return ProviderFailure(
        Kind.UNAVAILABLE,
        "Codex refused a call of its protocol; this may be a version LLMux does not know.",
        evidence="codex.rpc.error",
    )


def again(failure: ProviderFailure) -> ProviderFailure:
    """The same failure as a new exception, for each of those who wait on one thing."""
    return ProviderFailure(
        failure.kind,
        str(failure),
        evidence=failure.evidence,
        resets_at=failure.resets_at,
        retry_after_ms=failure.retry_after_ms,
        phase=failure.phase,
    )


def unwritable(error: OSError) -> ProviderFailure:
    """The private directory of Codex cannot be used."""
    return ProviderFailure(
        Kind.UNAVAILABLE,
        f"The private directory of the codex provider cannot be written: {error.strerror}.",
        evidence="codex.home",
    )


def garbled(evidence: str, message: str = "Codex sent what its protocol does not allow.") -> ProviderFailure:
    """A message of Codex that cannot be understood."""
    return ProviderFailure(Kind.GARBLED, message, evidence=evidence)
