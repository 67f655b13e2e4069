"""Routing is pure: the same wish, facts, settings and draw give the same order."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrsistent import pmap
from scipy.stats import chisquare

from llmux.actors.facts import EMPTY
from llmux.actors.facts.providers import ProviderFacts
from llmux.actors.facts.quotas import Quota, Rest, Window, quota_key
from llmux.actors.router import DRAW_BELOW, Route, Standing, World, route, shuffled
from llmux.clock import SeededClock
from llmux.config import Account
from llmux.failures import ClientFailure, ModelUnknown, ProviderUnknown
from tests.actors.house import WEIGHTS, house_settings, scripted, wish

NOW = 1_000_000


def world(settings=None, *, quotas=None, providers=None, **changes) -> World:
    facts = EMPTY.__class__(
        **{
            **{name: getattr(EMPTY, name) for name in EMPTY.__struct_fields__},
            "quotas": pmap(quotas or {}),
            "providers": pmap(providers or {}),
        }
    )
    values = {"standings": {}, "probing": frozenset(), "accepts": lambda provider, model: False, "now": NOW}
    return World(settings=settings or house_settings(Path("/nowhere")), facts=facts, **{**values, **changes})


def names(routes) -> list[str]:
    return [each.provider for each in routes]


def test_the_first_route_is_drawn_in_proportion_to_the_weights():
    seed = 20_261_122
    clock = SeededClock(seed)
    here = world()
    firsts = Counter(route(wish(), here, clock.draw(DRAW_BELOW)).candidates[0].provider for _ in range(4000))
    observed = [firsts[name] for name in WEIGHTS]
    expected = [4000 * weight / 100 for weight in WEIGHTS.values()]
    print("seed", seed, dict(firsts))
    assert chisquare(observed, expected).pvalue > 0.001


@given(st.integers(0, DRAW_BELOW - 1), st.lists(st.integers(0, 100), min_size=1, max_size=8))
def test_every_order_holds_every_route_once_and_weightless_ones_last(draw, weights):
    routes = [Route(f"p{index}", "default", "m", weight) for index, weight in enumerate(weights)]
    order = shuffled(routes, draw)
    assert sorted(names(order)) == sorted(names(routes))
    ordered = [each.weight > 0 for each in order]
    assert ordered == sorted(ordered, reverse=True)
    assert order == shuffled(routes, draw)


@pytest.mark.parametrize("model", ["", "auto", "smart"])
def test_a_wish_without_a_model_may_go_anywhere(model):
    routing = route(wish(model=model), world(), 0)
    assert sorted(names(routing.candidates)) == sorted(WEIGHTS)
    assert not routing.pinned


def test_a_named_provider_is_the_only_one():
    routing = route(wish(provider="beta"), world(), 7)
    assert names(routing.candidates) == ["beta"]
    assert routing.pinned


def test_a_model_goes_only_to_those_that_offer_it():
    settings = house_settings(
        Path("/nowhere"),
        {"one": scripted(models=("shared", "own")), "two": scripted(models=("shared",)), "three": scripted()},
    )
    assert sorted(names(route(wish(model="shared"), world(settings), 3).candidates)) == ["one", "two"]
    assert names(route(wish(model="own"), world(settings), 3).candidates) == ["one"]
    assert names(route(wish(model="two/shared"), world(settings), 3).candidates) == ["two"]


def test_v3_14_the_model_that_was_asked_for_is_the_model_that_is_asked():
    settings = house_settings(
        Path("/nowhere"), {"one": scripted(models=("big", "small")), "two": scripted(models=("other",))}
    )
    assert [each.model for each in route(wish(model="small"), world(settings), 1).candidates] == ["small"]
    assert [each.model for each in route(wish(provider="one", model="small"), world(settings), 1).candidates] == [
        "small"
    ]


def test_an_alias_stands_for_a_model_or_for_a_model_of_one_provider():
    settings = house_settings(
        Path("/nowhere"),
        {"one": scripted(models=("m",)), "two": scripted(models=("m",))},
        aliases={"gpt-4o": "m", "mine": "two/m"},
    )
    assert len(route(wish(model="gpt-4o"), world(settings), 1).candidates) == 2
    assert names(route(wish(model="mine"), world(settings), 1).candidates) == ["two"]


def test_an_unknown_model_is_404_and_the_known_ones_are_named():
    settings = house_settings(Path("/nowhere"), {"one": scripted(models=("m1", "m2"))})
    with pytest.raises(ModelUnknown) as caught:
        route(wish(model="nope"), world(settings), 1)
    assert caught.value.status == 404
    assert "m1" in str(caught.value)
    with pytest.raises(ModelUnknown):
        route(wish(provider="one", model="nope"), world(settings), 1)


def test_an_unknown_or_disabled_provider_is_400():
    settings = house_settings(Path("/nowhere"), {"one": scripted(), "off": scripted(enabled=False)})
    for provider in ("nobody", "off"):
        with pytest.raises(ProviderUnknown) as caught:
            route(wish(provider=provider), world(settings), 1)
        assert caught.value.status == 400
    assert names(route(wish(), world(settings), 1).candidates) == ["one"]


def test_a_provider_with_an_empty_model_is_refused():
    with pytest.raises(ClientFailure):
        route(wish(model="alpha/"), world(), 1)


def test_models_that_a_provider_lists_itself_can_be_asked_for():
    settings = house_settings(Path("/nowhere"), {"one": scripted()})
    standings = {"one/default": Standing(models=("tiny:latest",))}
    assert names(route(wish(model="tiny:latest"), world(settings, standings=standings), 1).candidates) == ["one"]


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (Standing(installed=False, sentence="Install it."), "not_installed"),
        (Standing(logged_in=False, sentence="Log in."), "logged_out"),
        (Standing(given_up=True), "crashed"),
    ],
)
def test_what_cannot_answer_is_left_out_with_a_reason(standing, reason):
    routing = route(wish(), world(standings={"alpha/default": standing}), 5)
    assert "alpha" not in names(routing.candidates)
    assert [each.reason for each in routing.excluded] == [reason]
    assert routing.excluded[0].sentence


def test_a_refused_login_is_left_out_until_it_is_renewed():
    refused = {"alpha/default": ProviderFacts("alpha", "default", refused="logged_out")}
    routing = route(wish(), world(providers=refused), 5)
    assert [(each.provider, each.reason) for each in routing.excluded] == [("alpha", "logged_out")]


def resting(until: int, model: str = "echo") -> dict[str, Quota]:
    rest = Rest("quota_exhausted", "test", since=NOW - 10, until=until)
    return {f"alpha/default/{model}": Quota("alpha", "default", model, rest=rest)}


@pytest.mark.parametrize("model", ["echo", "*"])
def test_a_resting_route_is_left_out_until_its_time(model):
    routing = route(wish(), world(quotas=resting(NOW + 1, model)), 5)
    assert [(each.provider, each.until) for each in routing.excluded] == [("alpha", NOW + 1)]
    assert "alpha" in names(route(wish(), world(quotas=resting(NOW, model)), 5).candidates)


def test_after_its_rest_one_request_tries_and_the_others_go_elsewhere():
    routing = route(wish(), world(quotas=resting(NOW), probing=frozenset({"alpha/default/echo"})), 5)
    assert [(each.provider, each.reason) for each in routing.excluded] == [("alpha", "half_open")]


@pytest.mark.parametrize("jump_ms", [-365 * 24 * 3_600_000, -3_600_000])
def test_a_wall_clock_that_is_set_back_does_not_prolong_a_rest(jump_ms):
    rest = Rest("overloaded", "test", since=NOW, until=NOW + 10_000)
    quotas = {"alpha/default/echo": Quota("alpha", "default", "echo", rest=rest)}
    assert route(wish(), world(quotas=quotas), 5).excluded
    assert not route(wish(), world(quotas=quotas, now=NOW + jump_ms), 5).excluded


@pytest.mark.parametrize("model", ["alpha/echo", "alpha/auto", "auto", "echo", ""])
def test_a_pinned_provider_takes_its_models_with_and_without_its_name(model):
    (only,) = route(wish(provider="alpha", model=model), world(), 5).candidates
    assert (only.provider, only.model) == ("alpha", "echo")


@pytest.mark.parametrize("model", ["claude/big", "claude-demo/big", "claude-demo/auto", "claude/auto"])
def test_a_stand_in_is_meant_by_both_names(model):
    settings = house_settings(Path("/nowhere"), {"claude-demo": scripted("big")}, stand_ins={"claude": "claude-demo"})
    for provider in ("", "claude"):
        (only,) = route(wish(provider=provider, model=model), world(settings), 5).candidates
        assert (only.provider, only.model) == ("claude-demo", "big")


def test_a_model_of_several_providers_pins_none():
    settings = house_settings(Path("/nowhere"), {"one": scripted(models=("m",)), "two": scripted(models=("m",))})
    assert not route(wish(model="m"), world(settings), 5).pinned


def test_a_rest_of_one_model_leaves_the_others_alone():
    routing = route(wish(), world(quotas=resting(NOW + 1, "another")), 5)
    assert not routing.excluded


def test_accounts_are_routes_of_their_own():
    accounts = (Account(name="home"), Account(name="work"))
    settings = house_settings(Path("/nowhere"), {"one": scripted(accounts=accounts)})
    routing = route(wish(), world(settings, standings={"one/home": Standing(logged_in=False)}), 5)
    assert [each.account for each in routing.candidates] == ["work"]
    assert [each.account for each in routing.excluded] == ["home"]


def accounts_of_one(used: dict[str, int], resets_at: int | None = None):
    """A house of one provider with three accounts beside another provider, and what is known of the accounts' quotas."""
    accounts = (Account(name="home"), Account(name="work"), Account(name="third"))
    providers = {"one": scripted(accounts=accounts, weight=50), "two": scripted(weight=50)}
    quotas = {
        quota_key("one", name, "*"): Quota("one", name, "*", {"w": Window("allowed", percent, resets_at, NOW)})
        for name, percent in used.items()
    }
    return world(house_settings(Path("/nowhere"), providers), quotas=quotas)


