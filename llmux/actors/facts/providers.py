"""What is known of every provider's accounts: login, eligibility, and what they have done so far."""

from typing import Any, Literal

import msgspec
from pyrsistent import PMap

from llmux.actors.facts.fold import Draft, Handler, change, of_map
from llmux.events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    LoginExpired,
    LoginRestored,
    ProviderIneligible,
    Recorded,
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
    last_failure_at: int | None = None
    workers_lost: int = 0


Providers = PMap[str, ProviderFacts]


def account_key(provider: str, account: str) -> str:
    """The key of these facts in the map."""
    return f"{provider}/{account}"


def _own(draft: Draft[ProviderFacts], fact: Any) -> ProviderFacts:
    key = account_key(fact.provider, fact.account)
    return draft.own(key) or draft.put(key, ProviderFacts(fact.provider, fact.account))


def _refused(why: str) -> Handler:
    def refused(draft: Draft[ProviderFacts], event: Recorded, fact: LoginExpired | ProviderIneligible) -> None:
        own = _own(draft, fact)
        change(own, "refused", why)
        change(own, "refused_evidence", fact.evidence)
        change(own, "refused_login", fact.login)
        change(own, "refused_at", event.recorded_at)

    return refused


def _restored(draft: Draft[ProviderFacts], event: Recorded, fact: LoginRestored) -> None:
    own = _own(draft, fact)
    for field in ("refused", "refused_evidence", "refused_login"):
        change(own, field, "")
    change(own, "refused_at", None)


def _started(draft: Draft[ProviderFacts], event: Recorded, fact: AttemptStarted) -> None:
    own = _own(draft, fact)
    change(own, "attempts", own.attempts + 1)


def _succeeded(draft: Draft[ProviderFacts], event: Recorded, fact: AttemptSucceeded) -> None:
    own = _own(draft, fact)
    change(own, "answers", own.answers + 1)
    change(own, "answers_ms", own.answers_ms + fact.duration_ms)


def _failed(draft: Draft[ProviderFacts], event: Recorded, fact: AttemptFailed) -> None:
    own = _own(draft, fact)
    change(own, "failures", own.failures + 1)
    change(own, "last_failure", fact.kind)
    change(own, "last_failure_at", event.recorded_at)


def _lost(draft: Draft[ProviderFacts], event: Recorded, fact: WorkerLost) -> None:
    own = _own(draft, fact)
    change(own, "workers_lost", own.workers_lost + 1)


PROVIDERS = of_map(
    ProviderFacts,
    {
        "LoginExpired": _refused("logged_out"),
        "ProviderIneligible": _refused("ineligible"),
        "LoginRestored": _restored,
        "AttemptStarted": _started,
        "AttemptSucceeded": _succeeded,
        "AttemptFailed": _failed,
        "WorkerLost": _lost,
    },
)
