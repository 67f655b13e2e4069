"""One `gemini --acp` process and the JSON-RPC 2.0 that it speaks, one object per line: one prompt at a time."""

import json
import signal
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio

from llmux.failures import Kind, ProviderFailure
from llmux.providers.adapter import Place
from llmux.providers.gemini import signs
from llmux.providers.gemini.home import Home, Tokens
from llmux.providers.gemini.program import Login
from llmux.providers.gemini.translation import Translation
from llmux.providers.process import LineTooLong, Process, signal_group

START_MS_MAX = 20_000
CANCEL_MS_MAX = 700
ENDING_MS_MAX = 1_000
EXIT_NO_LOGIN = 41

Update = Callable[[str, str], Awaitable[None]]
"""What is told about a chunk: "agent_message_chunk" or "agent_thought_chunk", and its text."""


class Stopped(msgspec.Struct, frozen=True):
    """How a prompt ended: the CLI's word for it, what it counted, and the model that answered ("" = not said)."""

    reason: str
    input_tokens: int
    output_tokens: int
    model: str
    recorded: Tokens | None


class Worker:
    """A process that is ready for a prompt, or answering one. `fit` is False once it must not be used again."""

    def __init__(self, place: Place, process: Process, home: Home, login: Login, aliases: dict[str, str]):
        self.process, self.home, self.login, self.aliases = process, home, login, aliases
        self.served = 0
        self.fit = True
        self.busy = False
        self.free_since = 0.0
        """since when nobody uses it, in seconds of trio's clock"""
        self.dismissed = False
        """whether the pool let it go; else it went by itself"""
        self.closed = False
        """whether we ended the process on purpose"""
        self.leave = trio.Event()
        """set when nobody will use the process any more"""
        self._place = place
        self._next_id = 0
        self._unanswered: tuple[str, int] | None = None
        """method and id of the call that waits for its reply"""
        self._sending = False
        self._session = ""

    def __repr__(self) -> str:
        state = "unfit" if not self.fit else "busy" if self.busy else "idle"
        return f"<gemini Worker {self.process.pid} {state} served={self.served}>"

    async def greet(self) -> None:
        """The handshake. Raises ProviderFailure; LOGGED_OUT when the CLI asks for a login instead, and nothing is sent after that."""
        with trio.move_on_after(START_MS_MAX / 1000):
            await self._call("initialize", {"protocolVersion": 1, "clientCapabilities": {}}, greeting=True)
            return
        raise ProviderFailure(
            Kind.TIMED_OUT, "The Gemini CLI did not get ready in time.", evidence="gemini.start", phase="first_byte"
        )

    async def answer(self, translation: Translation, update: Update) -> Stopped:
        """Runs one prompt. Raises ProviderFailure. When cancelled, the CLI stops its work for it within a second."""
        name = "r" + self._place.clock.secret(8).hex()
        self.served += 1
        try:
            self._session = str(uuid.UUID(bytes=self._place.clock.secret(16), version=4))
            cwd = str(self.home.open(name, self._session, translation))
            if translation.history:
                await self._load(cwd, self.aliases[translation.model_config])
            else:
                opened = await self._call("session/new", {"cwd": cwd, "mcpServers": []})
                self._session = str(opened.get("sessionId", ""))
            prompt = {"sessionId": self._session, "prompt": list(translation.blocks)}
            result = await self._call("session/prompt", prompt, update)
            return _stopped(result, self.home.tokens(self._session))
        finally:
            try:
                await self._withdraw()
            finally:
                self._clean()

    async def look(self, translation: Translation) -> None:
        """Opens a session and asks nothing: on the way the CLI learns of the account's quota. Raises ProviderFailure."""
        try:
            cwd = str(self.home.open("q" + self._place.clock.secret(8).hex(), "", translation))
            await self._call("session/new", {"cwd": cwd, "mcpServers": []})
        finally:
            try:
                await self._withdraw()
            finally:
                self._clean()

    def _clean(self) -> None:
        """Takes the words off the disk. Where that fails the answer stands, and the home goes as a whole with its worker."""
        try:
            self.home.clean()
        except OSError:
            self.fit = False

    async def silence(self, now: Callable[[], int]) -> ProviderFailure:
        """Ends the process, which then says on stderr why it was silent. The worker is not fit after that."""
        self.fit, self.closed = False, True
        with trio.move_on_after(ENDING_MS_MAX / 1000):
            await self.process.close_stdin()
            await self.process.stderr_closed.wait()
        return signs.of_silence(bytes(self.process.stderr_tail), now())

    async def _load(self, cwd: str, alias: str) -> None:
        """Loads the history that lies ready. The CLI repeats it, partly after its reply, and ends with its commands."""
        replayed = trio.Event()

        async def watch(kind: str, text: str) -> None:
            if kind == "available_commands_update":
                replayed.set()

        try:
            await self._call("session/load", {"sessionId": self._session, "cwd": cwd, "mcpServers": []}, watch)
        except ProviderFailure as failure:
            if failure.evidence == "gemini.auth_required":  # it does not say why; a new session would
                await self._call("session/new", {"cwd": cwd, "mcpServers": []})
            raise
        while not replayed.is_set():
            await self._handle(await self._read(), watch)
        await self._call("session/set_model", {"sessionId": self._session, "modelId": alias})

    async def _call(
        self, method: str, params: dict[str, Any], update: Update | None = None, *, greeting: bool = False
    ) -> dict[str, Any]:
        """Asks and waits for the reply; everything that comes before it goes to `update`. Raises ProviderFailure."""
        self._next_id += 1
        number = self._next_id
        self._unanswered = (method, number)
        await self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        while True:
            message = await self._read(greeting)
            if message.get("id") == number and "method" not in message:
                break
            await self._handle(message, update)
        self._unanswered = None
        if "error" in message:
            error = message["error"] if isinstance(message["error"], dict) else {}
            if method != "session/prompt":
                self.fit = False  # a session that could not be opened may be half there
            code = error.get("code")
            code = code if isinstance(code, int) else 0
            raise signs.of_error(code, str(error.get("message", "")), self._place.clock.now())
        result = message.get("result")
        return result if isinstance(result, dict) else {}

    async def _send(self, message: dict[str, Any]) -> None:
        self._sending = True
        await self.process.send(json.dumps(message, ensure_ascii=False).encode())
        self._sending = False

    async def _read(self, greeting: bool = False) -> dict[str, Any]:
        """The next message. Raises ProviderFailure when there is none, or something that is no message."""
        try:
            line = await self.process.line()
        except LineTooLong:
            line = b""
        if line is None:
            self.fit = False
            raise await self._ended(greeting)
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if isinstance(message, dict):
            return message
        self.fit = False
        if greeting and not self.login.key:  # the next line would be taken for the code of a login
            signal_group(self.process.pid, signal.SIGKILL)
            raise ProviderFailure(
                Kind.LOGGED_OUT,
                "The Gemini CLI asks for a login. Type: llmux login gemini",
                evidence="gemini.login_dialog",
            )
        raise ProviderFailure(
            Kind.GARBLED, "The Gemini CLI wrote something that is no message.", evidence="gemini.line"
        )

    async def _ended(self, greeting: bool) -> ProviderFailure:
        status = None
        with trio.move_on_after(ENDING_MS_MAX / 1000):
            status = await self.process.wait()
        if greeting and status == EXIT_NO_LOGIN:
            return ProviderFailure(
                Kind.LOGGED_OUT,
                "The Gemini CLI is not logged in. Type: llmux login gemini",
                evidence="gemini.exit_41",
            )
        return ProviderFailure(
            Kind.CRASHED, f"The Gemini CLI ended unexpectedly (exit status {status}).", evidence="gemini.ended"
        )

    async def _handle(self, message: dict[str, Any], update: Update | None) -> None:
        """A message that is not the awaited reply: an update of our session, or something that the CLI asks."""
        method, params = message.get("method"), message.get("params")
        params = params if isinstance(params, dict) else {}
        if method is not None and "id" in message:
            await self._send(_refusal(message["id"], str(method)))
        elif method == "session/update" and update is not None and params.get("sessionId") == self._session:
            change = params.get("update")
            change = change if isinstance(change, dict) else {}
            content = change.get("content")
            text = content.get("text") if isinstance(content, dict) else None
            await update(str(change.get("sessionUpdate")), text if isinstance(text, str) else "")

    async def _withdraw(self) -> None:
        """Ends whatever is under way when a prompt is given up. Only a reply to it leaves the worker fit."""
        if self._unanswered is None:
            return
        (method, number), self._unanswered = self._unanswered, None
        whole, self.fit = self.fit and not self._sending, False
        if not whole:
            return
        with trio.move_on_after(CANCEL_MS_MAX / 1000, shield=True):
            try:
                if method == "session/prompt":
                    cancel = {"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": self._session}}
                    await self._send(cancel)
                while (message := await self._read()).get("id") != number or "method" in message:
                    await self._handle(message, None)
            except ProviderFailure:
                return
            self.fit = method == "session/prompt" or "result" in message  # else a session may be half there


def _refusal(number: Any, method: str) -> dict[str, Any]:
    """What the CLI gets when it asks for something: it may do nothing."""
    if method == "session/request_permission":
        return {"jsonrpc": "2.0", "id": number, "result": {"outcome": {"outcome": "cancelled"}}}
    return {"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "Not offered by this client."}}


def _stopped(result: dict[str, Any], recorded: Tokens | None) -> Stopped:
    quota = _dict(_dict(result.get("_meta")).get("quota"))
    count = _dict(quota.get("token_count"))
    usage = quota.get("model_usage")
    used = _dict(usage[-1]) if isinstance(usage, list) and usage else {}
    return Stopped(
        reason=str(result.get("stopReason", "")),
        input_tokens=_count(count.get("input_tokens")),
        output_tokens=_count(count.get("output_tokens")),
        model=str(used.get("model", "")),
        recorded=recorded,
    )


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
