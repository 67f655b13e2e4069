"""What an actor is: a trio task fed by a bounded channel. `ask` waits for a reply, `tell` does not; a full mailbox raises Overloaded."""

from typing import Any, Generic, TypeVar

import msgspec
import trio

from llmux.failures import ActorCrashed, AskTimedOut, LLMuxError, Overloaded, ShuttingDown

R = TypeVar("R")


class Message(msgspec.Struct, Generic[R], frozen=True):
    """A command to an actor; `R` is what its reply holds."""


class Reply:
    """A cell that is filled once, and awaited by the one who asked."""

    __slots__ = ("_event", "_failure", "_value")

    def __init__(self) -> None:
        self._event = trio.Event()
        self._value: Any = None
        self._failure: LLMuxError | None = None

    def give(self, value: Any) -> None:
        """Fills the cell; later fillings change nothing."""
        if not self._event.is_set():
            self._value = value
            self._event.set()

    def fail(self, failure: LLMuxError) -> None:
        """Fills the cell with a failure."""
        if not self._event.is_set():
            self._failure = failure
            self._event.set()

    async def get(self) -> Any:
        """What the cell holds, once it is filled."""
        await self._event.wait()
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # else the frames of every raise would pile up
        return self._value


class MailboxStatistics(msgspec.Struct, frozen=True):
    """How full a mailbox is, and how many messages its actor has handled."""

    waiting: int
    capacity: int
    handled: int
    crashes: int
    gone: bool


class Actor:
    """An actor. Subclasses implement `handle`; whoever holds one calls `ask` and `tell`; the supervisor calls `run`."""

    def __init__(self, name: str, *, mailbox_max: int, ask_ms_max: int):
        self.name = name
        self._ask_ms_max = ask_ms_max
        self._send, self._receive = trio.open_memory_channel[tuple[Any, Reply | None]](mailbox_max)
        self._handled = 0
        self._crashes = 0
        self._gone: LLMuxError | None = None

    def __repr__(self) -> str:
        state = self.statistics()
        shown = "gone" if state.gone else f"{state.waiting}/{state.capacity} waiting"
        return f"<{type(self).__name__} {self.name} {shown}, {state.handled} handled>"

    def statistics(self) -> MailboxStatistics:
        channel = self._receive.statistics()
        return MailboxStatistics(
            channel.current_buffer_used,
            int(channel.max_buffer_size),
            self._handled,
            self._crashes,
            self._gone is not None,
        )

    def tell(self, message: Message[Any]) -> None:
        """Leaves a message. Raises Overloaded when the mailbox is full, and what the actor is gone with when it is gone."""
        self._post(message, None)

    async def ask(self, message: Message[R], *, ms_max: int | None = None) -> R:
        """Leaves a message and waits for the reply, at most `ms_max` (AskTimedOut). Raises what the actor replies with."""
        reply = Reply()
        self._post(message, reply)
        with trio.move_on_after((ms_max or self._ask_ms_max) / 1000):
            value: R = await reply.get()
            return value
        raise AskTimedOut(f"The actor {self.name} did not answer in time.")

    def _post(self, message: Message[Any], reply: Reply | None) -> None:
        if self._gone is not None:
            raise self._gone.with_traceback(None)
        try:
            self._send.send_nowait((message, reply))
        except trio.WouldBlock:
            raise Overloaded(f"The mailbox of the actor {self.name} is full.") from None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Handles messages until it is cancelled or crashes. Run again after a crash, it goes on with what waits."""
        task_status.started()
        while True:
            message, reply = await self._receive.receive()
            await self._handle_one(message, reply)

    async def _handle_one(self, message: Any, reply: Reply | None) -> None:
        try:
            value = await self.handle(message)
        except LLMuxError as failure:  # an answer like any other
            if reply is not None:
                reply.fail(failure)
        except BaseException as error:
            self._crashes += isinstance(error, Exception)
            if reply is not None:
                reply.fail(
                    ActorCrashed(f"The actor {self.name} crashed.")
                    if isinstance(error, Exception)
                    else ShuttingDown("The gateway is stopping.")
                )
            raise
        else:
            if reply is not None:
                reply.give(value)
        self._handled += 1

    async def handle(self, message: Any) -> Any:
        """Does what one message asks for and returns the reply. An LLMuxError is a reply; any other exception is a crash."""
        raise NotImplementedError

    def leave(self, failure: LLMuxError) -> None:
        """The actor will not run again: everybody who waits or comes gets `failure`."""
        self._gone = failure
        while True:
            try:
                _, reply = self._receive.receive_nowait()
            except trio.WouldBlock:
                return
            if reply is not None:
                reply.fail(failure)
