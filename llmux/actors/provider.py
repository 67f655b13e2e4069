"""One provider: runs its adapters, lends its slots to attempts, and knows who is logged in."""

from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
import trio
from msgspec.structs import replace

from llmux.actors.actor import Actor, Message
from llmux.actors.desk import Desk, ProviderStatistics, Trial
from llmux.actors.facts.providers import account_key
from llmux.actors.journal import Journal
from llmux.actors.quota_tracker import NoteWindow, QuotaTracker, rest_ms_of
from llmux.actors.router import Standing
from llmux.clock import Clock
from llmux.config import Limits, ProviderSettings
from llmux.events import Event, LoginExpired, LoginRestored, NewEvent, ProviderIneligible, WorkerLost, type_of
from llmux.failures import Kind, LLMuxError, ProviderFailure
from llmux.logs import report
from llmux.prompts import Chunk, Finish, Prompt
from llmux.providers.adapter import Adapter, Call, QuotaWindow, Readiness

log = structlog.get_logger()

LATE = "It did not say in time whether it is ready."


class TryPrompt(Message[None], frozen=True):
    """Try this prompt with this account's adapter; the reply says that the trial is taken."""

    trial: Trial
    account: str
    prompt: Prompt
    model: str
    request_id: str
    patient: bool = True
    """wait for a slot as long as the queue allows; otherwise just for a moment, because there are other routes"""


class NoteRefusal(Message[None], frozen=True):
    """The vendor refused the login of this account (LOGGED_OUT), or the account itself (INELIGIBLE)."""

    account: str
    kind: Kind
    evidence: str


class Recheck(Message[None], frozen=True):
    """Somebody says that it is worth another look: probe again, and forget refused logins. The reply does not wait for it."""


