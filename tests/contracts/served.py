"""An adapter that is served on a trio loop of its own thread, as long as the gateway would, for many tests in turn."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from llmux.failures import ProviderFailure
from llmux.providers.adapter import Adapter
from tests.contracts.rigs import Rig
from tests.providers.hearing import Heard

T = TypeVar("T")
SECONDS_MAX = 60


class Served:
    """One rig and its adapter at work. The methods without `async` are for tests, on their own thread."""

    def __init__(self, rig: Rig, adapter: Adapter):
        self.rig, self.adapter = rig, adapter
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop = trio.Event()

    async def serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.adapter.serve)
            self._ready.set()
            await self._stop.wait()
            nursery.cancel_scope.cancel()

    @contextmanager
    def at_work(self) -> Iterator["Served"]:
        thread = threading.Thread(target=trio.run, args=(self.serve,))
        thread.start()
        assert self._ready.wait(SECONDS_MAX)
        try:
            yield self
        finally:
            trio.from_thread.run_sync(self._stop.set, trio_token=self._token)
            thread.join()

    def run(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Runs something in the adapter's loop, for a bounded time."""

        async def bounded() -> T:
            with trio.fail_after(SECONDS_MAX):
                return await function(*args)

        return trio.from_thread.run(bounded, trio_token=self._token)

    def ask(self, text: str, heard: Heard | None = None) -> Heard:
        """One answer."""
        heard = heard if heard is not None else Heard()
        call = self.rig.call(text)
        self.run(self.adapter.answer, call, heard.emit, heard.report)
        return heard

    def fail(self, text: str, heard: Heard) -> ProviderFailure:
        """One failure, which comes as it is and not in a group."""
        try:
            self.ask(text, heard)
        except ProviderFailure as failure:
            return failure
        raise AssertionError(f"it answered: {heard.text}")


@contextmanager
def served(rig: Rig, directory: Path) -> Iterator[Served]:
    with Served(rig, rig.adapter(directory)).at_work() as running:
        yield running
