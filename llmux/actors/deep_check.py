"""Whether each provider really answers: every enabled one gets a tiny prompt, on the way that every request takes.

That costs tokens. So whoever asks while a check runs gets its results, and so does everybody for a while after it; and what
rests or is logged out is not called, as no request would be.
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec
import trio

from llmux.actors.messages import Principal, Wish
from llmux.actors.request import Request
from llmux.clock import Clock
from llmux.config import Limits
from llmux.failures import LLMuxError, ShuttingDown
from llmux.logs import report
from llmux.prompts import Prompt, user

ENDPOINT = "/health?deep=true"
PROMPT = Prompt((user("Answer with the word OK and nothing else."),))


class Checked(msgspec.Struct, frozen=True):
    """What came of calling one provider. `error` is a sentence ("" = it answered)."""

    latency_ms: int
    error: str = ""


class DeepCheck:
    """Calls all `providers` at once. `run` is the task in which it does: no asker's leaving ends a check."""

    def __init__(self, ask: Callable[[Wish], Request], providers: Iterable[str], limits: Limits, clock: Clock):
        self._ask, self._providers = ask, tuple(providers)
        self._limits, self._clock = limits, clock
        self._results: Mapping[str, Checked] = {}
        self._fresh_until = 0.0
        self._running: trio.Event | None = None
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        good = sum(not each.error for each in self._results.values())
        return f"<DeepCheck {'running' if self._running else 'idle'} {good} of {len(self._providers)} answered>"

    async def results(self, principal: Principal) -> Mapping[str, Checked]:
        """By provider, at most `deep_check_fresh_ms` old. A check that has to be made is charged to `principal`.

        Raises ShuttingDown.
        """
        if self._clock.monotonic() >= self._fresh_until:
            if self._running is None:
                if self._nursery is None:
                    raise ShuttingDown("The gateway is stopping.")
                self._running = trio.Event()
                self._nursery.start_soon(self._check, principal)
            await self._running.wait()
            if self._nursery is None:
                raise ShuttingDown("The gateway is stopping.")
        return self._results

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Holds the checks."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            if self._running is not None:
                self._running.set()

    async def _check(self, principal: Principal) -> None:
        results: dict[str, Checked] = {}
        async with trio.open_nursery() as nursery:
            for name in self._providers:
                nursery.start_soon(self._call, name, principal, results)
        self._results = {name: results[name] for name in self._providers}
        self._fresh_until = self._clock.monotonic() + self._limits.deep_check_fresh_ms / 1000
        assert self._running is not None
        running, self._running = self._running, None
        running.set()

    async def _call(self, provider: str, principal: Principal, results: dict[str, Checked]) -> None:
        began, error = self._clock.monotonic(), ""
        wish = Wish(
            PROMPT,
            principal,
            ENDPOINT,
            provider=provider,
            use_cache=False,
            timeout_ms=self._limits.deep_check_ms_max,
            tries=1,
        )
        try:
            with self._ask(wish) as request:
                await request.answer()
        except LLMuxError as failure:
            error = str(failure)
        except Exception as bug:
            report(bug, "deep check failed", provider=provider)
            error = "The gateway failed unexpectedly."
        results[provider] = Checked(int((self._clock.monotonic() - began) * 1000), error)
