"""Facts about quotas: what providers said of them, and which routes rest."""

from llmux.events.event import Event

# --- streams `quota-PROVIDER` --------------------------------------------------------------------------------------


class QuotaReported(Event, frozen=True, kw_only=True):
    """A provider said how much of a window is used. Recorded only when status, reset or a whole percent changes."""

    provider: str
    account: str
    model: str
    window: str
    status: str
    used_percent: int | None = None
    resets_at: int | None = None


class QuotaExhausted(Event, frozen=True, kw_only=True):
    """A quota is spent. The route rests until `until`; `resets_at` is what the provider said, if it said anything."""

    provider: str
    account: str
    model: str
    evidence: str
    until: int
    resets_at: int | None = None


class ProviderCooled(Event, frozen=True, kw_only=True):
    """A route rests until `until` after a failure of another kind than a spent quota."""

    provider: str
    account: str
    model: str
    kind: str
    evidence: str
    until: int


class ProviderRestored(Event, frozen=True, kw_only=True):
    """A route that rested answered again."""

    provider: str
    account: str
    model: str


class QuotaReset(Event, frozen=True, kw_only=True):
    """Somebody declared the rests of a provider over by hand."""

    provider: str
