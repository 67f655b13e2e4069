"""A gateway over scripted providers, in this process: its application for shapes, and a real listening socket for the wire."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import h11
import trio

from llmux.actors.opening import open_system
from llmux.actors.system import System
from llmux.clock import Clock, SystemClock
from llmux.config import Limits, ProviderSettings, Settings
from llmux.http.app import make_app
from llmux.http.server import serve

PROVIDERS = {
    "claude": ("say=hello+from+claude", 50),
    "gemini": ("say=hello+from+gemini", 0),
    "codex": ("say=hello+from+codex", 0),
    "ollama": ("say=hello+from+ollama", 0),
}
JSON = {"content-type": "application/json"}


def settings_of(directory: Path, *, limits: dict[str, Any] | None = None, **changes: Any) -> Settings:
    """Four scripted providers; claude alone has weight, so that smart requests are predictable."""
    providers = {
        name: ProviderSettings(kind="scripted", default_model=model, models=(f"{name}-plain",), weight=weight)
        for name, (model, weight) in PROVIDERS.items()
    }
    values: dict[str, Any] = {
        "providers": providers,
        "data_dir": directory / "data",
        "secret": "a secret for tests",
        "port": 0,
    }
    return Settings(**{**values, "limits": Limits(**(limits or {})), **changes})


@asynccontextmanager
async def gateway(settings: Settings, *, serving: bool = False, clock: Clock | None = None) -> AsyncIterator["Gateway"]:
    """An open gateway; with `serving` it listens on a free port of 127.0.0.1, and is stopped in good order at the end."""
    async with open_system(settings, clock or SystemClock(), environ={}) as system:
        app = make_app(system)
        here = Gateway(system, app)
        if not serving:
            yield here
            return
        async with trio.open_nursery() as nursery:
            await here.listen(nursery)
            try:
                yield here
            finally:
                here.stop.set()


class Gateway:
    """The system, its application, and, where it listens, its port."""

    def __init__(self, system: System, app: Any):
        self.system, self.app = system, app
        self.port = 0
        self.stop = trio.Event()
        self.stopped = trio.Event()

    async def listen(self, nursery: trio.Nursery) -> None:
        async def run(task_status: trio.TaskStatus[int]) -> None:
            self._task = trio.lowlevel.current_task()
            await serve(self.app, self.system.settings, shutdown_trigger=self.stop.wait, task_status=task_status)
            self.stopped.set()

        self.port = await nursery.start(run)

    async def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> "Reply":
        """A POST through the application alone, without a socket. `body` is bytes, or anything that JSON can hold."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self._exchange("POST", path, data, {**JSON, **(headers or {})})

    async def get(self, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> "Reply":
        """A request without body through the application alone."""
        return await self._exchange(method, path, b"", headers or {})

    async def _exchange(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> "Reply":
        """Reads while the answer comes: Quart's own client waits for its end first, and stalls a stream of many pieces."""
        received = b""
        async with self.app.test_client().request(path, method=method, headers=headers) as connection:
            await connection.send(body)
            await connection.send_complete()
            with suppress(trio.EndOfChannel):
                while True:
                    received += await connection.receive()
        return Reply(connection.status_code, dict(connection.headers.items(lower=True)), received)

    async def events(self) -> list[str]:
        """The types of all events so far, without those of the gateway itself."""
        recorded = await self.system.journal._store.read(after=0, limit=1000)
        return [event.type for event in recorded if event.stream != "gateway"]

    async def until(self, type: str, count: int = 1) -> list[str]:
        """Waits (at most 10 s) until the log holds `count` events of that type, and returns the types of all."""
        with trio.fail_after(10):
            while (events := await self.events()).count(type) < count:
                await trio.sleep(0.01)
        return events

    def tasks(self) -> list[str]:
        """The names of all tasks that the server has running."""
        found = [self._task]
        for task in found:
            found += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        return [task.name for task in found]

    def rejected(self, endpoint: str, code: str) -> float:
        """How many requests to this endpoint were refused with this code."""
        return self.system.metrics._rejected.labels(endpoint, code)._value.get()


class Reply:
    """A whole response."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self) -> str:
        return f"<Reply {self.status} {self.body[:300]!r}>"

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def frames(self) -> list[Any]:
        """The data of all events: objects, and "[DONE]"."""
        return frames_of(self.body)


def frames_of(body: bytes) -> list[Any]:
    """The data of all events in a stream, comments left out."""
    frames = [part for part in body.decode().split("\n\n") if part and not part.startswith(":")]
    assert all(part.startswith("data: ") for part in frames), frames
    data = [part.removeprefix("data: ") for part in frames]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


class Client:
    """One raw connection to the gateway: bytes in, bytes out, and h11 to read responses."""

    def __init__(self, stream: trio.SocketStream):
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Sends a whole request."""
        fields = {"host": "localhost", "content-length": str(len(body)), **(JSON if body else {}), **(headers or {})}
        await self.send(self.http.send(h11.Request(method=method, target=path, headers=list(fields.items()))))
        if body:
            await self.send(self.http.send(h11.Data(data=body)))
        if int(fields["content-length"]) == len(body):
            self.http.send(h11.EndOfMessage())

    async def event(self) -> Any:
        """The next h11 event."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.stream.receive_some(65_536))
        return event

    async def head(self) -> h11.Response:
        """The status line and headers of the response."""
        response = await self.event()
        assert isinstance(response, h11.Response), response
        return response

    async def reply(self) -> Reply:
        """The whole response."""
        response, body = await self.head(), b""
        while isinstance(event := await self.event(), h11.Data):
            body += bytes(event.data)
        assert isinstance(event, h11.EndOfMessage)
        if self.http.our_state is h11.DONE and self.http.their_state is h11.DONE:
            self.http.start_next_cycle()
        return Reply(response.status_code, {k.decode(): v.decode() for k, v in response.headers}, body)

    async def rest(self) -> bytes:
        """All bytes until the gateway ends the connection (or resets it)."""
        data = b""
        try:
            while more := await self.stream.receive_some(65_536):
                data += more
        except trio.BrokenResourceError:
            pass
        return data


@asynccontextmanager
async def connected(here: Gateway) -> AsyncIterator[Client]:
    """A connection to a listening gateway."""
    stream = await trio.open_tcp_stream("127.0.0.1", here.port)
    async with stream:
        yield Client(stream)