class Provider(Actor):
    """The actor of one provider. `adapters` are its accounts' adapters, by account name."""

    def __init__(
        self,
        name: str,
        settings: ProviderSettings,
        limits: Limits,
        adapters: dict[str, Callable[[], Adapter]],
        journal: Journal,
        tracker: QuotaTracker,
        clock: Clock,
    ):
        super().__init__(name, mailbox_max=limits.mailbox_max, ask_ms_max=limits.ask_ms_max)
        self.settings = settings
        self._limits = limits
        self._journal = journal
        self._tracker = tracker
        self._clock = clock
        self._desks = {
            account.name: Desk(name, account, adapters[account.name](), settings.concurrency, limits)
            for account in settings.accounts
        }
        self._nursery: trio.Nursery | None = None
        self._unseen = set(self._desks)
        """accounts whose last look brought nothing in time, or that were not looked at yet"""

    # --- what others read -------------------------------------------------------------------------------------------

    def accepts(self, model: str) -> bool:
        """Whether a model that is not in the configured list may be asked for."""
        return any(desk.adapter.accepts(model) for desk in self._desks.values())

    def standing(self, account: str) -> Standing:
        """What routing needs to know of an account beside the facts."""
        readiness = self._desks[account].readiness
        return Standing(
            readiness.installed,
            readiness.logged_in,
            readiness.sentence,
            self._desks[account].refusal,
            readiness.models,
        )

    def readiness(self, account: str) -> Readiness:
        """What the last probe of this account said."""
        return self._desks[account].readiness

    def slots(self) -> dict[str, ProviderStatistics]:
        """The slots and workers by account."""
        return {name: desk.statistics() for name, desk in self._desks.items()}

    # --- its life ---------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for desk in self._desks.values():
                await nursery.start(desk.adapter.serve)
            await self._probe_all()
            nursery.start_soon(self._look_regularly)
            await super().run(task_status=task_status)

    async def handle(self, message: Any) -> None:
        match message:
            case TryPrompt():
                self._start(message)
            case NoteRefusal():
                await self._refused(message)
            case Recheck():
                assert self._nursery is not None
                self._nursery.start_soon(partial(self._probe_all, by_hand=True))

    async def _look_regularly(self) -> None:
        while True:
            await trio.sleep(self._limits.probe_interval_ms / 1000)
            await self._probe_all()
            for desk in self._desks.values():
                await self._note_losses(desk)

    async def _probe_all(self, *, by_hand: bool = False) -> None:
        async with trio.open_nursery() as nursery:
            for desk in self._desks.values():
                nursery.start_soon(self._probe, desk, by_hand)

    async def _probe(self, desk: Desk, by_hand: bool) -> None:
        """One at a time; who asks by hand gets one that begins after asking, together with all who ask meanwhile."""
        if desk.probing and (desk.asked or not by_hand):
            return
        desk.asked = by_hand
        while desk.probing:
            await desk.probed.wait()
        desk.asked = False
        desk.probing, desk.probed = True, trio.Event()
        try:
            await self._look(desk)
            await self._note_login(desk, by_hand=by_hand)
        finally:
            desk.probing = False
            desk.probed.set()

    async def _look(self, desk: Desk) -> None:
        """A look that comes too late is no news: what was known still stands, but two in a row are believed."""
        try:
            with trio.move_on_after(self._limits.probe_ms_max / 1000) as scope:
                desk.readiness = await desk.adapter.probe()
                for window in desk.readiness.windows:
                    self._report(desk.account.name, window)
            if not scope.cancelled_caught:
                self._unseen.discard(desk.account.name)
            elif desk.account.name in self._unseen:
                desk.readiness = replace(desk.readiness, logged_in=False, sentence=LATE)
            else:
                self._unseen.add(desk.account.name)
        except Exception as error:  # what cannot be looked at is left out; that is no reason to stop
            report(error, "probe failed", provider=self.name)
            sentence = f"It could not be looked at ({type(error).__name__}); the gateway's own log says where."
            desk.readiness = replace(desk.readiness, logged_in=False, sentence=sentence)

    async def _note_login(self, desk: Desk, *, by_hand: bool) -> None:
        """A refused account may be asked again when its login is another one, was left alone for a while, or somebody says so."""
        facts = self._journal.facts.providers.get(account_key(self.name, desk.account.name))
        if facts is None or not facts.refused or not desk.readiness.ready:
            return
        since_ms = self._clock.now() - (facts.refused_at or 0)
        if desk.login != facts.refused_login:
            await self._record(LoginRestored(provider=self.name, account=desk.account.name))
        elif by_hand:
            await self._record(LoginRestored(provider=self.name, account=desk.account.name, because="by_hand"))
        elif facts.refused == "logged_out" and since_ms >= self._limits.refusal_ms:
            await self._record(LoginRestored(provider=self.name, account=desk.account.name, because="another_try"))

    async def _refused(self, message: NoteRefusal) -> None:
        desk = self._desks[message.account]
        facts = self._journal.facts.providers.get(account_key(self.name, message.account))
        if facts is not None and facts.refused == message.kind.value:
            return
        kind = LoginExpired if message.kind is Kind.LOGGED_OUT else ProviderIneligible
        fact = kind(provider=self.name, account=message.account, evidence=message.evidence, login=desk.login)
        await self._record(fact)

    async def _record(self, *facts: Event) -> None:
        stream = f"provider-{self.name}"
        try:
            await self._journal.append(*(NewEvent(stream, fact, self._clock.new_id()) for fact in facts))
        except LLMuxError as failure:  # the next probe, or the next refusal, says it again
            log.warning("not recorded", provider=self.name, facts=[type_of(fact) for fact in facts], code=failure.code)

    async def _note_losses(self, desk: Desk) -> None:
        """Records the workers that ended on their own since the last time."""
        lost, desk.lost = desk.adapter.statistics().lost - desk.lost, desk.adapter.statistics().lost
        if lost > 0:
            await self._record(*[WorkerLost(provider=self.name, account=desk.account.name)] * lost)

    # --- attempts ---------------------------------------------------------------------------------------------------

    def _start(self, message: TryPrompt) -> None:
        """Claims a slot, or a place in the queue for one, and starts the attempt. Raises Overloaded."""
        trial, desk = message.trial, self._desks[message.account]
        if trial.scope.cancel_called:
            return  # nobody waits for it any more
        holds_slot = desk.claim()
        assert self._nursery is not None
        trial.taken = True
        self._nursery.start_soon(self._work, desk, trial, message, holds_slot)

    async def _work(self, desk: Desk, trial: Trial, message: TryPrompt, holds_slot: bool) -> None:
        """Runs one attempt; whatever it ends with stands in the trial, and never leaves this task."""
        try:
            with trial.scope:
                if not holds_slot:
                    await desk.wait_for_slot(patient=message.patient)
                    holds_slot = True
                await self._answer(desk, trial, message)
        except LLMuxError as failure:
            trial.failure = failure
            if isinstance(failure, ProviderFailure):
                self._note_end(desk, failure)
        except Exception as error:
            report(error, "adapter failed", provider=self.name)
            trial.failure = ProviderFailure(
                Kind.CRASHED,
                f"The adapter of {self.name} failed unexpectedly ({type(error).__name__}).",
                evidence="gateway.adapter_bug",
            )
        finally:
            if holds_slot:
                desk.release()
            trial.close()
        await self._note_losses(desk)

    async def _answer(self, desk: Desk, trial: Trial, message: TryPrompt) -> None:
        """The attempt itself, under its deadlines for the first chunk and for silence between chunks."""
        settings = self.settings
        finished = False
        phase = "first_byte"
        watchdog = trio.CancelScope(deadline=trio.current_time() + settings.first_byte_ms_max / 1000)

        async def emit(chunk: Chunk) -> None:
            nonlocal finished, phase
            phase, finished = "idle", isinstance(chunk, Finish)
            watchdog.deadline = float("inf")  # a slow reader is not the provider's silence
            await trial.send(chunk)
            watchdog.deadline = trio.current_time() + settings.idle_ms_max / 1000

        def tell(window: QuotaWindow) -> None:
            self._report(desk.account.name, window)

        upstream = settings.upstream.get(message.model, message.model)
        with watchdog:
            await desk.adapter.answer(Call(message.prompt, message.model, upstream, message.request_id), emit, tell)
        if watchdog.cancelled_caught:
            raise ProviderFailure(
                Kind.TIMED_OUT, f"{self.name} was silent for too long.", evidence=f"gateway.{phase}", phase=phase
            )
        if not finished:
            raise ProviderFailure(Kind.GARBLED, f"The answer of {self.name} has no end.", evidence="gateway.unfinished")

    def _note_end(self, desk: Desk, failure: ProviderFailure) -> None:
        """Who hears of a spent quota is told to wait as long as it will rest, whatever its vendor says."""
        if failure.kind in (Kind.LOGGED_OUT, Kind.INELIGIBLE):
            desk.refusal = str(failure)
        elif failure.kind is Kind.QUOTA_EXHAUSTED:
            failure.retry_after_ms = rest_ms_of(failure, self.settings, self._limits, self._clock.now())

    def _report(self, account: str, window: QuotaWindow) -> None:
        note = NoteWindow(
            self.name,
            account,
            window.model,
            window.window,
            window.status,
            window.used_percent,
            window.resets_at,
        )
        try:
            self._tracker.tell(note)
        except LLMuxError:
            return  # the tracker is swamped or gone; the next answer reports anew
