"""Everything that can go wrong, one class per blame, and the one table of what a provider's failure leads to.

An exception's text is a sentence for a person. It never holds a prompt, an answer, a key or a provider's raw output.
"""

from enum import StrEnum

import msgspec


class LLMuxError(Exception):
    """The root of every failure that LLMux raises on purpose. `status` and `code` are what an HTTP client is told."""

    status = 500
    code = "internal_error"
    retry_after_ms: int | None = None


# --- blame: the client ---------------------------------------------------------------------------------------------


class ClientFailure(LLMuxError):
    """The request itself is wrong; sending it again unchanged cannot help. `param` names the field at fault."""

    status = 400
    code = "invalid_request"

    def __init__(self, message: str, *, status: int = 400, code: str = "invalid_request", param: str | None = None):
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


class ModelUnknown(ClientFailure):
    """No enabled provider offers the model that was asked for."""

    def __init__(self, model: str, known: tuple[str, ...]):
        shown = printable(model, 100)
        super().__init__(
            f"The model '{shown}' is not known here. Known models: {', '.join(known) or 'none'}.",
            status=404,
            code="model_not_found",
            param="model",
        )


class ProviderUnknown(ClientFailure):
    """The request names a provider that is not configured."""

    def __init__(self, provider: str, known: tuple[str, ...]):
        shown = printable(provider, 100)
        super().__init__(
            f"Unknown provider: {shown}. Known providers: {', '.join(known) or 'none'}.",
            code="unknown_provider",
            param="provider",
        )


# --- blame: a provider ---------------------------------------------------------------------------------------------


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


# --- blame: the gateway --------------------------------------------------------------------------------------------


class GatewayFailure(LLMuxError):
    """LLMux itself cannot do it now."""

    status = 503
    code = "gateway_unavailable"


class Overloaded(GatewayFailure):
    """A bounded queue is full. Try again later."""

    code = "gateway_overloaded"
    retry_after_ms = 1000


class ActorCrashed(GatewayFailure):
    """The actor that was asked crashed before it answered; it is being restarted."""

    code = "actor_crashed"
    retry_after_ms = 1000


class AskTimedOut(GatewayFailure):
    """The actor that was asked did not answer within the deadline."""

    status = 504
    code = "actor_timeout"


class ShuttingDown(GatewayFailure):
    """The gateway is stopping and takes no new work."""

    code = "shutting_down"
    retry_after_ms = 5000


class RedisAway(GatewayFailure):
    """The Redis server did not answer in time, or there is none at its address."""

    code = "shared_cache_away"
    retry_after_ms = 1000


class RedisRefused(GatewayFailure):
    """The Redis server answered, but refused: it is full, read-only, or holds something else under that key."""

    code = "shared_cache_refused"
    retry_after_ms = 1000


class Excluded(msgspec.Struct, frozen=True):
    """Why a route was not taken. `until` is wall time in ms, or None when nobody knows; `sentence` says what to do."""

    provider: str
    account: str
    model: str
    reason: str
    sentence: str
    until: int | None = None

    @property
    def who(self) -> str:
        """The provider, and which of its accounts where it is not the only one."""
        return self.provider if self.account == "default" else f"{self.provider} ({self.account})"


CANNOT_EMBED = "cannot_embed"
"""why a provider is left out that makes no vectors"""


class NoRoute(GatewayFailure):
    """No provider can take the prompt now. `excluded` says why, one by one.

    Status and code are those of a kind of failure when it is the reason of all that could answer at all.
    """

    code = "no_provider_available"

    def __init__(self, excluded: tuple[Excluded, ...], now: int):
        self.excluded = excluded
        reasons = {entry.reason for entry in excluded}
        if reasons == {CANNOT_EMBED}:  # it will not be otherwise later
            reasons = {Kind.UNSUPPORTED.value}
        reasons.discard(CANNOT_EMBED)
        if len(reasons) == 1 and (reason := reasons.pop()) in set(Kind):  # all for the same reason: then say that one
            self.status, self.code = POLICIES[Kind(reason)].status, POLICIES[Kind(reason)].code
        ends = [entry.until for entry in excluded if entry.until is not None]
        self.retry_after_ms = max(1000, min(ends) - now) if ends else None
        told = "; ".join(f"{entry.who}: {entry.sentence.rstrip('.')}" for entry in excluded)
        super().__init__(f"No provider is available. {told}".strip())


# --- blame: the store ----------------------------------------------------------------------------------------------


class StoreFailure(LLMuxError):
    """The event log could not do it. Nothing is acknowledged that is not on disk."""

    status = 503
    code = "store_unavailable"
    retry_after_ms = 1000


class WrongExpectedVersion(StoreFailure):
    """Somebody else appended to the stream first. `expected` is what the caller thought, `actual` the version it has (-1: no stream)."""

    status = 409
    code = "wrong_expected_version"

    def __init__(self, stream: str, expected: int, actual: int):
        super().__init__(f"Stream {stream} is at version {actual}, not at {expected} as expected.")
        self.stream, self.expected, self.actual = stream, expected, actual


class EventIdReused(StoreFailure):
    """An event with this id is in the log already, with other content."""

    status = 409
    code = "event_id_reused"


class EventMalformed(StoreFailure):
    """The events cannot be recorded at all: an unregistered fact, or text that UTF-8 cannot hold."""

    status = 500
    code = "event_malformed"


class StoreFull(StoreFailure):
    """The disk, or the byte budget of the log, is full."""

    status = 507
    code = "store_full"


class OutcomeUnknown(StoreFailure):
    """The append may or may not have been committed. Append the same events (same ids) again to find out."""

    code = "outcome_unknown"


class LogDamaged(StoreFailure):
    """The log is not what was written: `position` is the first event that does not fit."""

    code = "log_damaged"

    def __init__(self, message: str, position: int | None = None):
        super().__init__(message)
        self.position = position


class TailMissing(LogDamaged):
    """What the log holds is whole, but it once held more or something else: `position` is the first that is missing or other."""

    code = "log_tail_missing"


class ChainKeyWrong(StoreFailure):
    """The log cannot be checked or continued with the chain key that is set, or without one. `position` is where that begins."""

    code = "chain_key_wrong"

    def __init__(self, message: str, position: int | None = None):
        super().__init__(message)
        self.position = position


class ArchiveMissing(StoreFailure):
    """The events that were asked for are in an archive whose file is not there."""

    status = 409
    code = "archive_missing"


class SchemaUnknown(StoreFailure):
    """The tables of the log are of another version than this program knows."""

    code = "schema_unknown"


class UnknownEvent(StoreFailure):
    """The log holds an event at `position` of a type or schema that this version cannot read."""

    status = 500
    code = "event_unknown"

    def __init__(self, position: int, type: str, schema: int):
        what = f"Position {position} holds a {printable(type, 60)} of schema {schema}, which this version cannot read."
        super().__init__(
            f"{what} Use the LLMux that wrote it or a newer one; or, if it does not matter, stop the gateway and type: "
            f"llmux events skip {position} --reason '...'"
        )
        self.position = position


class DirectoryInUse(StoreFailure):
    """Another gateway owns the data directory."""

    code = "directory_in_use"


class ConfigurationWrong(LLMuxError):
    """A setting cannot be used. The text says which, why, and what to write instead."""

    code = "configuration_wrong"


def printable(text: str, limit: int = 300) -> str:
    """`text` made fit for one line of a log, a terminal or an error body: control characters become spaces, long text is cut."""
    clean = "".join(char if char.isprintable() else " " for char in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
