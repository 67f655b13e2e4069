"""The rest after a start that failed: nothing is started that would only fail again, ever less often. Pure."""

from llmux.failures import ProviderFailure

REST_S_MIN = 0.25
REST_S_MAX = 30.0


class Rest:
    """Begins with a failed start and doubles with each further one; a worker that serves a prompt ends it, and so does another login."""

    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0
        self._failure: ProviderFailure | None = None
        self._login = ""

    def begin(self, now_s: float, failure: ProviderFailure, login: str) -> None:
        """A start failed at `now_s`, with the login whose stamp is `login`."""
        self._failures += 1
        self._until = now_s + min(REST_S_MAX, REST_S_MIN * 2.0 ** min(self._failures - 1, 20))
        self._failure, self._login = failure, login

    def end(self) -> None:
        """It works."""
        self._failures, self._until, self._failure = 0, 0.0, None

    def left_s(self, now_s: float) -> float:
        """How long it still lasts; 0.0 when it is over."""
        return max(0.0, self._until - now_s)

    def refusal(self, now_s: float, login: str) -> ProviderFailure | None:
        """What a prompt gets that would need a start now: the failure of the last one, or None when it is worth another try."""
        if login != self._login:
            self.end()
        if self._failure is None or self.left_s(now_s) == 0 or self._failures < 2:
            return None
        old = self._failure
        return ProviderFailure(
            old.kind,
            str(old),
            evidence=old.evidence,
            resets_at=old.resets_at,
            retry_after_ms=old.retry_after_ms,
            phase=old.phase,
        )
