"""How a flight ends, and what that means for each request that waited for it."""

from llmux.actors.request import Produces, Request
from llmux.actors.verdict import blame_of
from llmux.events import Event, RequestCancelled, RequestCompleted, RequestFailed
from llmux.failures import KeyClosed, Kind, LLMuxError, ProviderFailure, ShuttingDown
from llmux.prompts import Finish, Usage


class Landing:
    """The end of the flight that makes `answer`. A request that ends apart from it (`own_end`) has its own reason."""

    def __init__(self, answer: Produces):
        self.begun = False
        """no request may join any more"""
        self.stopped_by = "client"
        """who cancels the flight, if anybody does"""
        self.outcome: Finish | LLMuxError | None = None
        """how it ended, once its last facts are being written"""
        self._answer = answer
        self._was_stopped = False
        self._unrecorded = False

    def __repr__(self) -> str:
        return f"<Landing begun={self.begun} {self.outcome!r}>"

    def decided(self, outcome: Finish | LLMuxError | None) -> None:
        """The flight is over; None: it was cancelled."""
        self.outcome = outcome or _cancelled()
        self._was_stopped = outcome is None

    def not_recorded(self, failure: LLMuxError) -> None:
        """The last facts are not on disk: nobody is told of such an end, but of this failure."""
        self.outcome, self._unrecorded = failure, True

    def end_of(self, request: Request) -> Finish | LLMuxError:
        """What the request is told."""
        own_end = None if self._unrecorded else request.own_end
        return own_end or self.outcome or _cancelled()

    def terminal(self, request: Request) -> Event:
        """The terminal fact of the request."""
        outcome, answer = request.own_end or self.outcome, self._answer
        if isinstance(outcome, KeyClosed):
            return RequestCancelled(by=outcome.code, duration_ms=request.duration_ms)
        if request.has_left or outcome is None or (self._was_stopped and request.own_end is None):
            by = "client" if request.has_left else self.stopped_by
            return RequestCancelled(by=by, duration_ms=request.duration_ms)
        if isinstance(outcome, Finish):
            return RequestCompleted(
                provider=answer.provider,
                account=answer.account,
                model=answer.model,
                finish=outcome.reason,
                attempts=answer.attempts,
                duration_ms=request.duration_ms,
                usage=outcome.usage if request.source == "flight" else Usage(),
                source=request.source,
            )
        return RequestFailed(
            code=outcome.code,
            blame=blame_of(outcome),
            attempts=answer.attempts,
            duration_ms=request.duration_ms,
            provider=answer.provider,
            account=answer.account,
            model=answer.model,
        )


def out_of_time() -> ProviderFailure:
    """The failure of a request, or of a flight, whose deadline has passed."""
    return ProviderFailure(
        Kind.TIMED_OUT, "The request took longer than it may.", evidence="gateway.total", phase="total"
    )


def _cancelled() -> ShuttingDown:
    return ShuttingDown("The gateway is stopping and has broken off this answer. Ask again in a moment.")
