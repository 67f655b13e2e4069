"""Listens at both doors, and ends in good order. The parts are hypercorn's (its trio worker); the nursery around them is ours.

hypercorn's own `worker_serve` names its connection class in a module global. Replacing that would change every other hypercorn
in the process, and its listening, TLS, QUIC and reload code is not used here: so these forty lines run its parts instead.
"""

import errno
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, cast

import msgspec
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from quart_trio import QuartTrio

from llmux.config import Settings
from llmux.failures import ConfigurationWrong
from llmux.http import control
from llmux.http.access_log import AccessLog
from llmux.http.connection import Connection
from llmux.http.plain_http import Shared

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework

    from llmux.actors.system import System


async def serve(
    app: QuartTrio,
    settings: Settings,
    *,
    shutdown_trigger: Callable[[], Awaitable[object]],
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves `app` (made by `make_app`) until `shutdown_trigger` returns; what is under way then has `shutdown_grace_ms` to end
    well, and after that a moment to end with an error.

    It listens at the configured address, and on the control socket in the data directory, which this process owns.
    `task_status` gets the port, which is a free one where the settings say 0. Raises ConfigurationWrong when the address
    cannot be listened on.
    """
    system: System = app.extensions["llmux.system"]
    limits, context = settings.limits, WorkerContext(None)
    shared = Shared(ASGIWrapper(app), _config(settings), context, limits, system.clock.new_id)
    street = Entrance(shared, limits.connections_max)
    for_owner = msgspec.structs.replace(shared, app=ASGIWrapper(control.OwnersDoor(cast("ASGIFramework", app))))
    owners = Entrance(for_owner, limits.control_connections_max, admits=control.is_owner)
    listeners = await _listen(settings)
    async with trio.open_nursery() as beside:
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as open_doors:
                with control.listening(settings.data_dir) as behind:
                    for door, found in ((street, listeners), (owners, behind)):
                        if found:
                            serving = partial(trio.serve_listeners, door.welcome, found, handler_nursery=connections)
                            open_doors.start_soon(serving)
                    task_status.started(listeners[0].socket.getsockname()[1])
                    await shutdown_trigger()
                open_doors.cancel_scope.cancel()
            system.history.close()
            await context.terminated.set()
            beside.start_soon(_end_in_time, system, connections)
            street.stop()
            owners.stop()
        beside.cancel_scope.cancel()


async def _end_in_time(system: "System", connections: trio.Nursery) -> None:
    """What is under way may end well within the grace; then it ends with an error in its own dialect; then it is cut."""
    settings = system.settings
    await trio.sleep(settings.shutdown_grace_ms / 1000)
    system.dispatch.stop()
    await trio.sleep(settings.limits.farewell_ms_max / 1000)
    connections.cancel_scope.cancel()


class Entrance:
    """One door: who comes in through it becomes a `Connection`, at most `connections_max` at a time."""

    def __init__(
        self, shared: Shared, connections_max: int, admits: Callable[[trio.SocketStream], bool] = lambda _: True
    ):
        self._shared, self._connections_max, self._admits = shared, connections_max, admits
        self._open: set[Connection] = set()

    def __repr__(self) -> str:
        return f"<Entrance {len(self._open)} of {self._connections_max}>"

    async def welcome(self, stream: trio.SocketStream) -> None:
        """Serves one connection to its end."""
        refused = 503 if len(self._open) >= self._connections_max else 0 if self._admits(stream) else 403
        connection = Connection(self._shared, stream, refused=refused)
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.discard(connection)

    def stop(self) -> None:
        """The server stops: connections end as soon as they are idle."""
        for connection in self._open:
            connection.stop()


async def _listen(settings: Settings) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(settings.port, host=settings.host)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationWrong(f"Another program listens on {where}. Stop it, or set PORT.") from None
        raise ConfigurationWrong(
            f"{where} cannot be listened on: {error.strerror or error}. Set HOST and PORT."
        ) from None


def _config(settings: Settings) -> Config:
    config = Config()
    config.errorlog = None  # AccessLog writes through structlog
    config.include_server_header = False
    config.h11_max_incomplete_size = settings.limits.header_bytes_max
    config.logger_class = AccessLog
    return config
