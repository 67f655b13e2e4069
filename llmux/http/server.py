"""Listens, and ends in good order. The parts are hypercorn's (its trio worker); the nursery around them is ours.

hypercorn's own `worker_serve` names its connection class in a module global. Replacing that would change every other hypercorn
in the process, and its listening, TLS, QUIC and reload code is not used here: so these forty lines run its parts instead.
"""

import errno
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from quart_trio import QuartTrio

from llmux.config import Settings
from llmux.failures import ConfigurationWrong
from llmux.http.access_log import AccessLog
from llmux.http.connection import Connection, Shared

if TYPE_CHECKING:
    from llmux.actors.system import System


async def serve(
    app: QuartTrio,
    settings: Settings,
    *,
    shutdown_trigger: Callable[[], Awaitable[object]],
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves `app` (made by `make_app`) until `shutdown_trigger` returns; what is under way then has `shutdown_grace_ms` to end.

    `task_status` gets the port, which is a free one where the settings say 0. Raises ConfigurationWrong when the address
    cannot be listened on.
    """
    system: System = app.extensions["llmux.system"]
    context = WorkerContext(None)
    shared = Shared(ASGIWrapper(app), _config(settings), context, settings.limits, system.clock.new_id)
    open_now: set[Connection] = set()

    async def welcome(stream: trio.SocketStream) -> None:
        connection = Connection(shared, stream, refused=len(open_now) >= settings.limits.connections_max)
        open_now.add(connection)
        try:
            await connection.run()
        finally:
            open_now.discard(connection)

    listeners = await _listen(settings)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as listening:
            listening.start_soon(partial(trio.serve_listeners, welcome, listeners, handler_nursery=connections))
            task_status.started(listeners[0].socket.getsockname()[1])
            await shutdown_trigger()
            listening.cancel_scope.cancel()
        await context.terminated.set()
        connections.cancel_scope.deadline = trio.current_time() + settings.shutdown_grace_ms / 1000
        for connection in open_now:
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
