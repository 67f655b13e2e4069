"""A running `codex app-server`, and the threads that turns borrow from it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import trio

from llmux.failures import Kind, ProviderFailure
from llmux.providers.codex.connection import Connection, Inbox, Reply
from llmux.providers.codex.login import Login

INTERRUPT_MS_MAX = 900  # a cancelled answer waits this long for Codex to stop; it goes on in the background

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

    def turn_over(self) -> None:
        self._turn = None

    async def close(self) -> None:
        """Interrupts what still runs, and gives the thread back. Raises ProviderFailure when the server does not follow."""
        thread_id = await self._start.result("thread", "id")
        self._connection.forget(thread_id)
        try:
            if self._turn is not None:
                await self.call("turn/interrupt", {"turnId": await self._turn.result("turn", "id")})
        finally:
            await self._connection.request("thread/unsubscribe", {"threadId": thread_id}).result()


class AppServer:
    """One app-server that has shaken hands. It ends when its process does, or, once retired, when nobody uses it."""

    def __init__(self, connection: Connection, login: Login, nursery: trio.Nursery) -> None:
        self.connection, self.login = connection, login
        self._nursery = nursery
        self.busy = 0
        self.answered = False
        """whether it has ever brought a turn to its end"""
        self.rejected = False
        """whether its login was refused"""
        self.retired = False

    def __repr__(self) -> str:
        state = "retired" if self.retired else "rejected" if self.rejected else "serving"
        return f"<AppServer {state}, {self.busy} threads, {self.connection!r}>"

    @property
    def usable(self) -> bool:
        """Whether it takes threads."""
        return not self.retired and not self.connection.ended.is_set()

    async def shake_hands(self) -> None:
        """Opens the protocol, and lends the login when Codex must not own it. Raises ProviderFailure."""
        await self.connection.request("initialize", HANDSHAKE).result()
        self.connection.notify("initialized")
        if self.login.lent:
            tokens = {"type": "chatgptAuthTokens", **self.login.tokens()}
            await self.connection.request("account/login/start", tokens).result()

    def failed(self, failure: ProviderFailure) -> None:
        """Learns from the failure of a turn."""
        if failure.kind is Kind.LOGGED_OUT:
            self.rejected = True
        elif failure.evidence == "codex.rpc.no_reply":
            self.retire()

    def retire(self) -> None:
        """Takes no new thread and ends with the last one."""
        self.retired = True
        if self.busy == 0:
            self.connection.end(
                ProviderFailure(Kind.CRASHED, "This Codex process was replaced.", evidence="codex.retired")
            )

    @asynccontextmanager
    async def thread(self, params: dict[str, Any]) -> AsyncGenerator[Thread, None]:
        """A thread that is closed on every way out, even when its start is still under way then. Raises ProviderFailure."""
        opened = Thread(self.connection, self.connection.request("thread/start", params))
        self.busy += 1
        try:
            await opened.open()
            yield opened
            self.answered = True
        except ProviderFailure as failure:
            self.failed(failure)
            raise
        finally:
            await self._give_back(opened)

    async def _give_back(self, opened: Thread) -> None:
        if self.connection.ended.is_set():
            self.busy -= 1
            return
        closed = trio.Event()
        self._nursery.start_soon(self._close, opened, closed)
        if opened.running:
            with trio.move_on_after(INTERRUPT_MS_MAX / 1000, shield=True):
                await closed.wait()

    async def _close(self, opened: Thread, closed: trio.Event) -> None:
        try:
            await opened.close()
        except ProviderFailure as failure:
            self.failed(failure)
        finally:
            closed.set()
            self.busy -= 1
            if self.retired:
                self.retire()
