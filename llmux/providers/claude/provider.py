"""The adapter of Claude Code: one process per answer, taken from those that wait warm."""

import math
from contextlib import suppress

import msgspec
import trio

from llmux.config import MODEL_NAME
from llmux.failures import Kind, ProviderFailure
from llmux.providers.adapter import (
    Call,
    Emit,
    Place,
    QuotaWindow,
    Readiness,
    Report,
    WorkerStatistics,
    refuse_embedding,
)
from llmux.providers.claude import login, signs, usage
from llmux.providers.claude.conversation import Conversation
from llmux.providers.claude.frames import Frames, frames_of
from llmux.providers.claude.pool import Pool

SETTINGS_S_MAX = 5.0
"""how long a process that waited may take to accept settings; after that a new one is asked instead (it takes about 10 ms)"""
UNKNOWN_USAGE_TURNS = 6
"""a login that does not tell what it has used is asked so many times more rarely"""

FLAGS = (
    *("-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"),
    *("--include-partial-messages", "--tools", "", "--strict-mcp-config", "--setting-sources", ""),
    *("--settings", '{"permissions":{"deny":["Read(//**)"]}}'),
    *("--disable-slash-commands", "--no-session-persistence", "--model"),
)
"""Pure chat: no tools, settings, commands, memory or files. A model of the configuration follows; nothing of a prompt does."""


class ClaudeAdapter:
    """Claude Code with one login. Implements `llmux.providers.adapter.Adapter`."""

    def __init__(self, place: Place):
        self._place = place
        self._models = {place.settings.upstream.get(model, model) for model in place.settings.models}
        self._probe = login.Probe(place)
        self._pool = Pool(place, self._command)
        self._ready = trio.Event()
        self._windows: tuple[QuotaWindow, ...] = ()

    def __repr__(self) -> str:
        now = self.statistics()
        name = f"{self._place.name}/{self._place.account.name}"
        return f"<ClaudeAdapter {name} {now.busy} busy, {now.idle} idle, {now.started} started>"

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Makes the directories and keeps the pool. Nothing waits in it before the first probe."""
        with suppress(ProviderFailure):  # every probe tries again, and says what is wrong
            login.prepare(self._place)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._pool.serve)
            nursery.start_soon(self._look_at_usage)
            task_status.started()

    async def probe(self) -> Readiness:
        readiness = await self._probe.look()
        self._pool.allow(readiness.ready)
        self._ready.set() if readiness.ready else None
        windows, self._windows = self._windows, ()
        return msgspec.structs.replace(readiness, windows=windows)

    async def _look_at_usage(self) -> None:
        """Asks now and then what the subscription has used elsewhere; the next probe tells it."""
        settings = self._place.settings
        if not settings.models or not usage.can_be_asked(self._place):
            return
        model = settings.default_model or settings.models[0]
        while True:
            await self._ready.wait()
            self._ready = trio.Event()
            try:
                self._windows = await usage.windows(self._place, self._command(settings.upstream.get(model, model)))
            except ProviderFailure:  # it is no longer there; the next probe says so
                continue
            turns = 1 if self._windows else UNKNOWN_USAGE_TURNS
            await trio.sleep(turns * self._place.limits.usage_interval_ms / 1000)

    def accepts(self, model: str) -> bool:
        return False

    def statistics(self) -> WorkerStatistics:
        return self._pool.statistics()

    async def answer(self, call: Call, emit: Emit, report: Report) -> None:
        """Answers with a process of its own, which is gone when this returns or raises.

        One that waited and does not react any more, or is no longer there, is replaced by a new one, once: nothing was asked yet.
        """
        refuse_embedding(call.prompt)
        frames = frames_of(call.prompt)
        self._command(call.upstream_model)
        if not await self._answered(call, frames, emit, report, fresh=False):
            await self._answered(call, frames, emit, report, fresh=True)

    async def _answered(self, call: Call, frames: Frames, emit: Emit, report: Report, *, fresh: bool) -> bool:
        """False when the process had waited and was not fit to be asked. Raises ProviderFailure."""
        async with self._pool.lent(call.upstream_model, fresh=fresh) as worker:
            waited = worker.ready
            conversation = Conversation(
                worker.process,
                call,
                frames,
                limits=self._place.limits,
                api_timeout_ms=login.api_timeout_ms(login.environment(self._place)),
                report=report,
                begun=worker.awake,
                settings_s_max=SETTINGS_S_MAX if waited else math.inf,
            )
            try:
                await conversation.carry(emit)
            except ProviderFailure as failure:
                worker.lost = failure.kind is Kind.CRASHED
                if waited and worker.lost and not conversation.asked:
                    return False
                raise
            return True

    def _command(self, model: str) -> list[str]:
        """The argument vector. Only models of the configuration get into it."""
        if model not in self._models or not MODEL_NAME.fullmatch(model):
            raise signs.failure("model")
        found = login.program(self._place)
        if found is None:
            raise ProviderFailure(
                Kind.UNAVAILABLE, f"Claude Code is not installed. {login.INSTALL}", evidence="claude.not_installed"
            )
        return [str(found), *FLAGS, model]
