"""Orders routes for a wish. Pure: the same wish, facts, settings and draw give the same order; what was drawn is recorded.

It is no mailbox: reads do not cross mailboxes, and all that routing does is read.
"""

from collections.abc import Callable, Mapping

import msgspec

from llmux.actors.allowance import EVERYTHING, Allowance
from llmux.actors.facts import Facts
from llmux.actors.facts.providers import account_key
from llmux.actors.facts.quotas import ACCOUNT_WIDE, lasts, quota_key, rest_of
from llmux.actors.messages import Wish
from llmux.config import SMART, ProviderSettings, Settings
from llmux.failures import CANNOT_EMBED, NOT_ALLOWED, ClientFailure, Excluded, ModelNotAllowed, ModelUnknown

DRAW_BELOW = 1 << 53
"""draws are integers below this, which every JSON reader keeps exactly"""


class Route(msgspec.Struct, frozen=True):
    """One way to an answer."""

    provider: str
    account: str
    model: str
    weight: int


class Standing(msgspec.Struct, frozen=True):
    """What the running provider actors know of one account beside the facts. `sentence` says what is wrong ("" = nothing),
    `refusal` what was said when the vendor turned its login away ("" = not since the start)."""

    installed: bool = True
    logged_in: bool = True
    sentence: str = ""
    refusal: str = ""
    models: tuple[str, ...] = ()
    given_up: bool = False


class World(msgspec.Struct, frozen=True):
    """All that routing looks at, beside the wish."""

    settings: Settings
    facts: Facts
    standings: Mapping[str, Standing]
    """by `provider/account`"""
    probing: frozenset[str]
    """keys of the rests after which one attempt is trying"""
    accepts: Callable[[str, str], bool]
    """(provider, model) -> whether the adapter takes a model that is not listed"""
    now: int
    allowed: Allowance = EVERYTHING
    """what the key that asks may ask for"""


class Routing(msgspec.Struct, frozen=True):
    """Candidates in the order in which they are tried, and what was left out.

    `pinned`: one provider alone may answer. `spares` is how many of the candidates, at their end, nobody asked for: they follow
    because the wish allows it.
    """

    candidates: tuple[Route, ...]
    excluded: tuple[Excluded, ...]
    pinned: bool
    draw: int
    spares: int = 0

    @property
    def forbidden(self) -> tuple[tuple[str, str], ...]:
        """The (provider, model) pairs that were left out because the key may not ask for them."""
        return tuple((each.provider, each.model) for each in self.excluded if each.reason == NOT_ALLOWED)


def route(wish: Wish, world: World, draw: int) -> Routing:
    """The routes for `wish`. Raises ModelUnknown, ProviderUnknown or ClientFailure when it asks for what is not there, and
    ModelNotAllowed when its key may have none of what it asks for.
    """
    wanted, pinned = _wanted(wish, world)
    others = _others(wanted, world) if wish.fallback and wish.prompt.embedding is None else []
    reasons = [(entry, _unable(entry, wish, world) or exclusion_of(entry, world)) for entry in (*wanted, *others)]
    excluded = tuple(reason for _, reason in reasons if reason is not None)
    if excluded and len(excluded) == len(reasons) and all(each.reason == NOT_ALLOWED for each in excluded):
        raise ModelNotAllowed(wish.model, wish.provider, world.allowed.written)
    fit = [
        _least_used_first([entry for entry, reason in part if reason is None], world)
        for part in (reasons[: len(wanted)], reasons[len(wanted) :])
    ]
    order = in_order(fit[0], fit[1], draw)
    return Routing(tuple(order), excluded, pinned and not others, draw, len(fit[1]))


def in_order(wanted: list[Route], spares: list[Route], draw: int) -> list[Route]:
    """The routes that were asked for, and behind them those that may answer in their place; each part is shuffled."""
    return shuffled(wanted, draw) + shuffled(spares, draw)


def shuffled(routes: list[Route], draw: int) -> list[Route]:
    """Weighted order without replacement: each place is drawn among the providers left, in proportion to their weights.

    The accounts of a provider follow each other in the order in which they come. Providers of weight 0 come last, in their
    configured order. One integer holds all the chance there is.
    """
    providers: dict[str, list[Route]] = {}
    for entry in routes:
        providers.setdefault(entry.provider, []).append(entry)
    left = [accounts for accounts in providers.values() if accounts[0].weight > 0]
    order: list[Route] = []
    while left:
        draw, point = divmod(draw, sum(accounts[0].weight for accounts in left))
        for index, accounts in enumerate(left):
            if point < accounts[0].weight:
                order += left.pop(index)
                break
            point -= accounts[0].weight
    return order + [entry for entry in routes if entry.weight == 0]


def _least_used_first(routes: list[Route], world: World) -> list[Route]:
    """Of each provider's accounts, the one with the most quota left comes first; where nothing is known, the configured one."""
    providers = {name: rank for rank, name in enumerate(dict.fromkeys(entry.provider for entry in routes))}
    return sorted(routes, key=lambda entry: (providers[entry.provider], used_percent(entry, world)))


def used_percent(entry: Route, world: World) -> int:
    """How much is used of the fullest quota window that concerns the route and has not ended; 0 when none is known."""
    windows = [
        window
        for model in (entry.model, ACCOUNT_WIDE)
        if (quota := world.facts.quotas.get(quota_key(entry.provider, entry.account, model))) is not None
        for window in quota.windows.values()
    ]
    running = (window for window in windows if window.resets_at is None or window.resets_at > world.now)
    return max((100 if window.status == "rejected" else window.used_percent or 0 for window in running), default=0)


