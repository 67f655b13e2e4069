"""The adapter of the Gemini CLI: keeps the contract of `llmux.providers.adapter` with a pool of workers."""

import math

import trio

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Finish, FinishReason, Prompt, ReasoningDelta, TextDelta, Usage, user
from llmux.providers.adapter import (
    Call,
    Emit,
    Place,
    QuotaWindow,
    Readiness,
    Report,
    WorkerStatistics,
    refuse_embedding,
    refuse_if_strict,
)
from llmux.providers.gemini import quota, signs
from llmux.providers.gemini.pool import Pool
from llmux.providers.gemini.program import (
    Login,
    Program,
    find_login,
    find_program,
    login_folder,
    older_than_tested,
    settled_login,
)
from llmux.providers.gemini.settings import carried
from llmux.providers.gemini.translation import Translation, plain_model_config, translate
from llmux.providers.gemini.worker import Stopped, Worker

SILENCE_MARGIN_MS = 2_000
"""how long before the first-byte deadline a silent worker is asked why"""

LOOK_S = 5.0
"""between two looks whether the quota should be looked at"""

UPDATE_BYTES = 64
"""what an update takes beside its text: it counts, so that an answer that comes letter by letter ends, too"""


class GeminiAdapter:
    """One account of the Gemini CLI."""

    def __init__(self, place: Place):
        self._place = place
        self._names = {model: place.settings.upstream.get(model, model) for model in place.settings.models}
        self._quota_known_at = -math.inf
        self._windows: tuple[QuotaWindow, ...] = ()
        models = sorted(set(self._names.values()))
        self._pool = Pool(place, self._argv, tuple(plain_model_config(model) for model in models))

    def __repr__(self) -> str:
        return f"<GeminiAdapter {self._place.name}/{self._place.account.name} {self._pool!r}>"

    def statistics(self) -> WorkerStatistics:
        """The workers now."""
        return self._pool.statistics()

    def accepts(self, model: str) -> bool:
        """No model beyond the configured ones."""
        return False

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps the workers; runs until cancelled, then leaves no process and no file of theirs behind."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._pool.serve)
            nursery.start_soon(self._look_at_usage)
            task_status.started()

    async def _look_at_usage(self) -> None:
        """Lets an idle worker learn now and then what was used elsewhere, unless an answer has told it; the next probe tells it."""
        interval_s, limits = self._place.limits.usage_interval_ms / 1000, self._place.limits
        nothing = translate(Prompt((user("?"),)), next(iter(self._names.values()), "gemini-3-flash-preview"))
        while True:
            due_in_s = self._quota_known_at + interval_s - trio.current_time()
            await trio.sleep(max(min(LOOK_S, interval_s), due_in_s))
            login = find_login(self._place)
            if trio.current_time() < self._quota_known_at + interval_s or not isinstance(login, Login) or login.key:
                continue
            worker = self._pool.borrow()
            if worker is None:
                continue
            self._quota_known_at = trio.current_time()
            try:
                with trio.move_on_after(limits.call_ms_max / 1000):
                    await worker.look(nothing)
                self._windows = self._learned(worker)
            except (ProviderFailure, OSError):  # whatever is wrong, the next answer will say it
                continue
            finally:
                self._pool.give_back(worker)

    def _learned(self, worker: Worker) -> tuple[QuotaWindow, ...]:
        windows = quota.windows(worker.home.quota(), self._names)
        if windows:
            self._quota_known_at = trio.current_time()
        return windows

    async def probe(self) -> Readiness:
        """Looks for the CLI, node and the login on disk; starts nothing."""
        await trio.lowlevel.checkpoint()
        program, login = find_program(self._place), await settled_login(self._place)
        sentence = ""
        if isinstance(program, str):
            sentence = program
        elif isinstance(login, str):
            sentence = login
        elif not login.writable:
            sentence = (
                f"{login_folder(self._place)} is read-only: every worker of the Gemini CLI renews its own copy of the login. "
                "Mount it read-write to renew the login itself."
            )
        elif isinstance(program, Program):
            sentence = older_than_tested(program.version)
        windows, self._windows = self._windows, ()
        return Readiness(
            windows=windows,
            installed=isinstance(program, Program),
            logged_in=isinstance(login, Login),
            version=program.version if isinstance(program, Program) else "",
            sentence=sentence,
            login_stamp=login.stamp if isinstance(login, Login) else "",
        )

    async def answer(self, call: Call, emit: Emit, report: Report) -> None:
        """Answers one prompt. Raises ProviderFailure, and has told `report` about quotas."""
        try:
            await self._answer(call, emit, report)
        except ProviderFailure as failure:
            if failure.kind is Kind.QUOTA_EXHAUSTED:
                spent = QuotaWindow("model", "rejected", call.model, 100, failure.resets_at)
                report(spent)
            raise
        except OSError as error:
            raise signs.unwritable(error) from None

    async def _answer(self, call: Call, emit: Emit, report: Report) -> None:
        refuse_embedding(call.prompt)
        translation = translate(call.prompt, call.upstream_model)
        refuse_if_strict(call.prompt, translation.ignored)
        self._argv()
        login = await settled_login(self._place)
        if not isinstance(login, Login):
            raise signs.logged_out(login)
        finish, windows = await self._converse(translation, call.upstream_model, emit)
        for window in windows:
            report(window)
        refuse_if_strict(
            call.prompt, finish.ignored
        )  # the CLI may have gone on with another model, and dropped all wishes
        await emit(finish)

    async def _converse(
        self, translation: Translation, upstream_model: str, emit: Emit
    ) -> tuple[Finish, tuple[QuotaWindow, ...]]:
        """Borrows a worker for one prompt. Before the actor's first-byte deadline it finds out why a worker is silent."""
        bound_ms = self._place.settings.first_byte_ms_max
        worker: Worker | None = None
        try:
            with trio.move_on_after((bound_ms - min(SILENCE_MARGIN_MS, bound_ms // 3)) / 1000) as first_byte:
                worker = await self._pool.take(translation.model_config if translation.history else "")
                stream = _Stream(emit, first_byte, self._place.limits.answer_bytes_max)
                stopped = await worker.answer(translation, stream.update)
                finish = _finish(translation, upstream_model, stopped, stream.said_anything)
                return finish, self._learned(worker)
            if worker is None:
                raise signs.of_silence(b"", self._place.clock.now())
            raise await worker.silence(self._place.clock.now)
        finally:
            if worker is not None:
                self._pool.give_back(worker)

    def _argv(self) -> tuple[str, ...]:
        program = find_program(self._place)
        if isinstance(program, str):
            raise ProviderFailure(Kind.UNAVAILABLE, program, evidence="gemini.not_installed")
        return program.argv


class _Stream:
    """Passes an answer's updates on as chunks; the first one lifts the first-byte deadline."""

    def __init__(self, emit: Emit, first_byte: trio.CancelScope, bytes_max: int):
        self._emit, self._first_byte, self._bytes_left = emit, first_byte, bytes_max
        self._thought = False
        self.said_anything = False

    async def update(self, kind: str, text: str) -> None:
        """One update of the session. Raises ProviderFailure(GARBLED) when the answer is too long."""
        if kind not in ("agent_message_chunk", "agent_thought_chunk") or not text:
            return
        self._first_byte.deadline = math.inf
        self._bytes_left -= UPDATE_BYTES + len(text.encode("utf-8", "replace"))
        if self._bytes_left < 0:
            raise ProviderFailure(Kind.GARBLED, "The answer is longer than allowed.", evidence="gemini.answer_bound")
        if kind == "agent_message_chunk":
            self.said_anything = True
            await self._emit(TextDelta(text))
        else:  # each is a paragraph "**subject**\ndescription" of its own; the CLI has trimmed it
            await self._emit(ReasoningDelta(("\n\n" if self._thought else "") + text.removeprefix("****\n")))
            self._thought = True


def _finish(translation: Translation, model: str, stopped: Stopped, said_anything: bool) -> Finish:
    """The last chunk of a good answer. Raises ProviderFailure when it is none."""
    failure = signs.of_stop(stopped.reason, said_anything, stopped.input_tokens, stopped.output_tokens)
    if failure is not None:
        raise failure
    recorded, thoughts, cached = stopped.recorded, 0, 0
    if recorded and (recorded.input, recorded.output) == (stopped.input_tokens, stopped.output_tokens):
        thoughts, cached = recorded.thoughts, recorded.cached
    output = stopped.output_tokens + thoughts
    reason: FinishReason = "length" if translation.max_tokens and output >= translation.max_tokens else "stop"
    usage = Usage(stopped.input_tokens, output, cached_input_tokens=cached, reasoning_tokens=thoughts)
    kept = carried(model, stopped.model, loaded=bool(translation.history))
    return Finish(reason, usage, stopped.model, translation.ignored if kept else translation.wished)
