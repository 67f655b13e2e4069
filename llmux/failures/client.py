"""Blame: the client. The request itself is wrong."""

from llmux.failures.error import LLMuxError, printable


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


class ModelNotAllowed(ClientFailure):
    """The key may not ask for this model or provider. `allowed` is what it may ask for, as its limits have it."""

    def __init__(self, model: str, provider: str, allowed: str):
        what = f"the model '{printable(model, 100)}'" if model else f"'{printable(provider, 100) or 'auto'}'"
        super().__init__(
            f"This key may not ask for {what}. It may ask for: {allowed}.",
            status=403,
            code="model_not_allowed",
            param="model",
        )


class LimitReached(ClientFailure):
    """The key has used up one of its limits. `retry_after_ms` is when there is room again; None: for this request there never is."""

    def __init__(self, message: str, *, code: str, retry_after_ms: int | None):
        super().__init__(message, status=429, code=code)
        self.retry_after_ms = retry_after_ms


class KeyClosed(ClientFailure):
    """The key of a request under way opens nothing any more: it was revoked, rotated away, or has expired (the end of `code`)."""

    def __init__(self, code: str, what: str):
        super().__init__(f"The API key of this request {what}.", status=401, code=code)


class AnswerUnavailable(ClientFailure):
    """The idempotency key stands for a request that was carried out, and whose answer is no longer in memory."""

    def __init__(self, request: str):
        super().__init__(
            f"The request with this Idempotency-Key was carried out (x-request-id {request}), but its answer is no longer in "
            "memory, and it is not carried out twice. Use a new key to ask anew.",
            status=409,
            code="answer_unavailable",
            param="Idempotency-Key",
        )
