"""Which models and providers a key may ask for, in the names that clients write. Pure."""

from collections.abc import Iterator

import msgspec

from llmux.config import SMART, Settings
from llmux.events import KeyLimits


class Allowance(msgspec.Struct, frozen=True):
    """What of all routes a key may take; None stands for all. `written` is what the key's limits say, for people.

    It is about routes and not about the names that lead to them: who may ask for an alias may ask for what it stands for, and
    who may not ask for a model does not get it under another name either.
    """

    providers: frozenset[str] | None = None
    models: frozenset[str] | None = None
    """each a model, or `provider/model`"""
    beginnings: tuple[str, ...] = ()
    """of models, or of `provider/model`"""
    written: str = ""

    def covers(self, provider: str, model: str) -> bool:
        """Whether the key may have an answer of this model from this provider."""
        if self.providers is not None and provider not in self.providers:
            return False
        if self.models is None or model in self.models or model.startswith(self.beginnings):
            return True
        full = f"{provider}/{model}"
        return full in self.models or full.startswith(self.beginnings)


EVERYTHING = Allowance()


def allowance_of(limits: KeyLimits, settings: Settings) -> Allowance:
    """What these limits allow, with the aliases and the names of providers as they are configured."""
    if not limits.models and not limits.providers:
        return EVERYTHING
    entries = [each for entry in limits.models for each in _meant(entry, settings)]
    providers = frozenset(settings.stand_ins.get(name, name) for name in limits.providers)
    return Allowance(
        providers=providers if limits.providers else None,
        models=frozenset(entry for entry in entries if not entry.endswith("*")) if limits.models else None,
        beginnings=tuple(entry[:-1] for entry in entries if entry.endswith("*")),
        written=_written(limits),
    )


def _written(limits: KeyLimits) -> str:
    models, providers = ", ".join(limits.models), ", ".join(limits.providers)
    if not models:
        return f"all models of {providers}"
    return f"{models} (of {providers})" if providers else models


def _meant(entry: str, settings: Settings) -> Iterator[str]:
    """The models that an entry names: itself, and what the aliases stand for that it names."""
    yield from _models(entry, settings)
    for alias, model in settings.aliases.items():
        if alias == entry or (entry.endswith("*") and alias.startswith(entry[:-1])):
            yield from _models(model, settings)


def _models(name: str, settings: Settings) -> Iterator[str]:
    """A name in which the choice is no longer left open: "auto" stands for the models that are then taken."""
    if name in SMART:
        yield from (f"{each}/{provider.default_model}" for each, provider in settings.providers.items())
        return
    head, slash, rest = name.partition("/")
    provider = settings.stand_ins.get(head, head)
    if slash and provider in settings.providers:
        yield f"{provider}/{settings.providers[provider].default_model if rest in SMART else rest}"
    yield name
