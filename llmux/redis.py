"""A Redis or Valkey server: four commands, each bounded in time. Only this module knows coredis, which costs 0.2 s to import."""

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from llmux.failures import RedisAway, RedisRefused

if TYPE_CHECKING:
    import coredis

T = TypeVar("T")
SCANNED = 1_000
"""keys that one step of a clearing looks at: about a millisecond of the server's time"""


class Redis:
    """A server at an address. Every method raises RedisAway when it is not there in time, and RedisRefused when it says no.

    Connections are made when they are needed and live inside `connected`; outside of it the server is away. What is raised
    never quotes the address, which may hold a password.
    """

    def __init__(self, url: str, *, wait_ms_max: int, connections_max: int):
        self._url = url
        self._wait_s = wait_ms_max / 1000
        self._connections_max = connections_max
        self._client: coredis.Redis[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Redis {'usable' if self._client is not None else 'closed'}>"

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Holds the connections."""
        import coredis
        from coredis.retry import NoRetryPolicy

        logging.getLogger("coredis").setLevel(logging.CRITICAL)  # it would write addresses, and what is counted anyway
        secured: dict[str, Any] = {}
        if self._url.startswith("rediss:"):  # coredis alone would take any certificate
            secured["ssl_context"] = ssl.create_default_context()
        client = coredis.Redis.from_url(
            self._url,
            connect_timeout=self._wait_s,
            max_connections=self._connections_max,
            retry_policy=NoRetryPolicy(),  # who asks has an answer to give
            verify_version=False,
            **secured,
        )
        async with client:
            self._client = client
            try:
                yield
            finally:
                self._client = None

    async def read(self, key: str, bytes_max: int) -> bytes | None:
        """At most `bytes_max` + 1 bytes of the value, so that a longer one is seen to be longer; None when there is none."""
        return await self._bounded(lambda client: client.getrange(key, 0, bytes_max)) or None

    async def write(self, key: str, value: bytes, ttl_ms: int) -> None:
        """Sets the value for so long."""
        await self._bounded(lambda client: client.set(key, value, px=ttl_ms))

    async def remove_all(self, prefix: str, *, ms_max: int) -> int:
        """Removes every key that begins with `prefix` (no glob characters); how many these were."""
        removed, cursor = 0, 0
        with trio.move_on_after(ms_max / 1000):
            while True:
                cursor, keys = await self._bounded(partial(_scan, prefix=prefix, cursor=cursor))
                if keys:
                    removed += await self._bounded(partial(_unlink, keys=keys))
                if not cursor:
                    return removed
        raise RedisAway("The shared cache could not be cleared in time; some of its answers are still there.")

    async def _bounded(self, command: "Callable[[coredis.Redis[bytes]], Awaitable[T]]") -> T:
        client = self._client
        if client is None:
            raise RedisAway("The shared cache is not connected.")
        import coredis.exceptions as said

        try:
            with trio.fail_after(self._wait_s):
                return await command(client)
        except (said.ConnectionError, said.AuthenticationError, TimeoutError, OSError, trio.TooSlowError):
            raise RedisAway("The shared cache (REDIS_URL) does not answer.") from None
        except said.RedisError:
            raise RedisRefused("The shared cache (REDIS_URL) refused a command.") from None


def _scan(client: "coredis.Redis[bytes]", prefix: str, cursor: int) -> "Awaitable[tuple[int, tuple[bytes, ...]]]":
    return client.scan(cursor, f"{prefix}*", SCANNED)


def _unlink(client: "coredis.Redis[bytes]", keys: tuple[bytes, ...]) -> Awaitable[int]:
    return client.unlink(keys)
