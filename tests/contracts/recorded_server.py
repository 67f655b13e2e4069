"""A loopback server that plays HTTP recordings of a real Ollama: one for the chat, and what is asked beside it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

BESIDE = {b"/api/show": "show", b"/api/version": "version", b"/api/tags": "tags"}
"""The recordings that answer to what an adapter asks beside the chat."""


@asynccontextmanager
async def playing(recordings: Path, name: str) -> AsyncIterator[str]:
    """Serves the recording `name` to whoever chats, and yields the server's URL. After each answer the connection ends."""

    async def play(stream: trio.SocketStream) -> None:
        async with stream:
            request = await stream.receive_some()
            path = request.split(b" ", 2)[1]
            await stream.send_all((recordings / f"{BESIDE.get(path, name)}.http").read_bytes())

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, play, 0)
        port = listeners[0].socket.getsockname()[1]
        yield f"http://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()
