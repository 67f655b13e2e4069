"""JSON-RPC with a running `codex app-server`: one JSON object per line, requests of both sides, notifications per thread.

A line is written in the moment in which it is said when the pipe takes it whole; else by one task of the connection itself, so
that a caller that is cancelled never leaves half a line behind. Every notification goes to the inbox of its thread. When the
process ends, everybody who waits learns it.
"""

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf
from signal import SIGKILL
from typing import Any

import msgspec
import trio

from llmux.config import Limits
from llmux.failures import Kind, ProviderFailure
from llmux.providers.codex.failures import again, garbled, rpc_failure
from llmux.providers.process import LineTooLong, Process, signal_group

OUTGOING_MAX = 1_000  # lines that may wait to be written; requests are bounded by concurrency, replies by this
TO_EVERYBODY = frozenset({"account/rateLimits/updated"})  # notifications that carry no threadId and concern every turn

Answerer = Callable[[str, Any], Any]
"""Answers a request of the server: `(method, params) -> result`, or raises LookupError when LLMux has no answer to it."""
Watch = Callable[[str, dict[str, Any]], None]


def encode(message: dict[str, Any]) -> bytes:
    """One line. Half a surrogate pair, which UTF-8 has no form for, becomes U+FFFD: Codex would drop the whole line unsaid."""
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


class Reply:
    """What will come back for one request. Any number of tasks may wait for it, or give up waiting."""

    def __init__(self, within_ms: int) -> None:
        self._within_ms = within_ms
        self._settled = trio.Event()
        self._result: Any = None
        self._failure: ProviderFailure | None = None

    def settle(self, result: Any, failure: ProviderFailure | None) -> None:
        self._result, self._failure = result, failure
        self._settled.set()

    async def result(self, *path: str) -> Any:
        """The result, or the text that stands in it at `path`. Raises ProviderFailure, TIMED_OUT when nothing came in time."""
        with trio.move_on_after(self._within_ms / 1000) as scope:
            await self._settled.wait()
        if scope.cancelled_caught:
            raise ProviderFailure(
                Kind.TIMED_OUT, "Codex does not answer.", evidence="codex.rpc.no_reply", phase="first_byte"
            )
        if self._failure is not None:
            raise again(self._failure)
        found = self._result
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        if path and not isinstance(found, str):
            raise garbled("codex.rpc.incomplete_reply")
        return found


class Inbox:
    """The notifications of one thread, in order, bounded in bytes. `watch` hears each in the moment in which it is read.

    They wait as lines: read, they would take several times as much.
    """

    def __init__(self, bytes_max: int) -> None:
        self.watch: Watch | None = None
        self._send, self._receive = trio.open_memory_channel[bytes | ProviderFailure](inf)
        self._bytes, self._bytes_max = 0, bytes_max

    def put(self, method: str, params: dict[str, Any], line: bytes) -> None:
        if self._bytes > self._bytes_max:
            return
        if self.watch is not None:
            self.watch(method, params)
        self._bytes += len(line)
        if self._bytes > self._bytes_max:  # the answer is lost, and so is what still waits here
            with suppress(trio.WouldBlock):
                while True:
                    self._receive.receive_nowait()
            self.fail(garbled("codex.inbox_full", "Codex says more than anybody reads."))
        else:
            self._send.send_nowait(line)

    def fail(self, failure: ProviderFailure) -> None:
        self._send.send_nowait(failure)

    async def get(self) -> tuple[str, dict[str, Any]]:
        """The next notification: method and params. Raises ProviderFailure when the connection is gone."""
        item = await self._receive.receive()
        if isinstance(item, ProviderFailure):
            raise again(item)
        self._bytes -= len(item)
        message = msgspec.json.decode(item)  # it was understood when it came
        return message["method"], message["params"]


