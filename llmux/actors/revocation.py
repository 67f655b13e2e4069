"""What becomes of the requests of a key that opens nothing any more: revoked, with another secret, or expired.

With KEY_REVOKE_STREAMS=cut they end at once, each with a failure that its client hears of and `RequestCancelled` in the log;
with "finish" those that are under way go on to their own end. New ones are refused either way.
"""

import math
from collections.abc import Iterable

import trio

from llmux.actors.facts.keys import Key
from llmux.actors.journal import Journal
from llmux.actors.messages import Principal
from llmux.actors.request import Request
from llmux.clock import Clock
from llmux.config import Settings
from llmux.events import RecordedEvent
from llmux.failures import KeyClosed

LOOK_S_MAX = 60.0
"""how long a wall clock that was set forward may go unnoticed"""


class Revocation:
    """Knows the open requests of every key. It sees revocations where everybody does, at their commit, and looks at the clock
    when the next key expires that has open requests.
    """

    def __init__(self, journal: Journal, settings: Settings, clock: Clock):
        self._journal, self._clock = journal, clock
        self._cuts = settings.key_revoke_streams == "cut"
        self._open: dict[str, set[Request]] = {}
        self._news = trio.Event()
        journal.watch(self.observe)

    def __repr__(self) -> str:
        way = "cut" if self._cuts else "finish"
        return f"<Revocation {way} keys={len(self._open)} requests={sum(map(len, self._open.values()))}>"

    def check(self, principal: Principal) -> None:
        """Raises KeyClosed for a key that was let in, and has come to its end while the body of the request was on its way."""
        key = self._journal.facts.keys.get(principal.id)
        if key is not None and not key.opens(self._clock.now()):
            raise _closed(key)

    def expect(self, request: Request) -> None:
        """A request was taken on. It is forgotten when it has ended."""
        key = self._journal.facts.keys.get(request.wish.principal.id)
        if key is None or not self._cuts:
            return
        self._open.setdefault(key.id, set()).add(request)
        request.on_end = self._ended
        if key.expires_at is not None:
            self._news.set()

    def observe(self, recorded: Iterable[RecordedEvent]) -> None:
        """The journal has committed these events. Never waits, never raises."""
        if not self._open:
            return
        for event in recorded:
            if event.type == "KeyRevoked":
                self._cut(event.stream.removeprefix("key-"), REVOKED)
            elif event.type == "KeyRotated":
                self._cut(event.stream.removeprefix("key-"), ROTATED)
            elif event.type == "KeyLimited":
                self._news.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ends the requests of keys that expire, until cancelled."""
        task_status.started()
        while True:
            self._news = trio.Event()
            with trio.move_on_after(self._look()):
                await self._news.wait()

    def _look(self) -> float:
        """Cuts what has expired, and returns after how many seconds to look again."""
        now, keys = self._clock.now(), self._journal.facts.keys
        waits: list[float] = []
        for id in list(self._open):
            ends = keys[id].expires_at
            if ends is not None and now >= ends:
                self._cut(id, EXPIRED)
            elif ends is not None:
                waits.append((ends - now) / 1000)
        return min(LOOK_S_MAX, *waits) if waits else math.inf

    def _cut(self, key_id: str, why: tuple[str, str]) -> None:
        for request in tuple(self._open.get(key_id, ())):
            request.cut(KeyClosed(*why))

    def _ended(self, request: Request) -> None:
        key_id = request.wish.principal.id
        requests = self._open[key_id]
        requests.discard(request)
        if not requests:
            del self._open[key_id]


REVOKED = ("key_revoked", "was revoked")
ROTATED = ("key_rotated", "has been given another secret")
EXPIRED = ("key_expired", "has expired")


def _closed(key: Key) -> KeyClosed:
    return KeyClosed(*(REVOKED if key.revoked_at is not None else EXPIRED))
