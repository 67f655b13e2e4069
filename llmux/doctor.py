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
from llmux.providers.adapter import Place
from llmux.providers.registry import adapter_for


class Finding(msgspec.Struct, frozen=True):
    """One account of one provider. `sentence` says what to do ("" = it is ready)."""

    provider: str
    account: str
    weight: int
    installed: bool
    logged_in: bool
    version: str
    sentence: str


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
    adapter = adapter_for(Place(name, provider, account, settings.limits, directory, dict(os.environ), SystemClock()))
    readiness = None
    with trio.move_on_after(settings.limits.probe_ms_max / 1000):
        readiness = await adapter.probe()
    if readiness is None:
        sentence = "It did not say in time whether it is ready."
        findings[name, account.name] = Finding(name, account.name, provider.weight, False, False, "", sentence)
        return
    findings[name, account.name] = Finding(
        name,
        account.name,
        provider.weight,
        readiness.installed,
        readiness.logged_in,
        readiness.version,
        readiness.sentence,
    )
