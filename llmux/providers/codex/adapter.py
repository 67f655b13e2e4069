"""The adapter `codex`: many turns at a time in one persistent app-server, each in a fresh thread of its own."""

import msgspec
import trio

from llmux.failures import ProviderFailure, printable
from llmux.prompts import Chunk
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
from llmux.providers.codex import home, login, program
from llmux.providers.codex.failures import garbled
from llmux.providers.codex.keeper import Keeper
from llmux.providers.codex.request import request_of
from llmux.providers.codex.turn import answer

CHUNK_BYTES = 64
"""what a chunk takes beside its text: it counts, so that an answer that comes letter by letter ends, too"""


class CodexAdapter:
    """Codex with one account. The contract is `llmux.providers.adapter.Adapter`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._keeper = Keeper(place)
        self._version = ("", "")  # of which program file, and what it said

    def __repr__(self) -> str:
        return f"<CodexAdapter {self._place.name}/{self._place.account.name} {self._keeper!r}>"

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await self._keeper.serve(task_status=task_status)

    async def answer(self, call: Call, emit: Emit, report: Report) -> None:
        refuse_embedding(call.prompt)
        _, empty = home.paths(self._place)
        request = request_of(call, empty)
        refuse_if_strict(call.prompt, request.ignored)

        def tell(window: QuotaWindow) -> None:
            self._keeper.quota_was_told()
            report(window)

        await answer(await self._keeper.ready(), request, self._bounded(emit), tell)

    def _bounded(self, emit: Emit) -> Emit:
        """Passes on as much as an answer may have. Raises ProviderFailure(GARBLED) at what is too much."""
        bytes_left = self._place.limits.answer_bytes_max

        async def pass_on(chunk: Chunk) -> None:
            nonlocal bytes_left
            bytes_left -= CHUNK_BYTES + len(msgspec.json.encode(chunk))
            if bytes_left < 0:
                raise garbled("codex.answer_bound", "The answer of Codex is longer than allowed.")
            await emit(chunk)

        return pass_on

    def accepts(self, model: str) -> bool:
        return False  # a model outside the generated catalog would be summarised and cut by Codex

    def statistics(self) -> WorkerStatistics:
        return self._keeper.statistics()

    async def probe(self) -> Readiness:
        place = self._place
        stamp = login.stamp(place)
        version = ""
        with trio.move_on_after(place.limits.probe_ms_max / 1000 * 0.5):
            try:
                version = await self._version_now()
            except ProviderFailure as failure:
                return Readiness(installed=False, logged_in=False, sentence=str(failure), login_stamp=stamp)
        if not version:
            sentence = f"The program '{printable(place.settings.command, 100)}' does not answer to --version."
            return Readiness(installed=False, logged_in=False, sentence=sentence, login_stamp=stamp)
        if sentence := program.too_old(version):
            return Readiness(installed=False, logged_in=False, version=version, sentence=sentence, login_stamp=stamp)
        logged_in, sentence = await self._login_now()
        return Readiness(
            installed=True,
            logged_in=logged_in,
            version=version,
            sentence=sentence,
            login_stamp=stamp,
            windows=await self._quota_now() if logged_in else (),
        )

    async def _quota_now(self) -> tuple[QuotaWindow, ...]:
        with trio.move_on_after(self._place.limits.probe_ms_max / 1000 * 0.4):
            return await self._keeper.quota()
        return ()

    async def _version_now(self) -> str:
        """The version, asked for once per program file."""
        found = program.locate(self._place)
        identity = f"{found}-{found.stat().st_mtime_ns}"
        if self._version[0] != identity:
            self._version = (identity, await program.version(found, self._place))
        return self._version[1]

    async def _login_now(self) -> tuple[bool, str]:
        try:
            known = await login.settled(self._place)
        except ProviderFailure as failure:
            return False, str(failure)
        if not known.lent:
            return True, ""
        where = known.path.parent
        if known.expires_at is not None and known.expires_at <= self._place.clock.now():
            return (
                False,
                f"The access token in {where} has expired, and LLMux may not write there; on the host type: codex",
            )
        return True, (
            f"The login in {where} cannot be written here, so that Codex is only lent its access token: it works until that "
            "token expires and is renewed by the Codex of the host."
        )