def _wanted(wish: Wish, world: World) -> tuple[list[Route], bool]:
    settings = world.settings
    provider, model = _named(wish, settings)
    if provider:
        if model and not offers(provider, model, world):
            raise ModelUnknown(model, known_models(world, provider))
        return _routes(provider, model, settings.providers[provider]), True
    enabled = {name: entry for name, entry in settings.providers.items() if entry.enabled}
    if not model:
        return [each for name, entry in enabled.items() for each in _routes(name, "", entry)], False
    offering = [name for name in enabled if offers(name, model, world)]
    if not offering:
        raise ModelUnknown(model, known_models(world))
    return [each for name in offering for each in _routes(name, model, enabled[name])], len(offering) == 1


def _others(wanted: list[Route], world: World) -> list[Route]:
    """The default models of all enabled providers that are not among the wanted ones."""
    names = {entry.provider for entry in wanted}
    enabled = {name: entry for name, entry in world.settings.providers.items() if entry.enabled}
    return [each for name, entry in enabled.items() if name not in names for each in _routes(name, "", entry)]


def _named(wish: Wish, settings: Settings) -> tuple[str, str]:
    """The provider and the model that the wish names, "" where it leaves them open; aliases are followed once."""
    model = "" if wish.model in SMART else settings.aliases.get(wish.model, wish.model)
    head, slash, rest = model.partition("/")
    head = settings.stand_ins.get(head, head)
    names_provider = bool(slash) and head in settings.providers and settings.providers[head].enabled
    if names_provider and not rest:
        raise ClientFailure(f"The model '{head}/' names a provider but no model.", param="model")
    if wish.provider:
        provider = settings.provider_named(wish.provider)
        model = rest if names_provider and head == provider else model
        return provider, "" if model in SMART else model
    return (head, "" if rest in SMART else rest) if names_provider else ("", model)


def _routes(name: str, model: str, provider: ProviderSettings) -> list[Route]:
    return [
        Route(name, account.name, model or provider.default_model, provider.weight) for account in provider.accounts
    ]


def offers(name: str, model: str, world: World) -> bool:
    """Whether the provider `name` can be asked for `model`."""
    provider = world.settings.providers[name]
    if model == provider.default_model or model in provider.models or world.accepts(name, model):
        return True
    return any(
        model in standing.models
        for account in provider.accounts
        if (standing := world.standings.get(account_key(name, account.name))) is not None
    )


def known_models(world: World, only: str = "") -> tuple[str, ...]:
    """What can be asked for by name: of `only` one provider its models; of all, what chooses among them and aliases too."""
    names: dict[str, None] = {}
    for name, provider in world.settings.providers.items():
        if provider.enabled and (not only or name == only):
            own = [provider.default_model, *provider.models]
            for account in provider.accounts:
                standing = world.standings.get(account_key(name, account.name))
                own += standing.models if standing is not None else ()
            names.update(dict.fromkeys(model for model in own if model and world.allowed.covers(name, model)))
    if only or world.allowed.written:  # a key that may not have everything is told what it may have
        return tuple(names)
    return tuple(dict.fromkeys(("auto", *world.settings.aliases, *names)))


def _unable(entry: Route, wish: Wish, world: World) -> Excluded | None:
    """Why this route can never answer such a wish, or None when it can."""
    if not world.allowed.covers(entry.provider, entry.model):
        return Excluded(entry.provider, entry.account, entry.model, NOT_ALLOWED, "This key may not ask for it.")
    if wish.prompt.embedding is None or world.settings.providers[entry.provider].embeds:
        return None
    sentence = "It makes no embeddings; ask for a model of Ollama."
    return Excluded(entry.provider, entry.account, entry.model, CANNOT_EMBED, sentence)


def exclusion_of(entry: Route, world: World) -> Excluded | None:
    """Why this route cannot be taken now, or None when it can."""
    key = account_key(entry.provider, entry.account)
    standing = world.standings.get(key, Standing())
    facts = world.facts.providers.get(key)
    resting = rest_of(world.facts.quotas, entry.provider, entry.account, entry.model)

    def because(reason: str, sentence: str, until: int | None = None) -> Excluded:
        return Excluded(entry.provider, entry.account, entry.model, reason, sentence, until)

    if standing.given_up:
        return because("crashed", "Its actor crashed too often; restart the gateway.")
    if not standing.installed:
        return because("not_installed", standing.sentence)
    if not standing.logged_in:
        return because("logged_out", standing.sentence)
    if facts is not None and facts.refused:
        return because(facts.refused, standing.refusal or _refusal(entry, facts.refused, world.settings))
    if resting is not None:
        rest_key, rest = resting
        if lasts(rest, world.now):
            return because(rest.kind, _RESTING.get(rest.kind, "It failed and rests for a while."), rest.until)
        if rest_key in world.probing:
            return because("half_open", "Its rest is over and another request is trying it.", world.now + 1000)
    return None


def _refusal(entry: Route, why: str, settings: Settings) -> str:
    """What is said after a restart, when the log only knows that the vendor turned the login away."""
    provider = settings.providers[entry.provider]
    which = f" --account {entry.account}" if len(provider.accounts) > 1 else ""
    how = "ollama signin" if provider.kind == "ollama" else f"llmux login {entry.provider}{which}"
    if why == "ineligible":
        return f"Its account may not use it; log in with another one: {how}"
    return f"Its login was refused; log in again: {how}"


_RESTING = {
    "quota_exhausted": "Its quota is spent.",
    "rate_limited": "It asked for fewer requests.",
    "overloaded": "It is overloaded.",
    "unavailable": "It could not be reached.",
    "timed_out": "It did not answer in time.",
}
