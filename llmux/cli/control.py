"""Commands that change something: through the gateway where one runs, with the log's own lock where none does.

A gateway answers its owner on the control socket of its data directory, with the admin API it has over HTTP.
"""

import http.client
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio

from llmux.actors.journal import Journal
from llmux.actors.opening import open_journal
from llmux.clock import SystemClock
from llmux.config import Settings
from llmux.eventstore import is_owned
from llmux.failures import DirectoryInUse, LLMuxError, printable
from llmux.http.control import FILE, address

T = TypeVar("T")
ANSWER_S_MAX = 60.0
PATIENCE_S = 5.0
"""how long a command waits for a gateway that starts or stops, or for another command"""
_LOOK_AGAIN_S = 0.1


class GatewaySays(LLMuxError):
    """The running gateway refused, in its own words. `status` and `code` are those of its answer."""

    def __init__(self, message: str, status: int, code: str):
        super().__init__(message)
        self.status, self.code = status, code


class GatewayUnreachable(LLMuxError):
    """A process owns the data directory, and nobody is there on the control socket. Nothing was asked."""

    status = 503
    code = "gateway_unreachable"


class GatewaySilent(LLMuxError):
    """The gateway was asked, and its answer did not come. What was asked may or may not have been done."""

    status = 504
    code = "gateway_silent"


def running(settings: Settings) -> bool:
    """Whether a process owns the data directory: a gateway, or for a moment a command like this one."""
    return is_owned(settings.data_dir)


def carry_out(settings: Settings, *, ask: Callable[[], T], here: Callable[[Journal], Awaitable[T]]) -> T:
    """What `ask()` returns, which goes through the running gateway (`call`, `opened`); or, where none runs, `here(journal)`.

    `ask` runs in this thread and may block. While nobody is there to be asked it is tried again, for PATIENCE_S: a gateway
    starts or stops, or another command is at work. Once something was asked, nothing is tried again. Raises what they raise.
    """

    async def try_both() -> T:
        deadline = trio.current_time() + PATIENCE_S
        while True:
            try:
                if running(settings):
                    return ask()
                async with open_journal(settings, SystemClock()) as journal:
                    return await here(journal)
            except (GatewayUnreachable, DirectoryInUse):
                if trio.current_time() >= deadline:
                    raise
            await trio.sleep(_LOOK_AGAIN_S)

    return trio.run(try_both)


def call(settings: Settings, method: str, path: str, body: Any = None, *, timeout_s: float = ANSWER_S_MAX) -> Any:
    """Asks the running gateway as its admin and returns the JSON of its answer (None for an empty one).

    Raises GatewaySays for an error it answers with, GatewayUnreachable when nobody is there, GatewaySilent when no whole
    answer comes.
    """
    with opened(settings, method, path, body, timeout_s=timeout_s) as response:
        try:
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise _silent(error) from None
    return json.loads(data) if data else None


@contextmanager
def opened(
    settings: Settings,
    method: str,
    path: str,
    body: Any = None,
    *,
    headers: dict[str, str] | None = None,
    timeout_s: float = ANSWER_S_MAX,
) -> Iterator[http.client.HTTPResponse]:
    """The same, for an answer that is read piece by piece: yields a response with a good status. No piece may take longer than
    `timeout_s`.
    """
    connection = _ControlConnection(settings, timeout_s)
    try:
        data = None if body is None else json.dumps(body).encode()
        fields = {"content-type": "application/json"} if data is not None else {}
        try:
            connection.connect()
        except OSError as error:
            raise _unreachable(settings, error) from None
        try:
            connection.request(method, path, data, {**fields, **(headers or {})})
            response = connection.getresponse()
            if response.status >= 400:
                raise _said(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise _silent(error) from None
        yield response
    finally:
        connection.close()


class _ControlConnection(http.client.HTTPConnection):
    """HTTP over the control socket."""

    def __init__(self, settings: Settings, timeout_s: float):
        super().__init__("localhost", timeout=timeout_s)
        self._settings, self._timeout_s = settings, timeout_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        with address(self._settings.data_dir) as where:
            self.sock.connect(where)


def _said(status: int, body: bytes) -> GatewaySays:
    try:
        answer = json.loads(body)
        return GatewaySays(printable(str(answer["error"]), 2000), status, str(answer.get("code", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return GatewaySays(f"The gateway answered with status {status}.", status, "")


def _unreachable(settings: Settings, error: OSError) -> GatewayUnreachable:
    path = settings.data_dir / FILE
    if isinstance(error, PermissionError):
        return GatewayUnreachable(f"{path} is for the user who runs the gateway. Run this as that user.")
    return GatewayUnreachable(
        f"The data directory {settings.data_dir} is in use, but nobody answers at {path}. A gateway that starts or stops "
        "does so soon: try again in a moment."
    )


def _silent(error: Exception) -> GatewaySilent:
    late = isinstance(error, TimeoutError)
    what = "did not answer in time" if late else "ended the connection before its answer was whole"
    return GatewaySilent(f"The gateway {what}. Look whether it was done before you try again.")
