"""Whether a client that has ended its sending half is gone, or only has nothing more to say (`nc -N` does that).

To whoever is sent nothing both look alike. But a closed socket answers what it is sent with a reset. So something is sent that
means nothing, again and again at growing distances, and the socket is looked at in between. The first answer takes one round
trip; more than one is asked for because a forwarder on the way (Docker's, ssh's) may take the first for its client.
"""

import socket
from collections.abc import Awaitable, Callable

import trio

LOOK_S = 0.005
PROBE_S, PROBE_S_MAX = 0.1, 16.0


async def stays(prod: Callable[[], Awaitable[bool]], over: trio.Event, socket_: trio.socket.SocketType) -> bool:
    """True when the response is over (`over`), False as soon as the client is known to be gone.

    `prod` sends something that means nothing; where it returns False there is no such thing, and the client counts as gone.
    """
    began, probe_s = trio.current_time(), PROBE_S
    while await prod():
        probed = trio.current_time()
        while (now := trio.current_time()) < probed + probe_s:
            with trio.move_on_after(LOOK_S + (now - began) / 10):
                await over.wait()
                return True
            if socket_.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return False
        probe_s = min(2 * probe_s, PROBE_S_MAX)
    return False