def accounts_tried(here) -> list[str]:
    return [each.account for each in route(wish(), here, 0).candidates if each.provider == "one"]


def test_the_account_with_the_most_quota_left_is_tried_first():
    assert accounts_tried(accounts_of_one({"home": 80, "work": 20})) == ["third", "work", "home"]
    assert accounts_tried(accounts_of_one({"home": 80, "work": 20, "third": 90})) == ["work", "home", "third"]


def test_a_rejected_account_is_a_full_one_though_nobody_told_the_share():
    here = accounts_of_one({"work": 30, "third": 31})
    spent = Quota("one", "home", "*", {"w": Window("rejected", None, None, NOW)})
    facts = msgspec.structs.replace(here.facts, quotas=here.facts.quotas.set(quota_key("one", "home", "*"), spent))
    assert accounts_tried(msgspec.structs.replace(here, facts=facts)) == ["work", "third", "home"]


def test_accounts_of_whose_quota_nothing_is_known_keep_their_order():
    assert accounts_tried(accounts_of_one({})) == ["home", "work", "third"]


def test_a_window_that_has_ended_says_nothing():
    assert accounts_tried(accounts_of_one({"home": 99}, resets_at=NOW - 1)) == ["home", "work", "third"]


def test_a_provider_with_three_accounts_gets_no_more_than_its_weight():
    here = accounts_of_one({})
    firsts = Counter(route(wish(), here, draw * 7919).candidates[0].provider for draw in range(1000))
    assert 400 < firsts["one"] < 600


