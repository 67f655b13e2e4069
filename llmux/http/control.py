"""The owner's door: a Unix socket in the data directory. Whoever comes through it is the admin, without any key.

It is for the user who runs the gateway, and for root: the file has mode 0600, and the kernel says who is at the other end.
The same application answers there over the same connection code; that a request came this way is noted by the listener, in
a place of the ASGI scope that nothing a client sends can reach.
"""

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import structlog
import trio

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

FILE = "control.sock"
ADDRESS_BYTES_MAX = 107
"""what the address of a Unix socket has room for"""
_BACKLOG = 64
_ENTRANCE = "llmux.entrance"
_OWNERS = object()

log = structlog.get_logger("llmux.http")


class OwnersDoor:
    """The application as it is served on the control socket: every scope that passes here is marked."""

    def __init__(self, app: "ASGIFramework"):
        self._app = app

    async def __call__(self, scope: "Scope", receive: "ASGIReceiveCallable", send: "ASGISendCallable") -> None:
        cast("dict[str, Any]", scope)[_ENTRANCE] = _OWNERS
        await self._app(scope, receive, send)


def by_owner(scope: Any) -> bool:
    """Whether the request of this ASGI scope came through the owner's door."""
    return scope.get(_ENTRANCE) is _OWNERS


def is_owner(stream: trio.SocketStream) -> bool:
    """Whether the process at the other end runs as the gateway's own user, or as root."""
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return user in (0, os.geteuid())


@contextmanager
def listening(directory: Path) -> Iterator[list[trio.SocketListener]]:
    """Listens on the control socket of `directory`, which this process owns, until the block is left; then the file is gone.

    A file that an earlier gateway left behind is replaced. Where no socket can be made, the list is empty and the log says
    why: the gateway can serve without.
    """
    try:
        door = _bound(directory)
    except OSError as error:
        log.warning("no control socket", file=str(directory / FILE), why=error.strerror or str(error))
        yield []
        return
    try:
        yield [trio.SocketListener(trio.socket.from_stdlib_socket(door))]
    finally:
        door.close()
        with suppress(OSError):
            (directory / FILE).unlink()


@contextmanager
def address(directory: Path) -> Iterator[str]:
    """What to bind or to connect to, good until the block is left. A long path is shortened through an open directory."""
    path = directory / FILE
    if len(os.fsencode(path)) <= ADDRESS_BYTES_MAX:
        yield str(path)
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{FILE}"
    finally:
        os.close(descriptor)


def _bound(directory: Path) -> socket.socket:
    path = directory / FILE
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(0, "something that is no socket has its name; move it away")
        path.unlink()
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(door.fileno(), 0o600)  # the file gets the mode of the descriptor: there is no moment with another one
        with address(directory) as where:
            door.bind(where)
        path.chmod(0o600)
        door.listen(_BACKLOG)
        door.setblocking(False)
    except BaseException:
        door.close()
        raise
    return door
