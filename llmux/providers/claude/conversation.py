"""One conversation with one Claude Code process: settings, past turns, the last user message, the answer. Then it is used up.

The process is read as fast as it writes, whatever the reader of the chunks does: only so can it be killed before it asks the
vendor a second, billed time.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from signal import SIGKILL
from typing import Any

import msgspec
import trio

from llmux.config import Limits
from llmux.failures import ProviderFailure
from llmux.prompts import Chunk
from llmux.providers import process
from llmux.providers.adapter import Call, Emit, Report, refuse_if_strict
from llmux.providers.claude import signs
from llmux.providers.claude.frames import Frames, awaits_result
from llmux.providers.claude.reading import Reading, Step
from llmux.providers.claude.wire import encode, next_line

QUOTA_WAIT_MS_MAX = 250
"""How long the process may take to tell the state of the quota once the answer is complete (it takes about 3 ms)."""
INTERRUPT_MS_MAX = 40
"""how long the process may take to hang up at the vendor when nobody wants the answer any more (it takes about 7 ms)"""
INTERRUPT = {"type": "control_request", "request_id": "interrupt", "request": {"subtype": "interrupt"}}
CHUNK_BYTES = 64
"""what a chunk occupies beside its text: it counts, for an answer may come letter by letter to a reader that takes none"""


class Conversation:
    """Carries one prompt to a process that nobody has told anything, and its answer to `emit`.

    `begun` is called when the process answers for the first time; `asked` becomes true when it is told what to answer (before
    that, another process can be asked instead). `settings_s_max` bounds how long it may take to accept the settings.
    `api_timeout_ms` is the time that the CLI itself gives the vendor for the first byte: it tells a time limit from a refused
    connection.
    """

    def __init__(
        self,
        worker: process.Process,
        call: Call,
        frames: Frames,
        *,
        limits: Limits,
        api_timeout_ms: int,
        report: Report,
        begun: Callable[[], None],
        settings_s_max: float = math.inf,
    ):
        self._worker, self._call, self._frames, self._report = worker, call, frames, report
        self._begun, self._settings_s_max = begun, settings_s_max
        self._bytes_left, self._api_timeout_ms = limits.answer_bytes_max, api_timeout_ms
        self._asked_at = math.inf
        self._raised: Exception | None = None
        self.asked = False

    async def carry(self, emit: Emit) -> None:
        """Runs to the end. Raises ProviderFailure, or whatever `emit` raises."""
        raised: BaseException | None = None
        out, chunks = trio.open_memory_channel[Chunk](math.inf)  # bounded by answer_bytes_max
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._talk, out)
            try:
                async for chunk in chunks:
                    await emit(chunk)
            except BaseException as error:  # raised again below, outside the nursery that would wrap it in a group
                raised = error
                nursery.cancel_scope.cancel()
        raised = raised or self._raised
        if raised is not None:
            raise raised

    async def _talk(self, out: trio.MemorySendChannel[Chunk]) -> None:
        with out:
            try:
                reading = await self._set_up_in_time()
                await self._tell(reading)
                await self._listen(reading, out)
            except Exception as error:
                self._kill()  # an empty answer, too, would be asked for again
                self._raised = signs.failure("too_long") if isinstance(error, process.LineTooLong) else error
            except trio.Cancelled:
                await self._hang_up()
                self._kill()
                raise

    # --- asking ----------------------------------------------------------------------------------------------------

    async def _set_up_in_time(self) -> Reading:
        with trio.move_on_after(self._settings_s_max):
            return await self._set_up()
        raise signs.failure("mute")

    async def _set_up(self) -> Reading:
        """Sends the settings and waits until all of them are answered."""
        for control in self._frames.controls:
            await self._worker.send(encode(control))
        waiting = {control["request_id"] for control in self._frames.controls}
        models: Iterable[Any] = ()
        while waiting:
            line = await next_line(self._worker)
            self._begun()
            response = line.get("response")
            if line.get("type") != "control_response" or not isinstance(response, dict):
                continue
            if response.get("request_id") not in waiting:  # what was asked to see whether it lives
                continue
            if response.get("subtype") != "success":
                raise signs.failure("control")
            waiting.discard(response.get("request_id"))
            content = response.get("response")
            if isinstance(content, dict) and isinstance(content.get("models"), list):
                models = content["models"]
        ignored = self._frames.ignored
        if "reasoning_effort" not in ignored and not self._takes_effort(models):
            ignored += ("reasoning_effort",)
        refuse_if_strict(self._call.prompt, ignored)
        return Reading(structured=self._frames.structured, model=self._call.model, ignored=ignored)

    def _takes_effort(self, models: Iterable[Any]) -> bool:
        """Whether the effort that is asked for goes up. The CLI drops it for models that it lists without that level."""
        if not self._frames.effort:
            return True
        for model in models:
            if isinstance(model, dict) and self._call.upstream_model in (
                model.get("value"),
                model.get("resolvedModel"),
            ):
                return self._frames.effort in (model.get("supportedEffortLevels") or ())
        return True

    async def _tell(self, reading: Reading) -> None:
        """Sends the turns. Each past user line is answered by a result before the next turn may follow."""
        for turn in self._frames.turns:
            self.asked = turn is self._frames.turns[-1]
            await self._worker.send(encode(turn))
            while awaits_result(turn):
                line = await next_line(self._worker)
                if line.get("type") == "result" and not line.get("is_error"):
                    break
                reading.take(line, waited=False)
        self._asked_at = trio.current_time()

    # --- the answer ------------------------------------------------------------------------------------------------

    async def _listen(self, reading: Reading, out: trio.MemorySendChannel[Chunk]) -> None:
        while True:
            line = await next_line(self._worker)
            step = reading.take(line, waited=self._waited())
            self._pass_on(step, out)
            if step.finish is not None:
                break
        if not step.quiet:
            self._kill()
        out.send_nowait(step.finish)
        if step.quiet:
            await self._hear_quota(reading)
            self._kill()

    def _pass_on(self, step: Step, out: trio.MemorySendChannel[Chunk]) -> None:
        for window in step.windows:
            self._report(window)
        for chunk in step.chunks:
            self._bytes_left -= CHUNK_BYTES + len(msgspec.json.encode(chunk))
            if self._bytes_left < 0:
                raise signs.failure("too_long")
            out.send_nowait(chunk)

    def _waited(self) -> bool:
        return (trio.current_time() - self._asked_at) * 1000 >= self._api_timeout_ms

    async def _hear_quota(self, reading: Reading) -> None:
        """The state of the quota follows a good answer; whether it comes does not matter to the answer."""
        try:
            with trio.move_on_after(QUOTA_WAIT_MS_MAX / 1000):
                while (line := await next_line(self._worker)).get("type") not in ("rate_limit_event", "result"):
                    pass
                if line["type"] == "rate_limit_event":
                    for window in reading.take(line, waited=False).windows:
                        self._report(window)
        except (ProviderFailure, process.LineTooLong):
            return

    async def _hang_up(self) -> None:
        """Lets the process close its connection to the vendor before it is killed. Not cancellable.

        The kernel gives the memory of a killed process back before its connections, which takes 20 to 80 ms on a busy machine.
        """
        if not self.asked or not self._worker.send_now(encode(INTERRUPT)):
            return
        with trio.move_on_after(INTERRUPT_MS_MAX / 1000, shield=True), suppress(ProviderFailure, process.LineTooLong):
            while (await next_line(self._worker)).get("type") not in ("control_response", "result"):
                pass

    def _kill(self) -> None:
        """At once: SIGTERM would leave the CLI the time for another request. Nothing of it is worth keeping now."""
        if self._worker.exit_status is None:
            process.signal_group(self._worker.pid, SIGKILL)
