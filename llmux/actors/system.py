"""The house: opens the log and all actors in order, answers wishes, and closes everything in reverse."""

from collections.abc import Callable, Mapping
from functools import partial

import msgspec
import structlog
import trio

from llmux import __version__, events
from llmux.actors.archiver import Archiver, nightly
from llmux.actors.budget import Budget
from llmux.actors.cache import Cache
from llmux.actors.catalogue import NOBODY, named
from llmux.actors.content import ContentKeeper, require_retention
from llmux.actors.crew import Crew
from llmux.actors.deep_check import DeepCheck
from llmux.actors.dispatch import Dispatch
from llmux.actors.facts import Facts
from llmux.actors.facts.providers import account_key
from llmux.actors.fingerprints import Fingerprints
from llmux.actors.health import Health, health_of, workers_by_state
from llmux.actors.history import History
from llmux.actors.idempotency import IdempotencyKeys
from llmux.actors.journal import Journal
from llmux.actors.kept_responses import KeptResponses
from llmux.actors.key_registry import KeyRegistry, KeyRing
from llmux.actors.ladder import Ladder
from llmux.actors.limiter import Limiter
from llmux.actors.messages import Principal, Wish
from llmux.actors.provider import Provider
from llmux.actors.quota_tracker import QuotaTracker
from llmux.actors.request import Request
from llmux.actors.resumables import Resumables
from llmux.actors.revocation import Revocation
from llmux.actors.router import Standing, World
from llmux.actors.shared_answers import SharedAnswers
from llmux.actors.snapshots import STREAM, take
from llmux.actors.snapshotting import Snapshots
from llmux.actors.supervisor import Supervisor
from llmux.actors.upkeep import Upkeep
from llmux.actors.witness import WitnessKeeper
from llmux.clock import Clock
from llmux.config import Account, Settings
from llmux.events import NewEvent
from llmux.eventstore import Keys
from llmux.failures import LLMuxError, ShuttingDown
from llmux.metrics import Metrics
from llmux.providers.adapter import Adapter, Listed, Place
from llmux.providers.registry import adapter_for

log = structlog.get_logger()


class ModelEntry(msgspec.Struct, frozen=True):
    """A model that can be asked for by name."""

    id: str
    provider: str
    default: bool
    weight: int
    listed: Listed | None = None
    """what the provider says of it, where it says anything"""


