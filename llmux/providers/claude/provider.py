"""The adapter of Claude Code: one process per answer."""

import trio

from llmux.config import MODEL_NAME
from llmux.failures import Kind, ProviderFailure
from llmux.providers import process
from llmux.providers.adapter import Call, Emit, Place, Readiness, Report, WorkerStatistics
from llmux.providers.claude import login, signs
from llmux.providers.claude.conversation import Conversation
from llmux.providers.claude.frames import frames_of

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
        self._conversations: set[Conversation] = set()
        self._started = self._recycled = self._lost = 0

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<ClaudeAdapter {self._place.name}/{self._place.account.name} {now.busy} busy, {now.started} started>"

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Makes the directories. Processes live inside `answer`, so nothing else has to be kept."""
        login.prepare(self._place)
        task_status.started()
        await trio.sleep_forever()

    async def probe(self) -> Readiness:
        return await login.probe(self._place)

    def accepts(self, model: str) -> bool:
        return False

    def statistics(self) -> WorkerStatistics:
        busy = sum(conversation.begun for conversation in self._conversations)
        return WorkerStatistics(
            starting=len(self._conversations) - busy,
            busy=busy,
            started=self._started,
            recycled=self._recycled,
            lost=self._lost,
        )

    async def answer(self, call: Call, emit: Emit, report: Report) -> None:
        """Answers with a process of its own, which is gone when this returns or raises."""
        frames = frames_of(call.prompt)
        argv, env = self._command(call.upstream_model), login.environment(self._place)
        limits, cwd = self._place.limits, login.empty_dir(self._place)
        lost = False
        async with process.running(argv, env=env, cwd=cwd, limits=limits) as worker:
            self._started += 1
            timeout_ms = login.api_timeout_ms(env)
            conversation = Conversation(worker, call, frames, limits=limits, api_timeout_ms=timeout_ms, report=report)
            self._conversations.add(conversation)
            try:
                await conversation.carry(emit)
            except ProviderFailure as failure:
                lost = failure.kind is Kind.CRASHED
                raise
            finally:
                self._conversations.discard(conversation)
                self._lost += lost
                self._recycled += not lost

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
