"""One try of one route: borrows the provider's worker, passes its chunks on, and says how it ended."""

from collections.abc import Callable

import msgspec
import trio

from llmux.actors.desk import Trial
from llmux.actors.provider import Provider, TryPrompt
from llmux.actors.router import Route
from llmux.events import AttemptCancelled, AttemptFailed, AttemptStarted, AttemptSucceeded
from llmux.failures import GatewayFailure, Kind, LLMuxError, ProviderFailure
from llmux.prompts import Chunk, Finish, Prompt


class Attempt(msgspec.Struct):
    """What is known of an attempt while it runs. `request` is the request that started the flight."""

    request: str
    number: int
    route: Route
    began: float
    chunks: int = 0
    first_chunk_ms: int = 0

    def _where(self) -> dict[str, object]:
        route = self.route
        return {
            "number": self.number,
            "provider": route.provider,
            "account": route.account,
            "model": route.model,
        }

    def _since(self, now: float) -> int:
        return int((now - self.began) * 1000)

    def started(self) -> AttemptStarted:
        return AttemptStarted(**self._where())  # type: ignore[arg-type]

    def succeeded(self, finish: Finish, now: float) -> AttemptSucceeded:
        return AttemptSucceeded(
            **self._where(),  # type: ignore[arg-type]
            served_model="" if finish.model == self.route.model else finish.model[:200],
            finish=finish.reason,
            first_chunk_ms=self.first_chunk_ms,
            duration_ms=self._since(now),
            usage=finish.usage,
        )

    def failed(self, failure: ProviderFailure, now: float) -> AttemptFailed:
        return AttemptFailed(
            **self._where(),  # type: ignore[arg-type]
            kind=failure.kind.value,
            evidence=failure.evidence,
            chunks=self.chunks,
            duration_ms=self._since(now),
            phase=failure.phase,
            resets_at=failure.resets_at,
        )

    def cancelled(self, now: float) -> AttemptCancelled:
        return AttemptCancelled(**self._where(), chunks=self.chunks, duration_ms=self._since(now))  # type: ignore[arg-type]


async def run(
    attempt: Attempt,
    provider: Provider,
    prompt: Prompt,
    pass_on: Callable[[Chunk], None],
    now: Callable[[], float],
    *,
    patient: bool = True,
) -> Finish:
    """Runs the attempt to its good end. Raises ProviderFailure. Cancelled, it returns only when the provider's work is gone.

    `patient`: wait for a slot as long as the provider's queue allows, and not just for a moment.
    """
    route, trial = attempt.route, Trial()
    finish = None
    try:
        await provider.ask(TryPrompt(trial, route.account, prompt, route.model, attempt.request, patient))
        finish = await _read(attempt, trial, pass_on, now)
    except GatewayFailure as failure:
        raise _busy(provider, failure) from None
    finally:
        if (
            finish is None
        ):  # else the answer is whole, and what the adapter still has to tidy up is the provider's business
            trial.cancel()
            if trial.taken:
                with trio.CancelScope(shield=True):
                    await trial.done.wait()
    if finish is not None:
        return finish
    if trial.failure is not None:
        raise trial.failure if isinstance(trial.failure, ProviderFailure) else _busy(provider, trial.failure)
    raise ProviderFailure(Kind.CRASHED, f"{provider.name} stopped in the middle.", evidence="gateway.actor_gone")


async def _read(
    attempt: Attempt, trial: Trial, pass_on: Callable[[Chunk], None], now: Callable[[], float]
) -> Finish | None:
    """Passes chunks on until the Finish, which it returns; None when the trial ended without one."""
    with trial.chunks:
        async for chunk in trial.chunks:
            if isinstance(chunk, Finish):
                return chunk
            if not attempt.chunks:
                attempt.first_chunk_ms = attempt._since(now())
            attempt.chunks += 1
            pass_on(chunk)
    return None


def _busy(provider: Provider, failure: LLMuxError) -> ProviderFailure:
    """No slot, or no actor: to the flight that is an overloaded route, though nothing that the vendor did."""
    return ProviderFailure(Kind.OVERLOADED, str(failure), evidence=f"gateway.{failure.code}")
