"""Keeps one app-server running: starts it when it is wanted, again when it died, anew when the login changed or it has grown.

One that is replaced goes on until its last turn is over, while its successor, which is ready by then, takes the new ones.
"""

from contextlib import suppress
from typing import Any

import trio

from llmux.failures import Kind, ProviderFailure
from llmux.providers.adapter import Place, QuotaWindow, WorkerStatistics
from llmux.providers.codex import home, login, program
from llmux.providers.codex.connection import Connection
from llmux.providers.codex.failures import again, unwritable
from llmux.providers.codex.quota import windows_read
from llmux.providers.codex.request import thread_of
from llmux.providers.codex.roots import Roots
from llmux.providers.codex.server import AppServer
from llmux.providers.process import Process, running

REST_MS, REST_MS_MAX = 250, 10_000  # before a start that follows a failed one; doubles each time, none after the first

PULSE_S = 15.0
"""how often a server that has nothing to do is asked for a sign of life, which takes it about a millisecond"""


class Keeper:
    """The app-server of one account. `serve` must be running for `ready` to return."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._roots = Roots()
        self._current: AppServer | None = None
        self._servers: set[AppServer] = set()
        self._wanted, self._settled = trio.Event(), trio.Event()
        self._failure: ProviderFailure | None = None
        self._failures = 0
        self._cleared = False
        self._looked_at = ""  # the stamp of the login that the current server was last compared with
        self._rest_until = float("-inf")
        self._starting = 0
        self._started = self._recycled = self._lost = 0
        self._quota_known_at = float("-inf")

    def __repr__(self) -> str:
        return f"<Keeper of {self._current!r}, {self._failures} failures in a row>"

    def statistics(self) -> WorkerStatistics:
        busy = sum(server.busy > 0 for server in self._servers)
        return WorkerStatistics(
            starting=self._starting,
            idle=len(self._servers) - busy,
            busy=busy,
            started=self._started,
            recycled=self._recycled,
            lost=self._lost,
        )

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; then no process is left."""
        with suppress(OSError):  # whoever wants a server will try again, and be told
            self._clear()
        if self._place.settings.warm > 0:
            self._wanted.set()
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                await self._wanted.wait()
                await trio.sleep_until(self._rest_until)
                if not self._serving() or (self._current is not None and self._current.worn(self._place.limits)):
                    failure: ProviderFailure | None = await nursery.start(self._keep_one)
                    self._failure = failure
                self._wanted = trio.Event()  # whoever wanted one meanwhile is served, or told, by this start
                settled, self._settled = self._settled, trio.Event()
                settled.set()

    async def ready(self) -> AppServer:
        """A server that takes threads, started if need be. Raises ProviderFailure when none can be had now."""
        await self._replace_other()
        while (server := self._current) is None or not server.usable:
            if self._failure is not None and trio.current_time() < self._rest_until:
                raise again(self._failure)
            self._wanted.set()
            await self._settled.wait()
            if not self._serving() and self._failure is not None:
                raise again(self._failure)
        return server

    def quota_was_told(self) -> None:
        """An answer told the state of the account's quota: for a while nobody needs to ask."""
        self._quota_known_at = trio.current_time()

    async def quota(self) -> tuple[QuotaWindow, ...]:
        """The quota windows of the account, asked for without a token; () when they are known, or cannot be asked for, now."""
        await self._replace_other()
        server, now = self._current, trio.current_time()
        known_until = self._quota_known_at + self._place.limits.usage_interval_ms / 1000
        if server is None or not server.usable or now < known_until:
            return ()
        if server.login.api_key or not home.side_url(self._place.settings):
            return ()
        self._quota_known_at = now
        try:
            return windows_read(await server.connection.request("account/rateLimits/read", {}).result())
        except ProviderFailure:  # whatever is wrong, the next answer will say it
            return ()

    async def _replace_other(self) -> None:
        """Retires the server when it has the login of somebody else, or when its own was refused and has changed since."""
        server, stamp = self._current, login.stamp(self._place)
        if server is None or not server.usable or stamp == server.login.stamp:
            return
        if not server.rejected:
            if stamp == self._looked_at:
                return
            try:
                known = await login.settled(self._place)
            except ProviderFailure:  # no other account is known: the probe tells that nobody is logged in
                return
            if known.identity == server.login.identity:
                self._looked_at = known.stamp  # only a token was refreshed
                return
        server.retire()
        if self._place.settings.warm > 0:
            self._wanted.set()

    def _serving(self) -> bool:
        return self._current is not None and self._current.usable

    def _clear(self) -> None:
        home.clear(self._place)
        self._roots.clear()
        self._cleared = True

    async def _keep_one(self, *, task_status: trio.TaskStatus[ProviderFailure | None]) -> None:
        """One server from its start to its end. Reports None once it is ready, else why it could not be started."""
        self._starting += 1
        reported = False

        def report(failure: ProviderFailure | None) -> None:
            nonlocal reported
            if not reported:
                reported = True
                self._starting -= 1
                task_status.started(failure)

        try:
            await self._run(report)
        except ProviderFailure as failure:
            if not reported and failure.evidence.startswith(
                ("process.", "codex.home", "codex.rpc.", "codex.ended", "codex.line")
            ):
                self._rest()  # it was tried: not at once again
            report(failure)
        finally:
            if not reported:  # cancelled
                self._starting -= 1

    async def _run(self, report: Any) -> None:
        place = self._place
        known = await login.settled(place)
        argv = [str(program.locate(place)), "app-server", "--strict-config"]
        try:
            if not self._cleared:
                self._clear()
            home.write(place, known)
        except OSError as error:
            raise unwritable(error) from None
        _, empty = home.paths(place)
        async with running(argv, env=home.environment(place), cwd=empty, limits=place.limits) as process:
            self._started += 1
            failure = await self._live(process, known, report)
        if failure is not None:
            raise failure

    async def _live(self, process: Process, known: login.Login, report: Any) -> ProviderFailure | None:
        """Speaks with the process until it ends. The failure is returned: a nursery would wrap it."""
        connection = Connection(process, self._place.limits, self._answer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            server = AppServer(connection, known, self._roots, nursery, self._released)
            try:
                await server.shake_hands()
                self._servers.add(server)
                before, self._current = self._current, server
                if before is not None:
                    before.retire()
                report(None)
                if self._place.settings.warm > 0:
                    nursery.start_soon(server.warm_up, self._thread())
                nursery.start_soon(self._feel_pulse, server)
                await connection.ended.wait()
                return self._ended(server)
            except ProviderFailure as failure:
                return failure
            finally:
                self._forget(server)
                connection.end(ProviderFailure(Kind.CRASHED, "Codex was stopped.", evidence="codex.stopped"))
                nursery.cancel_scope.cancel()

    async def _feel_pulse(self, server: AppServer) -> None:
        """Finds a server that has frozen before a prompt does, and has it replaced. It is asked what it does not know: a refusal,
        too, is a sign of life."""
        while not server.retired:
            await trio.sleep(PULSE_S)
            if server.busy:
                continue  # its turns have deadlines of their own
            try:
                await server.connection.request("llmux/pulse", {}).result()
            except ProviderFailure as failure:
                server.failed(failure)
        if self._place.settings.warm > 0:
            self._wanted.set()

    def _thread(self) -> dict[str, Any]:
        settings = self._place.settings
        return thread_of(home.slugs(settings)[0], home.paths(self._place)[1])

    def _released(self, server: AppServer) -> None:
        """A turn is over: time to look whether its server should be replaced."""
        if server is self._current and server.usable and server.worn(self._place.limits):
            self._wanted.set()

    def _forget(self, server: AppServer) -> None:
        self._servers.discard(server)
        if self._current is server:
            self._current = None

    def _ended(self, server: AppServer) -> ProviderFailure | None:
        if server.answered:
            self._failures = 0
        if server.retired:
            self._recycled += 1
            return None
        self._lost += 1
        self._failure = server.connection.failure
        self._rest()
        self._wanted.set()
        return self._failure

    def _rest(self) -> None:
        """Notes a failed start or a death; the second in a row and those after it are followed by a pause."""
        self._failures += 1
        if self._failures > 1:
            pause_ms = min(REST_MS * 2 ** min(self._failures - 2, 16), REST_MS_MAX)
            self._rest_until = trio.current_time() + pause_ms / 1000

    def _answer(self, method: str, params: Any) -> Any:
        """The only thing Codex may ask for: a fresh look at a lent login, after its token was refused."""
        if method != "account/chatgptAuthTokens/refresh":
            raise LookupError(method)
        try:
            return login.read(self._place).tokens()
        except ProviderFailure:
            raise LookupError(method) from None
