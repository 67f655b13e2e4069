"""What is known of every provider's accounts: login, eligibility, and what they have done so far."""

from typing import Any, Literal

import msgspec
from pyrsistent import PMap

from llmux.actors.facts.fold import of_map
from llmux.events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    LoginExpired,
    LoginRestored,
    ProviderIneligible,
    RecordedEvent,
    WorkerLost,
)


class ProviderFacts(msgspec.Struct, frozen=True):
    """One account of one provider. `refused` says why the vendor turned its login away ("" = it did not)."""

    provider: str
    account: str
    refused: Literal["", "logged_out", "ineligible"] = ""
    refused_evidence: str = ""
    refused_login: str = ""
    refused_at: int | None = None
    attempts: int = 0
    answers: int = 0
    answers_ms: int = 0
    failures: int = 0
    last_failure: str = ""
    workers_lost: int = 0


Providers = PMap[str, ProviderFacts]


def account_key(provider: str, account: str) -> str:
    """The key of these facts in the map."""
    return f"{provider}/{account}"


def _old(draft: Any, fact: Any) -> ProviderFacts:
    key = account_key(fact.provider, fact.account)
    found: ProviderFacts = draft[key] if key in draft else ProviderFacts(fact.provider, fact.account)
    return found


def _put(draft: Any, facts: ProviderFacts, **changes: Any) -> None:
    draft[account_key(facts.provider, facts.account)] = msgspec.structs.replace(facts, **changes)


def _expired(draft: Any, event: RecordedEvent, fact: LoginExpired) -> None:
    _put(
        draft,
        _old(draft, fact),
        refused="logged_out",
        refused_evidence=fact.evidence,
        refused_login=fact.login,
        refused_at=event.recorded_at,
    )


def _ineligible(draft: Any, event: RecordedEvent, fact: ProviderIneligible) -> None:
    _put(
        draft,
        _old(draft, fact),
        refused="ineligible",
        refused_evidence=fact.evidence,
        refused_login=fact.login,
        refused_at=event.recorded_at,
    )


def _restored(draft: Any, event: RecordedEvent, fact: LoginRestored) -> None:
    _put(draft, _old(draft, fact), refused="", refused_evidence="", refused_login="", refused_at=None)


def _started(draft: Any, event: RecordedEvent, fact: AttemptStarted) -> None:
    old = _old(draft, fact)
    _put(draft, old, attempts=old.attempts + 1)


def _succeeded(draft: Any, event: RecordedEvent, fact: AttemptSucceeded) -> None:
    old = _old(draft, fact)
    _put(draft, old, answers=old.answers + 1, answers_ms=old.answers_ms + fact.duration_ms)


def _failed(draft: Any, event: RecordedEvent, fact: AttemptFailed) -> None:
    old = _old(draft, fact)
    _put(draft, old, failures=old.failures + 1, last_failure=fact.kind)


def _lost(draft: Any, event: RecordedEvent, fact: WorkerLost) -> None:
    old = _old(draft, fact)
    _put(draft, old, workers_lost=old.workers_lost + 1)


PROVIDERS = of_map(
    {
        "LoginExpired": _expired,
        "ProviderIneligible": _ineligible,
        "LoginRestored": _restored,
        "AttemptStarted": _started,
        "AttemptSucceeded": _succeeded,
        "AttemptFailed": _failed,
        "WorkerLost": _lost,
    }
)
