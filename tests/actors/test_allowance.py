"""What a key may ask for is a matter of routes: no other name leads around it."""

from pathlib import Path

import msgspec
import pytest

from llmux.actors.allowance import EVERYTHING, allowance_of
from llmux.actors.catalogue import named
from llmux.actors.router import route
from llmux.events import KeyLimits
from llmux.failures import ModelNotAllowed, ModelUnknown, NoRoute
from llmux.prompts import embed
from tests.actors.house import WEIGHTS, house_settings, scripted, wish
from tests.actors.test_router import NOW, names, world

ALIASES = {"gpt-4o": "shared", "gpt-mini": "beta/own-beta", "gpt-any": "gamma/auto"}


def settings(**changes):
    providers = {
        name: scripted(f"say={name}", weight=weight, models=(f"own-{name}", "shared"))
        for name, weight in WEIGHTS.items()
    }
    return house_settings(Path("/nowhere"), providers, aliases=ALIASES, **changes)


def allowed(*models: str, providers: tuple[str, ...] = (), **changes):
    return allowance_of(KeyLimits(models=list(models), providers=list(providers)), settings(**changes))


def taken(name: str, allowance) -> list[str]:
    """The providers that can be asked for by this name."""
    return sorted(names(route(wish(model=name), world(settings(), allowed=allowance), 0).candidates))


@pytest.mark.parametrize(
    ("entries", "model", "providers"),
    [
        (["own-alpha"], "own-alpha", ["alpha"]),
        (["own-alpha"], "alpha/own-alpha", ["alpha"]),
        (["beta/shared"], "shared", ["beta"]),
        (["beta/shared"], "gpt-4o", ["beta"]),
        (["gpt-4o"], "gpt-4o", ["alpha", "beta", "delta", "gamma"]),
        (["gpt-mini"], "gpt-mini", ["beta"]),
        (["gpt-*"], "gpt-any", ["gamma"]),
        (["own-*"], "own-delta", ["delta"]),
        (["alpha/*"], "auto", ["alpha"]),
        (["auto"], "smart", ["alpha", "beta", "delta", "gamma"]),
        (["gamma/auto", "own-beta"], "", ["gamma"]),
        (["*"], "own-beta", ["beta"]),
    ],
)
def test_a_name_that_is_allowed_leads_where_it_led_before(entries, model, providers):
    assert taken(model, allowed(*entries)) == providers


@pytest.mark.parametrize(
    ("entries", "model"),
    [
        (["own-alpha"], "own-beta"),
        (["own-alpha"], "auto"),
        (["own-alpha"], "gpt-mini"),
        (["beta/shared"], "alpha/shared"),
        (["gpt-mini"], "beta/shared"),
        (["own"], "own-alpha"),
        (["gpt-4o"], "auto"),
    ],
)
def test_no_other_name_leads_to_what_is_not_allowed(entries, model):
    with pytest.raises(ModelNotAllowed) as caught:
        taken(model, allowed(*entries))
    assert (caught.value.status, caught.value.code, caught.value.param) == (403, "model_not_allowed", "model")
    assert str(caught.value).endswith(f"It may ask for: {entries[0]}.")


def test_providers_bound_what_every_name_leads_to():
    only = allowed(providers=("beta", "delta"))
    assert taken("auto", only) == ["beta", "delta"]
    assert taken("shared", only) == ["beta", "delta"]
    with pytest.raises(ModelNotAllowed, match="It may ask for: all models of beta, delta"):
        taken("own-alpha", only)
    both = allowed("own-*", providers=("beta",))
    assert taken("own-beta", both) == ["beta"]
    with pytest.raises(ModelNotAllowed, match=r"own-\* \(of beta\)"):
        taken("own-gamma", both)
    with pytest.raises(ModelNotAllowed, match="'alpha'"):
        route(wish(provider="alpha"), world(settings(), allowed=only), 0)


def test_what_is_left_out_is_recorded_with_its_reason():
    routing = route(wish(model="shared"), world(settings(), allowed=allowed(providers=("beta",))), 0)
    assert [(each.provider, each.reason) for each in routing.excluded] == [
        (name, "not_allowed") for name in WEIGHTS if name != "beta"
    ]
    assert routing.forbidden == tuple((name, "shared") for name in WEIGHTS if name != "beta")


def test_a_provider_that_is_not_allowed_does_not_hide_why_the_allowed_one_cannot():
    house = settings()
    providers = {**house.providers, "beta": msgspec.structs.replace(house.providers["beta"], kind="claude")}
    here = world(msgspec.structs.replace(house, providers=providers), allowed=allowed(providers=("beta",)))
    routing = route(wish(prompt=embed("text"), model="shared"), here, 0)
    assert {each.reason for each in routing.excluded} == {"not_allowed", "cannot_embed"}
    assert (NoRoute(routing.excluded, NOW).status, NoRoute(routing.excluded, NOW).code) == (
        400,
        "unsupported_parameter",
    )


def test_the_names_that_a_key_is_shown_are_its_own():
    here = world(settings(), allowed=allowed("own-beta", "gamma/shared"))
    assert (named("own-beta", here).provider, named("shared", here).provider) == ("beta", "gamma")
    for name in ("own-alpha", "auto", "alpha/shared", "no-such"):
        with pytest.raises(ModelUnknown, match=r"Known models: own-beta, shared\."):
            named(name, here)


def test_a_provider_that_stands_in_for_another_is_allowed_under_its_name():
    stand_ins = {"claude": "alpha"}
    assert allowed(providers=("claude",), stand_ins=stand_ins).covers("alpha", "m")
    assert allowed("claude/*", stand_ins=stand_ins).covers("alpha", "m")
    assert not allowed("claude/*", stand_ins=stand_ins).covers("beta", "m")


def test_limits_without_names_allow_everything():
    assert allowance_of(KeyLimits(requests_per_day=1), settings()) is EVERYTHING
    assert EVERYTHING.covers("any", "thing")