class System:
    """The running gateway, without its HTTP door. Made by `open_system`."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        journal: Journal,
        metrics: Metrics,
        fingerprints: Fingerprints,
        environ: Mapping[str, str],
        shared: SharedAnswers | None = None,
    ):
        self.settings = settings
        self.clock = clock
        self.metrics = metrics
        self.closing = False
        """the stop has begun: no new work is taken on"""
        self.journal = journal
        self.history = History(journal)
        self.supervisor = Supervisor(journal, clock, settings.limits)
        self.key_registry = KeyRegistry(journal, settings, clock)
        self.tracker = QuotaTracker(journal, settings, clock)
        self.cache = Cache(journal, settings, clock, shared)
        self.responses = KeptResponses(settings.limits, clock)
        require_retention(settings, self.facts.keys)
        self.content = ContentKeeper(journal, settings, clock, metrics)
        journal.watch(self.content.observe)
        self.limiter = Limiter(journal, settings, clock)
        self.revocation = Revocation(journal, settings, clock)
        self.witness = WitnessKeeper(journal, settings.witness)
        self.budget = Budget(journal, settings.log_bytes_max)
        self.archiver = Archiver(journal, settings, clock)
        self.snapshots = Snapshots(journal, settings, clock)
        self.upkeep = Upkeep((self.witness.job, self.budget.job, self.snapshots.job, self.responses.job))
        if settings.archive_after_days is not None:
            self.upkeep.add(nightly(self.archiver, settings.archive_after_days))
        self.providers = {
            name: self._provider(name, dict(environ)) for name, each in settings.providers.items() if each.enabled
        }
        crew = partial(Crew, settings, clock, journal, self.tracker, self.cache, self.providers)
        self.idempotency = IdempotencyKeys(journal, self.cache, fingerprints, settings.limits, clock)
        self.dispatch = Dispatch(
            crew, self.world, fingerprints, self.content, self.limiter, self.revocation, self.idempotency
        )
        self.resumables = Resumables(settings.limits)
        self.deep_check = DeepCheck(self.request, self.providers, settings.limits, clock)
        self._began = clock.monotonic()
        metrics.read(
            active=lambda: self.active_requests,
            uptime_s=lambda: self.uptime_ms / 1000,
            position=lambda: self.facts.position,
        )
        metrics.read_log(
            used_bytes=lambda: self.budget.size().bytes,
            bytes_max=lambda: self.budget.size().bytes_max,
            witnessed=lambda: self.witness.last.position if self.witness.last else 0,
        )
        metrics.read_workers(lambda: workers_by_state(self))

    def __repr__(self) -> str:
        state = "closing" if self.closing else "open"
        return f"<System {state} position={self.facts.position} flights={self.dispatch.flights}>"

    # --- what others read -------------------------------------------------------------------------------------------

    @property
    def facts(self) -> Facts:
        """Everything that follows from the log as of now."""
        return self.journal.facts

    @property
    def keys(self) -> KeyRing:
        """Tells whose credential one is."""
        return KeyRing(self.facts.keys, self.settings, self.clock.now())

    @property
    def active_requests(self) -> int:
        return len(self.facts.requests.open)

    @property
    def uptime_ms(self) -> int:
        return int((self.clock.monotonic() - self._began) * 1000)

    def health(self) -> Health:
        """How everything is, for people and probes."""
        return health_of(self)

    def models(self, principal: Principal = NOBODY) -> tuple[ModelEntry, ...]:
        """Every model that this principal can ask for by name, the configured ones first."""
        allowed = self.limiter.allowance(principal)
        entries: dict[tuple[str, str], ModelEntry] = {}
        for name, provider in self.settings.providers.items():
            if not provider.enabled:
                continue
            names = [model for account in provider.accounts for model in self.standing(name, account.name).models]
            actor = self.providers[name]
            listed = {each.name: each for acc in provider.accounts for each in actor.readiness(acc.name).listed}
            for model in (provider.default_model, *provider.models, *names):
                if model and allowed.covers(name, model):
                    said = listed.get(model) or listed.get(f"{model}:latest")
                    entry = ModelEntry(model, name, model == provider.default_model, provider.weight, said)
                    entries.setdefault((name, model), entry)
        return tuple(entries.values())

    def destination(self, model: str) -> ModelEntry:
        """The model that a request for `model` would come to, whether or not it could be reached now.

        Where LLMux chooses, it is the default one of the default provider. Raises ModelUnknown.
        """
        found = named(model, self.world())
        provider = found.provider or self.settings.default_provider
        return self._entry(provider, found.model or self.settings.providers[provider].default_model)

    def running(self) -> tuple[ModelEntry, ...]:
        """The models that are answering now."""
        return tuple(self._entry(*names) for names in self.dispatch.running())

    def _entry(self, provider: str, model: str) -> ModelEntry:
        same = (entry for entry in self.models() if entry.provider == provider)
        known = next((entry for entry in same if model in (entry.id, entry.id.removesuffix(":latest"))), None)
        return known or ModelEntry(model, provider, default=False, weight=self.settings.providers[provider].weight)

    def standing(self, provider: str, account: str) -> Standing:
        """What the running actor of this account knows beside the facts."""
        actor = self.providers[provider]
        if provider in self.supervisor.degraded:
            return msgspec.structs.replace(actor.standing(account), given_up=True)
        return actor.standing(account)

    # --- wishes -----------------------------------------------------------------------------------------------------

    def request(self, wish: Wish) -> Request:
        """Takes a wish on: answers it from the cache, joins an equal one under way, or starts a flight.

        Raises ClientFailure (ModelUnknown, ModelNotAllowed, ProviderUnknown, KeyClosed, LimitReached, AnswerUnavailable), NoRoute,
        Overloaded, StoreFull or ShuttingDown. Returns at once; what goes wrong later is raised by the request.
        """
        if self.closing or not self.dispatch.open:
            raise ShuttingDown("The gateway is stopping.")
        self.revocation.check(wish.principal)
        self.budget.check()
        return self.dispatch.take(wish)

    def world(self, principal: Principal = NOBODY) -> World:
        """All that routing looks at, as of now, for a wish of this principal."""
        standings = {
            account_key(name, account.name): self.standing(name, account.name)
            for name, provider in self.settings.providers.items()
            if provider.enabled
            for account in provider.accounts
        }
        return World(
            self.settings,
            self.facts,
            standings,
            self.tracker.probing,
            self._accepts,
            self.clock.now(),
            self.limiter.allowance(principal),
        )

    def _accepts(self, provider: str, model: str) -> bool:
        return self.providers[provider].accepts(model)

    # --- its life ---------------------------------------------------------------------------------------------------

    async def start(self, ladder: Ladder) -> None:
        """Starts everything in order; what a crash left open is closed before anything new begins."""
        await ladder.start(self.journal.run)
        chain = Keys(self.settings.chain_keys).name
        started = events.GatewayStarted(version=__version__, routing=self.settings.routing(), chain=chain)
        abandoned = [
            NewEvent(
                f"request-{id}",
                events.RequestAbandoned(flight=request.flight),
                self.clock.new_id(),
                request.principal,  # like every event of the request: it is one of theirs that came to nothing
                id,
            )
            for id, request in sorted(self.facts.requests.open.items())
        ]
        await self.journal.append(NewEvent("gateway", started, self.clock.new_id()), *abandoned)
        await ladder.start(self.upkeep.run)
        if self.cache.shared is not None:
            await ladder.start(self.cache.shared.run)
        for actor in (self.content, self.key_registry, self.tracker, self.cache, self.archiver):
            await ladder.start(self.supervisor.watch, actor)
        await ladder.start(self.revocation.run)
        await ladder.start(self._run_providers)
        await ladder.start(self.idempotency.run)
        await ladder.start(self.dispatch.run)
        await ladder.start(self.resumables.run)
        await ladder.start(self.deep_check.run)

    async def stop(self, ladder: Ladder) -> None:
        """Stops what is under way, then everything else in reverse; the last event is GatewayStopped."""
        self.closing = True
        self.dispatch.stop()
        await ladder.stop(down_to=1)
        others = (self.archiver, self.cache, self.tracker, self.key_registry, self.content)
        for actor in (*self.providers.values(), *others):
            actor.leave(ShuttingDown("The gateway is stopping."))
        await self._record_the_stop()
        await self.witness.job.do()
        await ladder.stop()
        self.journal.leave(ShuttingDown("The gateway is stopping."))

    async def _record_the_stop(self) -> None:
        """A snapshot, and GatewayStopped. Neither is worth a crash: the next start folds, and closes what is open."""
        stopped = NewEvent("gateway", events.GatewayStopped(reason="stop"), self.clock.new_id())
        try:
            taken = [NewEvent(STREAM, await take(self.facts, self.settings.data_dir), self.clock.new_id())]
        except OSError as error:
            log.warning("no snapshot was written", error=error.strerror)
            taken = []
        try:
            await self.journal.append(*taken, stopped)
        except LLMuxError as failure:
            log.error("the stop could not be recorded", code=failure.code)

    async def _run_providers(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            async with (
                trio.open_nursery() as starting
            ):  # side by side: each looks whether it is installed and logged in
                for provider in self.providers.values():
                    starting.start_soon(nursery.start, partial(self.supervisor.watch, provider))
            task_status.started()

    def _provider(self, name: str, environ: dict[str, str]) -> Provider:
        settings, limits = self.settings.providers[name], self.settings.limits

        def adapter(account: Account) -> Callable[[], Adapter]:
            directory = self.settings.data_dir / "providers" / name / account.name
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return partial(adapter_for, Place(name, settings, account, limits, directory, environ, self.clock))

        adapters = {account.name: adapter(account) for account in settings.accounts}
        return Provider(name, settings, limits, adapters, self.journal, self.tracker, self.clock)
