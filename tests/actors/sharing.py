"""Gateways that share their answers in a real Valkey, for tests."""

from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

from llmux.actors.opening import open_system
from llmux.clock import SystemClock
from llmux.config import Limits
from tests.actors.house import house_settings, scripted, wish
from tests.upstreams.valkey import Valkey

SECRET = "a secret that the gateways share"
NAMES = count()


class Houses:
    """Opens gateways that share their answers, unless they are told otherwise."""

    def __init__(self, directory: Path, server: Valkey):
        self._stack, self._directory, self._numbers = AsyncExitStack(), directory, count()
        self.namespace = f"test-{next(NAMES)}"
        self.url = server.url

    async def __aenter__(self) -> "Houses":
        return self

    async def __aexit__(self, *raised) -> None:
        await self._stack.__aexit__(*raised)

    async def open(self, model: str = "echo", *, limits=None, **changes):
        values = {
            "secret": SECRET,
            "redis_url": self.url,
            "redis_namespace": self.namespace,
            "limits": Limits(**{"redis_rest_ms": 50, **(limits or {})}),
        }
        directory = self._directory / str(next(self._numbers))
        settings = house_settings(directory, {"one": scripted(model)}, **{**values, **changes})
        return await self._stack.enter_async_context(open_system(settings, SystemClock(), environ={}))


async def asked(system, text="hello there", **changes):
    """The source and the text of an answer."""
    with system.request(wish(text, use_cache=True, **changes)) as request:
        answer = await request.answer()
        return request.source, answer.text