class Connection:
    """One app-server's stdin and stdout. `run` must be running; `ended` is set when nothing can be said any more."""

    def __init__(self, process: Process, limits: Limits, answerer: Answerer) -> None:
        self._process, self._limits, self._answerer = process, limits, answerer
        self._outgoing, self._lines = trio.open_memory_channel[bytes](OUTGOING_MAX)
        self._unwritten = 0
        """lines on their way through that channel: whatever is said meanwhile comes after them"""
        self._pending: dict[int, Reply] = {}
        self._inboxes: dict[str, Inbox] = {}
        self._last_id = 0
        self._failure: ProviderFailure | None = None
        self.ended = trio.Event()

    def __repr__(self) -> str:
        return f"<Connection to {self._process!r}: {len(self._pending)} pending, {len(self._inboxes)} threads>"

    @property
    def failure(self) -> ProviderFailure | None:
        """Why it ended, once it has."""
        return self._failure

    @property
    def memory_bytes(self) -> int | None:
        """How much memory the process occupies, None where nobody tells."""
        return self._process.memory_bytes

    def request(self, method: str, params: dict[str, Any]) -> Reply:
        """Asks for something; the line is written at once or soon. Never raises: what goes wrong stands in the Reply."""
        reply = Reply(self._limits.call_ms_max)
        self._last_id += 1
        self._pending[self._last_id] = reply
        self._write({"id": self._last_id, "method": method, "params": params})
        if self._failure is not None:
            self._pending.pop(self._last_id, None)
            reply.settle(None, self._failure)
        return reply

    def notify(self, method: str) -> None:
        self._write({"method": method})

    def listen(self, thread_id: str) -> Inbox:
        """Opens the inbox of a thread: what was said about the thread before is lost, what follows is not."""
        inbox = self._inboxes[thread_id] = Inbox(self._limits.answer_bytes_max)
        if self._failure is not None:
            inbox.fail(self._failure)
        return inbox

    def forget(self, thread_id: str) -> None:
        """Closes the inbox of a thread."""
        self._inboxes.pop(thread_id, None)

    def end(self, failure: ProviderFailure) -> None:
        """Fails everybody who waits; only the first call says why."""
        if self._failure is None:
            self._failure = failure
            for reply in self._pending.values():
                reply.settle(None, failure)
            self._pending.clear()
            for inbox in self._inboxes.values():
                inbox.fail(failure)
            self.ended.set()

    def kill(self) -> None:
        """Ends the process at once. What follows is what follows when it dies."""
        signal_group(self._process.pid, SIGKILL)

    async def run(self) -> None:
        """Reads and writes until the process ends or `end` is called."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_lines)
            nursery.start_soon(self._read_lines)
            await self.ended.wait()
            nursery.cancel_scope.cancel()

    async def _send_lines(self) -> None:
        try:
            async for line in self._lines:
                await self._process.send(line)
                self._unwritten -= 1
        except ProviderFailure as failure:
            self.end(failure)

    async def _read_lines(self) -> None:
        try:
            while (line := await self._process.line()) is not None:
                self._take(line)
        except LineTooLong:
            self.end(garbled("codex.line_too_long", "Codex wrote a line without an end."))
        self.end(ProviderFailure(Kind.CRASHED, "Codex ended in the middle of its work.", evidence="codex.ended"))

    def _write(self, message: dict[str, Any]) -> None:
        line = encode(message)
        if self._unwritten == 0 and self._process.send_now(line):
            return
        try:
            self._outgoing.send_nowait(line)
            self._unwritten += 1
        except trio.WouldBlock:
            self.end(garbled("codex.outgoing_full", "Codex no longer reads what it is told."))

    def _take(self, line: bytes) -> None:
        """Hands one line to whoever it is for; what nobody understands is ignored."""
        try:
            message = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if not isinstance(message, dict):
            return
        method, params = message.get("method"), message.get("params")
        if not isinstance(method, str):
            self._settle(message)
        elif "id" in message:
            self._write({"id": message["id"], **self._answer(method, params)})
        elif isinstance(params, dict):
            for inbox in self._meant(method, params):
                inbox.put(method, params, line)

    def _settle(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        reply = self._pending.pop(number, None) if isinstance(number, int) else None
        if reply is not None:
            failed = "error" in message
            reply.settle(message.get("result"), rpc_failure(message["error"]) if failed else None)

    def _answer(self, method: str, params: Any) -> dict[str, Any]:
        try:
            return {"result": self._answerer(method, params)}
        except LookupError:
            return {"error": {"code": -32601, "message": "This client does nothing on behalf of a model."}}

    def _meant(self, method: str, params: dict[str, Any]) -> Iterable[Inbox]:
        if method in TO_EVERYBODY:
            return tuple(self._inboxes.values())
        thread_id = params.get("threadId")
        inbox = self._inboxes.get(thread_id) if isinstance(thread_id, str) else None
        return (inbox,) if inbox is not None else ()
