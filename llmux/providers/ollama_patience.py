"""How long an answer of Ollama may take to begin.

A model that is not in memory is loaded before the first byte, which can take minutes: the whole deadline for the first byte is
for that. Once the server lists the model as loaded, a shorter one counts. The server is asked only when an answer keeps waiting.
"""

from collections.abc import Awaitable

import trio

from llmux.config import Limits
from llmux.failures import Kind, ProviderFailure, printable
from llmux.providers.ollama_http import Exchange, Lost, Server, TooLong
from llmux.providers.ollama_listing import Tags
from llmux.providers.ollama_wire import UNREADABLE

LOOK_SECONDS = 2
"""how often the server is asked whether a model is loaded, while an answer waits for its beginning"""
LOADED_SECONDS_MAX = 120
"""how long a model that is in memory may take to begin: it reads the prompt, and it may have others to answer first"""


class Patience:
    """Waits for answers of one server to begin, each for `first_byte_ms_max` at most. `loading` of them wait for their model."""

    def __init__(self, server: Server, limits: Limits, first_byte_ms_max: int):
        self._server, self._limits, self._first_byte_ms_max = server, limits, first_byte_ms_max
        self.loading = 0

    async def begin(self, begun: Awaitable[Exchange], model: str) -> Exchange:
        """Waits for the answer to begin, as long as a model that has to be loaded, or one that need not, may take."""
        bound_ms = self._first_byte_ms_max
        waiting = _Waiting(
            trio.CancelScope(deadline=trio.current_time() + (bound_ms - min(1_000, bound_ms // 3)) / 1000)
        )
        exchange: Exchange | None = None
        raised: BaseException | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, model, waiting)
            try:
                with waiting.scope:
                    exchange = await begun
            except BaseException as error:  # raised again below, outside the nursery that would wrap it in a group
                raised = error
            nursery.cancel_scope.cancel()
        if raised is not None:
            raise raised
        if exchange is None:
            raise _silent(model, waiting.loading)
        return exchange

    async def _watch(self, model: str, waiting: "_Waiting") -> None:
        """While an answer does not begin: looks whether its model is being loaded, and shortens the wait once it is there."""
        try:
            while True:
                await trio.sleep(LOOK_SECONDS)
                loaded = await self._is_loaded(model)
                self.loading += (loaded is False) - waiting.loading
                waiting.loading = loaded is False
                if loaded:
                    ends = trio.current_time() + LOADED_SECONDS_MAX
                    waiting.scope.deadline = min(waiting.scope.deadline, ends)
                    return
        finally:
            self.loading -= waiting.loading

    async def _is_loaded(self, model: str) -> bool | None:
        """Whether the server has the model in memory; None when it does not say."""
        with trio.move_on_after(self._limits.probe_ms_max / 1000):
            try:
                running = await self._server.read("/api/ps", Tags, self._limits.line_bytes_max)
            except (Lost, TooLong, *UNREADABLE):
                return None
            names = {tag.name for tag in running.models or []}
            return model in names or f"{model}:latest" in names
        return None


class _Waiting:
    """The wait for an answer to begin, and whether its model is being loaded meanwhile."""

    def __init__(self, scope: trio.CancelScope):
        self.scope, self.loading = scope, False


def _silent(model: str, loading: bool) -> ProviderFailure:
    shown = printable(model, 100)
    if loading:
        message, evidence = f"Ollama was still loading the model '{shown}' when the time was up.", "ollama.loading"
    else:
        message, evidence = f"Ollama did not begin to answer with the model '{shown}' in time.", "ollama.silent"
    return ProviderFailure(Kind.TIMED_OUT, message, evidence=evidence, phase="first_byte")
