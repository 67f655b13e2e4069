"""A running `codex app-server`, and the threads that turns borrow from it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from llmux.config import Limits
from llmux.failures import Kind, ProviderFailure
from llmux.providers.codex.connection import Connection, Inbox, Reply
from llmux.providers.codex.failures import again
from llmux.providers.codex.login import Login
from llmux.providers.codex.request import TurnRequest
from llmux.providers.codex.roots import COUNT, Roots

INTERRUPT_MS_MAX = (
    900  # a cancelled answer waits this long for Codex to stop its turn; a server that does not is given up
)

HANDSHAKE = {
    "clientInfo": {"name": "llmux", "title": "LLMux", "version": "3"},
    "capabilities": {
        "experimentalApi": True,
        "requestAttestation": False,
        "optOutNotificationMethods": [  # what no turn needs to hear
            "thread/started",
            "thread/status/changed",
            "thread/settings/updated",
            "thread/closed",
            "turn/started",
            "item/completed",
            "item/reasoning/textDelta",
            "mcpServer/startupStatus/updated",
            "remoteControl/status/changed",
            "configWarning",
        ],
    },
}


class Thread:
    """A fresh conversation inside the server, for one turn. Opened and closed by `AppServer.thread`."""

    inbox: Inbox
    model: str

    def __init__(self, connection: Connection, start: Reply) -> None:
        self._connection, self._start = connection, start
        self._id = ""
        self._turn: Reply | None = None

    @property
    def running(self) -> bool:
        """Whether a turn was asked for that is not known to be over."""
        return self._turn is not None

    async def open(self) -> None:
        self._id = await self._start.result("thread", "id")
        self.model = await self._start.result("model")
        self.inbox = self._connection.listen(self._id)

    async def call(self, method: str, params: dict[str, Any]) -> None:
        """A call about this thread. Raises ProviderFailure."""
        await self._connection.request(method, {"threadId": self._id, **params}).result()

    async def start_turn(self, params: dict[str, Any]) -> None:
        self._turn = self._connection.request("turn/start", {"threadId": self._id, **params})
        await self._turn.result("turn", "id")

    def interrupt(self, turn_id: str) -> None:
        """Asks the turn to end soon, and does not wait for it: its `turn/completed` comes all the same."""
        self._connection.request("turn/interrupt", {"threadId": self._id, "turnId": turn_id})

    def turn_over(self) -> None:
        self._turn = None

    async def close(self) -> None:
        """Interrupts what still runs, and gives the thread back. Raises ProviderFailure when the server does not follow."""
        thread_id = await self._start.result("thread", "id")
        self._connection.forget(thread_id)
        try:
            if self._turn is not None:
                await self.call("turn/interrupt", {"turnId": await self._turn.result("turn", "id")})
                self.turn_over()
        finally:
            await self._connection.request("thread/unsubscribe", {"threadId": thread_id}).result()


class AppServer:
    """One app-server that has shaken hands. It ends when its process does, or, once retired, when nobody uses it.

    `roots` are those of its CODEX_HOME. `released(server)` is called whenever a thread was given back.
    """

    def __init__(
        self,
        connection: Connection,
        login: Login,
        roots: Roots,
        nursery: trio.Nursery,
        released: Callable[["AppServer"], None],
    ) -> None:
        self.connection, self.login = connection, login
        self._roots, self._nursery, self._released = roots, nursery, released
        self._spares: dict[tuple[int, str], Thread] = {}
        """threads forked in advance, by root and model: that takes half of the time to the first byte"""
        self.spares = False
        """whether such are made"""
        self.busy = self.turns = 0
        self.answered = False
        """whether it has ever brought a turn to its end"""
        self.rejected = False
        """whether its login was refused, or its account"""
        self.retired = False
        self._deaf = False
        """whether it went on with a turn that it was told to stop"""

    def __repr__(self) -> str:
        state = "retired" if self.retired else "rejected" if self.rejected else "serving"
        return f"<AppServer {state}, {self.busy} threads, {self.turns} turns, {self.connection!r}>"

    @property
    def usable(self) -> bool:
        """Whether it takes threads."""
        return not self.retired and not self.connection.ended.is_set()

    def worn(self, limits: Limits) -> bool:
        """Whether it should be replaced: it has grown too large, or has done its share."""
        memory = self.connection.memory_bytes
        return self.turns >= limits.worker_turns_max or (memory or 0) > limits.worker_memory_bytes_max

    async def shake_hands(self) -> None:
        """Opens the protocol, and lends the login when Codex must not own it. Raises ProviderFailure."""
        await self.connection.request("initialize", HANDSHAKE).result()
        self.connection.notify("initialized")
        if self.login.lent:
            tokens = {"type": "chatgptAuthTokens", **self.login.tokens()}
            await self.connection.request("account/login/start", tokens).result()

    def failed(self, failure: ProviderFailure) -> None:
        """Learns from the failure of a turn."""
        if failure.kind in (Kind.LOGGED_OUT, Kind.INELIGIBLE):
            self.rejected = True
        elif failure.evidence == "codex.rpc.no_reply":
            self.retire()

    def retire(self) -> None:
        """Takes no new thread and ends with the last one."""
        self.retired = True
        if self.busy == 0:
            if self._deaf:
                self.connection.kill()
            self.connection.end(
                ProviderFailure(Kind.CRASHED, "This Codex process was replaced.", evidence="codex.retired")
            )

    @asynccontextmanager
    async def thread(self, request: TurnRequest) -> AsyncGenerator[Thread, None]:
        """A thread that is closed on every way out, even when its start is still under way then. Raises ProviderFailure."""
        opened: Thread | None = None
        self.busy += 1
        self.turns += 1
        try:
            opened = self._spares.pop((request.root, request.thread["model"]), None)
            if opened is None:
                opened = self._fork(await self._root(request.root, request.thread), request.thread)
            await self._open(opened, request.root)
            yield opened
            self.answered = True
        except ProviderFailure as failure:
            self.failed(failure)
            raise
        finally:
            await self._give_back(opened)
            self._spare(request.root, request.thread)

    async def warm_up(self, thread: dict[str, Any]) -> None:
        """Makes the roots that are missing, and a spare thread of each; from now on each that is used is replaced."""
        self.spares = True
        for place in range(COUNT):
            try:
                await self._root(place, thread)
            except ProviderFailure:
                return  # whoever wants an answer will be told
            self._spare(place, thread)

    async def _root(self, place: int, thread: dict[str, Any]) -> str:
        if (ended := self.connection.failure) is not None:
            raise again(ended)
        return await self._roots.at(place, self.connection, self._nursery, {**thread, "environments": []})

    def _fork(self, root: str, thread: dict[str, Any]) -> Thread:
        fork = {"threadId": root, "ephemeral": True, "excludeTurns": True, **thread}
        return Thread(self.connection, self.connection.request("thread/fork", fork))

    def _spare(self, place: int, thread: dict[str, Any]) -> None:
        key, root = (place, thread["model"]), self._roots.made(place)
        if self.spares and self.usable and root and key not in self._spares:
            self._spares[key] = self._fork(root, thread)

    async def _open(self, opened: Thread, place: int) -> None:
        try:
            await opened.open()
        except ProviderFailure as failure:
            if failure.evidence.startswith("codex.rpc."):
                self._roots.forget(place)
            raise

    async def _give_back(self, opened: Thread | None) -> None:
        if opened is None or self.connection.ended.is_set():
            self._leave()
            return
        closed, patience = trio.Event(), trio.CancelScope()
        self._nursery.start_soon(self._close, opened, closed, patience)
        if opened.running:
            with trio.move_on_after(INTERRUPT_MS_MAX / 1000, shield=True) as waiting:
                await closed.wait()
            if waiting.cancelled_caught and opened.running:
                self._deaf = True
                self.retire()
                patience.cancel()

    async def _close(self, opened: Thread, closed: trio.Event, patience: trio.CancelScope) -> None:
        try:
            with patience:
                await opened.close()
        except ProviderFailure as failure:
            self.failed(failure)
        finally:
            closed.set()
            self._leave()

    def _leave(self) -> None:
        self.busy -= 1
        if self.retired:
            self.retire()
        self._released(self)
