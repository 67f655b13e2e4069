"""The real Gemini CLI behind its adapter, against the stand-in of Google, shared by the tests of a module."""

import json
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from llmux.config import Account
from llmux.failures import ProviderFailure
from llmux.prompts import Prompt, user
from llmux.providers.adapter import Call
from llmux.providers.gemini import GeminiAdapter
from tests.providers.hearing import Heard, place_of
from tests.real.clis import gemini, node
from tests.upstreams.running import Upstream

FLASH, PRO, OLD = "gemini-3-flash-preview", "gemini-3-pro-preview", "gemini-2.0-flash"
T = TypeVar("T")


class Running:
    """An adapter in a trio loop on a thread of its own, so that many tests can use its warm workers."""

    def __init__(self, adapter: GeminiAdapter, api: Upstream, directory: Path):
        self.adapter, self.api, self.directory = adapter, api, directory
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop: trio.Event | None = None

    async def serve(self) -> None:
        self._token, self._stop = trio.lowlevel.current_trio_token(), trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.adapter.serve)
            self._ready.set()
            await self._stop.wait()
            nursery.cancel_scope.cancel()

    def run(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Runs something in the adapter's loop."""
        return trio.from_thread.run(function, *args, trio_token=self._token)

    def wait_ready(self) -> None:
        assert self._ready.wait(10)

    def stop(self) -> None:
        async def stop() -> None:
            assert self._stop is not None
            self._stop.set()

        self.run(stop)

    async def answer(self, prompt: Prompt | str, model: str = FLASH, heard: Heard | None = None) -> Heard:
        heard = heard if heard is not None else Heard()
        whole = Prompt((user(prompt),)) if isinstance(prompt, str) else prompt
        await self.adapter.answer(Call(whole, model, model), heard.emit, heard.report)
        return heard

    async def failure(self, prompt: Prompt | str, model: str = FLASH, heard: Heard | None = None) -> ProviderFailure:
        try:
            await self.answer(prompt, model, heard)
        except ProviderFailure as failure:
            return failure
        raise AssertionError("it answered")

    def say(self, prompt: Prompt | str, model: str = FLASH) -> Heard:
        """One answer."""
        return self.run(self.answer, prompt, model)

    def fail(self, prompt: Prompt | str, model: str = FLASH, heard: Heard | None = None) -> ProviderFailure:
        """One failure."""
        return self.run(self.failure, prompt, model, heard)

    def sent(self) -> list[dict[str, Any]]:
        """The bodies of the model calls that Google saw since the last reset."""
        calls = [entry for entry in self.api.log() if "streamGenerateContent" in entry["path"]]
        return [body.get("request", body) for body in (json.loads(call["body"]) for call in calls)]

    def told(self) -> str:
        """The last text of the user in the last model call, as Google saw it."""
        return str(self.sent()[-1]["contents"][-1]["parts"][-1]["text"])

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits until something is so; at most 20 s."""
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, self.adapter
            time.sleep(0.02)


def adapter_of(directory: Path, env: dict[str, str], account: Account | None = None, **settings: Any) -> GeminiAdapter:
    """An adapter over the real CLI."""
    path = f"{node().parent}{os.pathsep}{os.environ['PATH']}"
    settings = {"command": gemini()[-1], "env": env, "first_byte_ms_max": 60_000, **settings}
    return GeminiAdapter(place_of("gemini", directory, environ={"PATH": path}, account=account, **settings))


@contextmanager
def run(adapter: GeminiAdapter, api: Upstream, directory: Path) -> Iterator[Running]:
    """The adapter, served while the block runs."""
    running = Running(adapter, api, directory)
    thread = threading.Thread(target=trio.run, args=(running.serve,))
    thread.start()
    running.wait_ready()
    try:
        yield running
    finally:
        running.stop()
        thread.join()


def with_key(api: Upstream) -> dict[str, str]:
    """The environment for an API key."""
    return {"GEMINI_API_KEY": "a-key-of-the-tests", "GOOGLE_GEMINI_BASE_URL": api.url}


def with_google(api: Upstream) -> dict[str, str]:
    """The environment that brings every host of a Google login to the stand-in."""
    return {
        "CODE_ASSIST_ENDPOINT": api.url,
        "HTTPS_PROXY": f"http://127.0.0.1:{api.announced['PROXY']}",
        "NODE_EXTRA_CA_CERTS": api.announced["CA"],
        "NO_PROXY": "127.0.0.1,localhost",
    }


def write_login(folder: Path, *, expires_in_s: int = 3000, refresh_token: str = "1//of-the-tests") -> Path:
    """A made-up Google login as the CLI stores it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "oauth_creds.json"
    login = {
        "access_token": "ya29.of-the-tests",
        "refresh_token": refresh_token,
        "scope": "https://www.googleapis.com/auth/cloud-platform openid",
        "token_type": "Bearer",
        "expiry_date": int((time.time() + expires_in_s) * 1000),
    }
    file.write_text(json.dumps(login))
    return file
