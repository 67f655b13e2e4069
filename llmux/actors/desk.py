"""Where a provider actor lends its workers: slots and a queue per account, and the trials that occupy them."""

import hashlib

import msgspec
import trio

from llmux.config import Account, Limits
from llmux.failures import LLMuxError, Overloaded
from llmux.prompts import Chunk
from llmux.providers.adapter import Adapter, Readiness, WorkerStatistics

CHUNKS_AHEAD_MAX = 64
"""chunks an adapter may be ahead of its flight"""


class Trial:
    """One attempt at work inside a provider actor: a channel of chunks, and how it ended once the channel is closed.

    The flight makes it and sends it along, so that it can cancel it at any moment, also before the actor has taken it.
    """

    def __init__(self) -> None:
        self.taken = False
        """the actor works on it: `done` will be set"""
        self._send, self.chunks = trio.open_memory_channel[Chunk](CHUNKS_AHEAD_MAX)
        self.scope = trio.CancelScope()
        self.failure: LLMuxError | None = None
        self.done = trio.Event()

    def cancel(self) -> None:
        """Nobody wants the answer any more: the provider's work is stopped."""
        self.scope.cancel()

    async def send(self, chunk: Chunk) -> None:
        """Passes a chunk on to the flight."""
        await self._send.send(chunk)

    def close(self) -> None:
        """The work is over, and gone."""
        self._send.close()
        self.done.set()


class ProviderStatistics(msgspec.Struct, frozen=True):
    """One account's slots and workers."""

    running: int
    queued: int
    concurrency: int
    workers: WorkerStatistics


class Desk:
    """One account of the provider: its adapter, its slots, and what the last probe said."""

    def __init__(self, provider: str, account: Account, adapter: Adapter, concurrency: int, limits: Limits):
        self.account = account
        self.adapter = adapter
        self._provider = provider
        self._limits = limits
        self._concurrency = concurrency
        self._slots = trio.Semaphore(concurrency, max_value=concurrency)
        self._queued = 0
        self.readiness = Readiness(installed=True, logged_in=True)
        self.probing = self.asked = False
        self.probed = trio.Event()
        self.refusal = ""
        """what was said when the vendor turned the login away"""
        self.lost = 0
        """workers lost that are in the log already"""

    @property
    def login(self) -> str:
        """A short hash of what the stored login looks like now."""
        return hashlib.sha256(self.readiness.login_stamp.encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        state = self.statistics()
        return f"<Desk {self._provider}/{self.account.name} {state.running} running, {state.queued} queued>"

    def statistics(self) -> ProviderStatistics:
        running = self._concurrency - self._slots.value
        return ProviderStatistics(running, self._queued, self._concurrency, self.adapter.statistics())

    def claim(self) -> bool:
        """Claims a slot (True), or a place in the queue for one (False). Raises Overloaded when there is neither."""
        if self._slots.value > 0:
            self._slots.acquire_nowait()
            return True
        if self._queued >= self._limits.provider_queue_max:
            raise Overloaded(f"Too many requests wait for {self._provider}.")
        self._queued += 1
        return False

    async def wait_for_slot(self, *, patient: bool) -> None:
        """Waits in the queue until a slot is free, and takes it. Raises Overloaded when none becomes free in time."""
        limits = self._limits
        wait_ms = limits.provider_queue_wait_ms_max if patient else limits.provider_queue_moment_ms_max
        try:
            with trio.move_on_after(wait_ms / 1000) as waiting:
                await self._slots.acquire()
        finally:
            self._queued -= 1
        if waiting.cancelled_caught:
            raise Overloaded(f"No worker of {self._provider} became free in time.")

    def release(self) -> None:
        """Gives a slot back."""
        self._slots.release()
