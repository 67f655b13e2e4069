"""Facts about the logins and programs of providers."""

from llmux.events.event import Event

# --- streams `provider-…` ------------------------------------------------------------------------------------------


class LoginExpired(Event, frozen=True, kw_only=True):
    """The provider refused the login of this account. It is left out until the login is renewed, or for a while.

    `login` is a short hash of what the stored login looked like, to notice a new one.
    """

    provider: str
    account: str
    evidence: str
    login: str = ""


class LoginRestored(Event, frozen=True, kw_only=True):
    """The account may be asked again: it has a "new_login", it is time for "another_try", or somebody said so ("by_hand")."""

    provider: str
    account: str
    because: str = "new_login"


class ProviderIneligible(Event, frozen=True, kw_only=True):
    """The account may not use this provider. It is left out until its login changes (`login`: as in LoginExpired)."""

    provider: str
    account: str
    evidence: str
    login: str = ""


class WorkerLost(Event, frozen=True, kw_only=True):
    """A warm worker ended on its own. `exit_status` is the process's, or None for a connection."""

    provider: str
    account: str
    exit_status: int | None = None
