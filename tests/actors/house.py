"""A whole house of actors on scripted providers, for tests of what actors do together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmux.actors.messages import Principal, Wish
from llmux.config import Account, Limits, ProviderSettings, Settings
from llmux.events import Event, RecordedEvent
from llmux.prompts import Prompt, user

WEIGHTS = {"alpha": 50, "beta": 30, "gamma": 15, "delta": 5}


def scripted(model: str = "echo", **changes: Any) -> ProviderSettings:
    """A scripted provider whose default model is this script."""
    return ProviderSettings(**{"kind": "scripted", "default_model": model, **changes})


def house_settings(
    directory: Path, providers: Mapping[str, ProviderSettings] | None = None, **changes: Any
) -> Settings:
    """Settings of a gateway with these providers (by default four that echo, weighted 50, 30, 15 and 5)."""
    if providers is None:
        providers = {name: scripted(weight=weight) for name, weight in WEIGHTS.items()}
    values = {"default_provider": next(iter(providers)), "data_dir": directory / "data", "secret": "a secret for tests"}
    return Settings(**{**values, "providers": providers, **changes})


def wish(text: str = "hello there", **changes: Any) -> Wish:
    """A wish of the local principal."""
    values = {"prompt": Prompt((user(text),)), "principal": Principal(), "endpoint": "/api/smart", "use_cache": False}
    return Wish(**{**values, **changes})


async def log_of(system) -> list[RecordedEvent]:
    """All events so far."""
    events: list[RecordedEvent] = []
    while page := await system.journal._store.read(after=len(events), limit=1000):
        events += page
    return events


async def types_of(system, *, skip: tuple[str, ...] = ("GatewayStarted",)) -> list[str]:
    """The types of all events so far, in order."""
    return [event.type for event in await log_of(system) if event.type not in skip]


async def facts_of(system, kind: type[Event]) -> list[Any]:
    """All recorded facts of one type, in order."""
    return [event.fact for event in await log_of(system) if event.type == kind.__name__]


__all__ = ["WEIGHTS", "Account", "Limits", "facts_of", "house_settings", "log_of", "scripted", "types_of", "wish"]
