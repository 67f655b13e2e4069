"""Threads without a word in them, of which the threads of all turns are forks: that gives a conversation one prompt cache key.

Codex names the vendor's prompt cache after the thread, and a turn has a fresh thread. Only an ephemeral fork keeps the cache
key (and the header `session-id`, by which the vendor chooses the machine) of the thread it was forked from. So there are a few
persistent threads, the roots; a conversation always gets the same one, chosen by its beginning. Nothing of a prompt is in a
root: its only item is a marker of a role that Codex leaves out of what it sends. A root lives on the disk of CODEX_HOME, for
every app-server that comes after.
"""

import hashlib
from typing import Any

import trio

from llmux.failures import Kind, ProviderFailure
from llmux.providers.codex.connection import Connection
from llmux.providers.codex.failures import again

COUNT = 4
"""roots per account; the vendor tells conversations that share one apart by their own beginnings"""
_MARKER = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "LLMux"}]}


def place_of(beginning: str) -> int:
    """Which root a conversation has that begins so."""
    return hashlib.sha256(beginning.encode("utf-8", "replace")).digest()[0] % COUNT


class _Root:
    """A root that is being made, or was: `made` is set when either `thread_id` or `failure` is known."""

    def __init__(self) -> None:
        self.made = trio.Event()
        self.thread_id = ""
        self.failure: ProviderFailure | None = None


class Roots:
    """The roots of one CODEX_HOME."""

    def __init__(self) -> None:
        self._roots: dict[int, _Root] = {}

    def __repr__(self) -> str:
        return f"<Roots: {sum(bool(root.thread_id) for root in self._roots.values())} of {COUNT}>"

    async def at(self, place: int, connection: Connection, nursery: trio.Nursery, start: dict[str, Any]) -> str:
        """The id of the root at `place`, made by the server behind `connection` if need be. Raises ProviderFailure.

        It is made in `nursery`, so that whoever asks may leave. `start` holds the parameters of thread/start.
        """
        root = self._roots.get(place)
        if root is None:
            root = self._roots[place] = _Root()
            nursery.start_soon(self._make, place, root, connection, start)
        await root.made.wait()
        if root.failure is not None:
            raise again(root.failure)
        return root.thread_id

    def made(self, place: int) -> str:
        """The id of the root at `place`, "" when there is none yet."""
        root = self._roots.get(place)
        return root.thread_id if root is not None else ""

    def forget(self, place: int) -> None:
        """This root is of no use; the next who wants it makes another."""
        self._roots.pop(place, None)

    def clear(self) -> None:
        """CODEX_HOME was made anew."""
        self._roots.clear()

    async def _make(self, place: int, root: _Root, connection: Connection, start: dict[str, Any]) -> None:
        root.failure = ProviderFailure(
            Kind.CRASHED, "Codex was stopped.", evidence="codex.stopped"
        )  # unless it is made
        try:
            thread_id = await connection.request("thread/start", {**start, "ephemeral": False}).result("thread", "id")
            await connection.request("thread/inject_items", {"threadId": thread_id, "items": [_MARKER]}).result()
            await connection.request("thread/unsubscribe", {"threadId": thread_id}).result()
            root.thread_id, root.failure = thread_id, None
        except ProviderFailure as failure:
            root.failure = failure
        finally:
            if root.failure is not None and self._roots.get(place) is root:
                self.forget(place)
            root.made.set()
