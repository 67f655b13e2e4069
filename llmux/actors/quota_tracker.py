"""Decides who rests: turns failures and quota reports into facts, and lets one probe through when a rest is over."""

import msgspec

from llmux.actors.actor import Actor, Message
from llmux.actors.facts import Facts
from llmux.actors.facts.quotas import ACCOUNT_WIDE, Window, quota_key
from llmux.actors.journal import Journal
from llmux.clock import Clock
from llmux.config import Limits, ProviderSettings, Settings
from llmux.events import (
    NewEvent,
    ProviderCooled,
    ProviderRestored,
    QuotaExhausted,
    QuotaReported,
    QuotaReset,
)
from llmux.failures import POLICIES, Kind, ProviderFailure

_PER_MODEL = frozenset({"gemini", "ollama", "scripted"})
"""kinds of provider whose quotas count per model; the others count per account"""
_REST_MS_MIN = 1_000


class NoteFailure(Message[None], frozen=True):
    """A route failed for good. Where its kind cools, the route rests from now on."""

    provider: str
    account: str
    model: str
    kind: Kind
    evidence: str
    resets_at: int | None = None
    retry_after_ms: int | None = None
    model_only: bool = False


class NoteAnswer(Message[None], frozen=True):
    """A route answered an attempt of `began_at` (wall time in ms): a rest that had begun before is over.

    An answer that was under way when the rest began says nothing of it.
    """

    provider: str
    account: str
    model: str
    began_at: int


class NoteWindow(Message[None], frozen=True):
    """A provider said something about one of its quota windows."""

    provider: str
    account: str
    model: str
    window: str
    status: str
    used_percent: int | None = None
    resets_at: int | None = None


class ResetQuota(Message[None], frozen=True):
    """Declare the rests of one provider ("" = of all) over."""

    provider: str
    principal: str


Note = NoteFailure | NoteAnswer | NoteWindow | ResetQuota


class QuotaTracker(Actor):
    """The one that lets routes rest. Its runtime is the set of half-open probes under way."""

    def __init__(self, journal: Journal, settings: Settings, clock: Clock):
        super().__init__(
            "quota_tracker", mailbox_max=settings.limits.mailbox_max, ask_ms_max=settings.limits.append_ms_max
        )
        self._journal = journal
        self._settings = settings
        self._clock = clock
        self._probing: set[str] = set()

    @property
    def probing(self) -> frozenset[str]:
        """The keys (`provider/account/model` or `…/*`) of the rests after which one attempt is trying."""
        return frozenset(self._probing)

    def claim_probe(self, key: str) -> bool:
        """Whether the caller may try what rested under `key` (of `rest_of`): one at a time. `release_probe` gives it back."""
        if key in self._probing:
            return False
        self._probing.add(key)
        return True

    def release_probe(self, key: str) -> None:
        """Gives a claimed probe back, however it ended."""
        self._probing.discard(key)

    async def handle(self, message: Note) -> None:
        facts = decide(self._journal.facts, message, self._settings, self._clock.now())
        if facts:
            principal = message.principal if isinstance(message, ResetQuota) else "gateway"
            await self._journal.append(
                *(NewEvent(f"quota-{fact.provider}", fact, self._clock.new_id(), principal) for fact in facts)
            )


QuotaFact = QuotaReported | QuotaExhausted | ProviderCooled | ProviderRestored | QuotaReset


def decide(facts: Facts, message: Note, settings: Settings, now: int) -> list[QuotaFact]:
    """What follows from `message`, given the facts: pure."""
    match message:
        case NoteFailure():
            return _failed(message, settings.providers[message.provider], settings.limits, now)
        case NoteAnswer(provider, account, model, began_at):
            return [
                ProviderRestored(provider=provider, account=account, model=scope)
                for scope in (model, ACCOUNT_WIDE)
                if (quota := facts.quotas.get(quota_key(provider, account, scope))) is not None
                and quota.rest is not None
                and quota.rest.since <= began_at
            ]
        case NoteWindow():
            return _window(facts, message)
        case ResetQuota(provider):
            names = [provider] if provider else list(settings.providers)
            return [QuotaReset(provider=name) for name in names]


def _failed(message: NoteFailure, provider: ProviderSettings, limits: Limits, now: int) -> list[QuotaFact]:
    rest_ms = rest_ms_of(message, provider, limits, now)
    if rest_ms is None:
        return []
    where = {"provider": message.provider, "account": message.account, "model": scope_of(message, provider.kind)}
    if message.kind is Kind.QUOTA_EXHAUSTED:
        exhausted = QuotaExhausted(**where, evidence=message.evidence, until=now + rest_ms, resets_at=message.resets_at)
        return [exhausted]
    return [ProviderCooled(**where, kind=message.kind.value, evidence=message.evidence, until=now + rest_ms)]


def rest_ms_of(
    failure: NoteFailure | ProviderFailure, provider: ProviderSettings, limits: Limits, now: int
) -> int | None:
    """How long a route rests after a failure: as long as it was told, within limits; None when its kind does not cool."""
    cools_ms = POLICIES[failure.kind].cools_ms
    if cools_ms == 0:
        return None
    if cools_ms < 0:
        cools_ms = provider.cooldown_ms
    told = failure.resets_at - now if failure.resets_at is not None else failure.retry_after_ms
    return min(max(told if told is not None else cools_ms, _REST_MS_MIN), limits.cooldown_ms_max)


def scope_of(message: NoteFailure, provider_kind: str) -> str:
    """Which model rests: "*" where the trouble concerns the whole account."""
    if message.model_only:
        return message.model
    if message.kind is Kind.UNAVAILABLE:
        return ACCOUNT_WIDE
    if message.kind in (Kind.QUOTA_EXHAUSTED, Kind.RATE_LIMITED) and provider_kind not in _PER_MODEL:
        return ACCOUNT_WIDE
    return message.model


def _window(facts: Facts, message: NoteWindow) -> list[QuotaFact]:
    quota = facts.quotas.get(quota_key(message.provider, message.account, message.model))
    known: Window | None = quota.windows.get(message.window) if quota is not None else None
    if known is not None and message.used_percent is None and message.resets_at == known.resets_at:
        message = msgspec.structs.replace(message, used_percent=known.used_percent)  # not every answer tells the share
    if known is not None and (known.status, known.used_percent, known.resets_at) == (
        message.status,
        message.used_percent,
        message.resets_at,
    ):
        return []
    return [QuotaReported(**msgspec.structs.asdict(message))]
