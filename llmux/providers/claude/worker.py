"""One process of Claude Code: started, found to be alive, lent once, ended. It is told nothing of a prompt before it is lent."""

import trio

from llmux.failures import ProviderFailure
from llmux.providers.claude import signs
from llmux.providers.claude.wire import encode, next_line
from llmux.providers.process import Process

PING = {"type": "control_request", "request_id": "ping", "request": {"subtype": "llmux_ping"}}
"""A request that the CLI does not know. It refuses it, and changes nothing; but it has then loaded what requests need."""


class Worker:
    """A process that waits for a prompt of one model, or carries it. The pool that makes it lets its task run `live`.

    `up` is set once the process runs (or could not be started: `failure`), `settled` once it need not be waited for: it has
    answered the first time, is lent, or gone. `leave` asks it to end, `gone` says that it has ended, with all its children.
    """

    def __init__(self, model: str, login: str):
        self.model, self.login = model, login
        self.born = trio.current_time()
        self.ready = self.lent = self.lost = False
        self.failure: ProviderFailure | None = None
        self.up, self.settled, self.leave, self.gone = (trio.Event() for _ in range(4))
        self._process: Process | None = None
        self._greeting = trio.CancelScope()
        self._greeted = trio.Event()

    def __repr__(self) -> str:
        state = "gone" if self.gone.is_set() else "lent" if self.lent else "idle" if self.ready else "starting"
        return f"<Worker of {self.model} {state}, {self._process or 'no process'}>"

    @property
    def process(self) -> Process:
        """The process, once it is `up` without a failure."""
        assert self._process is not None
        return self._process

    @property
    def alive(self) -> bool:
        """Whether it can still be lent, as far as can be seen without asking it."""
        ended = self._process is not None and self._process.exit_status is not None
        return not (ended or self.lent or self.leave.is_set() or self.gone.is_set())

    # --- for who borrows it ----------------------------------------------------------------------------------------

    def lend(self) -> None:
        """From now on it belongs to one answer. At once: nobody else can get it."""
        self.lent = True
        self._greeting.cancel()
        self.settled.set()

    async def handed_over(self) -> Process:
        """The process, which nobody else reads any more. Raises ProviderFailure when it could not be started."""
        await self.up.wait()
        await self._greeted.wait()
        if self._process is None:
            assert self.failure is not None
            raise self.failure
        return self._process

    def awake(self) -> None:
        """It has answered for the first time."""
        self.ready = True
        self.settled.set()

    async def end(self) -> None:
        """Ends it, and returns when it is gone. Not cancellable."""
        self.leave.set()
        with trio.CancelScope(shield=True):
            await self.gone.wait()

    # --- its life --------------------------------------------------------------------------------------------------

    async def live(self, running: Process, *, greet_s_max: float) -> None:
        """Says hello (unless `greet_s_max` is 0), then waits until it shall leave or has died. Raises ProviderFailure."""
        self._process = running
        self.up.set()
        try:
            if greet_s_max and not self.lent:
                await self._greet(greet_s_max)
        finally:
            self._greeted.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            await self.leave.wait()
            nursery.cancel_scope.cancel()

    async def _greet(self, seconds: float) -> None:
        with self._greeting, trio.move_on_after(seconds):
            await self.process.send(encode(PING))
            while (await next_line(self.process)).get("type") != "control_response":
                pass
            self.awake()
        if not self.ready and not self.lent:
            raise signs.failure("mute")

    async def _watch(self) -> None:
        await self.process.wait()
        if not self.lent:  # else the one who borrowed it notices, and reads what it still said
            self.lost = True
            self.leave.set()

    def over(self) -> None:
        """It has ended, or never begun."""
        for event in (self.up, self._greeted, self.settled, self.gone):
            event.set()
