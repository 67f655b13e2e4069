"""Blame: a provider. The kinds of failure, the one table of what each leads to, and the failure itself."""

from enum import StrEnum

import msgspec

from llmux.failures.error import LLMuxError


class Kind(StrEnum):
    """How an attempt can fail. Closed: a new kind needs a row in `POLICIES`."""

    QUOTA_EXHAUSTED = "quota_exhausted"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    LOGGED_OUT = "logged_out"
    INELIGIBLE = "ineligible"
    MODEL_NOT_FOUND = "model_not_found"
    CONTEXT_TOO_LONG = "context_too_long"
    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED = "unsupported"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    GARBLED = "garbled"
    UNAVAILABLE = "unavailable"


class Policy(msgspec.Struct, frozen=True):
    """What follows from one kind of failure."""

    status: int
    """the HTTP status a client gets when no other route helps"""
    code: str
    """the machine-readable code beside it"""
    tries: int = 1
    """attempts on the same route, the first included"""
    backoff_ms: int = 0
    """the wait before the second try; it doubles with each further one, plus up to 10 %"""
    falls_back: bool = True
    """whether another route is worth a try"""
    cools_ms: int = 0
    """how long the route is left alone when the provider does not say; 0 = not at all, -1 = the provider's `cooldown_ms`"""


POLICIES: dict[Kind, Policy] = {
    Kind.QUOTA_EXHAUSTED: Policy(429, "insufficient_quota", cools_ms=-1),
    Kind.RATE_LIMITED: Policy(429, "rate_limit_exceeded", tries=2, backoff_ms=1000, cools_ms=30_000),
    Kind.OVERLOADED: Policy(503, "provider_overloaded", tries=2, backoff_ms=1000, cools_ms=10_000),
    Kind.LOGGED_OUT: Policy(503, "provider_logged_out"),
    Kind.INELIGIBLE: Policy(503, "provider_ineligible"),
    Kind.MODEL_NOT_FOUND: Policy(404, "model_not_found"),
    Kind.CONTEXT_TOO_LONG: Policy(400, "context_length_exceeded"),
    Kind.INVALID_REQUEST: Policy(400, "invalid_request", falls_back=False),
    Kind.UNSUPPORTED: Policy(400, "unsupported_parameter"),
    Kind.REFUSED: Policy(400, "content_policy_violation", falls_back=False),
    Kind.TIMED_OUT: Policy(504, "provider_timeout", cools_ms=10_000),
    Kind.CRASHED: Policy(502, "provider_crashed", tries=2, backoff_ms=250),
    Kind.GARBLED: Policy(502, "provider_garbled"),
    Kind.UNAVAILABLE: Policy(502, "provider_unavailable", tries=2, backoff_ms=500, cools_ms=10_000),
}
"""One row per kind. Only failures before the first chunk are retried or passed to another route, whatever the row says."""


class ProviderFailure(LLMuxError):
    """An attempt ended badly. Raised by adapters, and the only exception of theirs that means anything.

    `kind`            one of `Kind`
    `evidence`        id of the sign it was recognised by, e.g. "claude.rate_limit_event": a constant of our code, recorded in the log
    `resets_at`       wall time in ms when the provider says it works again (quota), or None
    `retry_after_ms`  how long the provider asks to wait, or None
    `phase`           for TIMED_OUT: "first_byte", "idle" or "total"
    `model_only`      the trouble is this model's alone: the account's other models do not rest
    The message is our own sentence; upstream's words may be quoted only through `printable`.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        evidence: str,
        resets_at: int | None = None,
        retry_after_ms: int | None = None,
        phase: str | None = None,
        model_only: bool = False,
    ):
        super().__init__(message)
        self.kind, self.evidence, self.phase, self.model_only = kind, evidence, phase, model_only
        self.resets_at, self.retry_after_ms = resets_at, retry_after_ms

    @property
    def policy(self) -> Policy:
        return POLICIES[self.kind]

    @property
    def status(self) -> int:  # type: ignore[override]
        return self.policy.status

    @property
    def code(self) -> str:  # type: ignore[override]
        return self.policy.code