def test_the_accounts_of_a_provider_are_tried_one_after_the_other():
    for draw in range(20):
        order = [each.provider for each in route(wish(), accounts_of_one({}), draw).candidates]
        assert order in (["one", "one", "one", "two"], ["two", "one", "one", "one"])


def test_a_pinned_provider_is_never_left_unless_the_wish_allows_it():
    """Then the others follow by weight, each with its default model, and the pinned one stays the first."""
    followers = Counter()
    for draw in range(200):
        routing = route(wish(provider="beta", fallback=True), world(), draw)
        assert names(routing.candidates)[0] == "beta"
        assert sorted(names(routing.candidates)) == sorted(WEIGHTS)
        assert (routing.pinned, routing.spares) == (False, len(WEIGHTS) - 1)
        followers[names(routing.candidates)[1]] += 1
    assert len(followers) > 1
    alone = route(wish(provider="beta"), world(), 0)
    assert (alone.pinned, alone.spares) == (True, 0)


def test_the_others_follow_with_their_default_models_and_in_their_own_standing():
    settings = house_settings(
        Path("/nowhere"),
        {
            "one": scripted(models=("m",), default_model="d1"),
            "two": scripted(models=("m",), default_model="d2"),
            "three": scripted(default_model="d3"),
            "four": scripted(default_model="d4"),
        },
    )
    standings = {"four/default": Standing(logged_in=False, sentence="Log in.")}
    routing = route(wish(model="m", fallback=True), world(settings, standings=standings), 1)
    assert sorted((each.provider, each.model) for each in routing.candidates[:2]) == [("one", "m"), ("two", "m")]
    assert [(each.provider, each.model) for each in routing.candidates[2:]] == [("three", "d3")]
    assert [each.provider for each in routing.excluded] == ["four"]
    assert routing.spares == 1


def test_with_a_pinned_provider_that_rests_the_others_answer_where_the_wish_allows_it():
    standings = {"beta/default": Standing(installed=False, sentence="Install it.")}
    assert route(wish(provider="beta"), world(standings=standings), 0).candidates == ()
    routing = route(wish(provider="beta", fallback=True), world(standings=standings), 0)
    assert len(routing.candidates) == routing.spares == len(WEIGHTS) - 1


def test_an_unknown_model_stays_unknown_whatever_the_wish_allows():
    with pytest.raises(ModelUnknown):
        route(wish(model="nope", fallback=True), world(), 0)
