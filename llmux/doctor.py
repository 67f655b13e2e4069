"""Looks at everything a gateway needs, without starting one and without spending a token."""

import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import trio

from llmux.clock import SystemClock
from llmux.config import Account, Settings
from llmux.eventstore import is_owned
from llmux.providers.adapter import Place, Readiness
from llmux.providers.logins import newer_than_tested, stored
from llmux.providers.registry import adapter_for


class Finding(msgspec.Struct, frozen=True):
    """One account of one provider. `sentence` says what to do ("" = it is ready); `notes` what else is worth knowing.

    `login_expires_at` is wall time in ms where the stored login tells it; `login_renews` says that its program renews it then.
    """

    provider: str
    account: str
    weight: int
    installed: bool
    logged_in: bool
    version: str
    sentence: str
    login_expires_at: int | None = None
    login_renews: bool = False
    notes: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """What was found. `running`: a gateway owns the data directory now."""

    data_dir: Path
    running: bool
    providers: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Whether at least one provider can answer."""
        return any(finding.installed and finding.logged_in for finding in self.providers)

    def plain(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        plain: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        return {"ready": self.ready, **plain}


async def examine(settings: Settings) -> Report:
    """Probes every enabled provider side by side."""
    findings: dict[tuple[str, str], Finding] = {}
    with tempfile.TemporaryDirectory(prefix="llmux-doctor-") as scratch:
        async with trio.open_nursery() as nursery:
            for name, provider in settings.providers.items():
                for account in provider.accounts if provider.enabled else ():
                    nursery.start_soon(_probe, settings, name, account, Path(scratch), findings)
    order = [(name, account.name) for name, provider in settings.providers.items() for account in provider.accounts]
    return Report(
        settings.data_dir, is_owned(settings.data_dir), tuple(findings[key] for key in order if key in findings)
    )


async def _probe(
    settings: Settings, name: str, account: Account, scratch: Path, findings: dict[tuple[str, str], Finding]
) -> None:
    provider = settings.providers[name]
    directory = scratch / name / account.name
    directory.mkdir(parents=True)
    place = Place(name, provider, account, settings.limits, directory, dict(os.environ), SystemClock())
    readiness = Readiness(False, False, sentence="It did not say in time whether it is ready.")
    with trio.move_on_after(settings.limits.probe_ms_max / 1000):
        readiness = await adapter_for(place).probe()
    findings[name, account.name] = _finding(place, readiness)


def _finding(place: Place, readiness: Readiness) -> Finding:
    login = stored(place) if readiness.installed else None
    expires_at, renews = (login.expires_at, login.renews) if login else (None, False)
    notes = (newer_than_tested(place.settings.kind, readiness.version),)
    return Finding(
        place.name,
        place.account.name,
        place.settings.weight,
        readiness.installed,
        readiness.logged_in,
        readiness.version,
        readiness.sentence,
        expires_at,
        renews,
        tuple(note for note in notes if note),
    )
