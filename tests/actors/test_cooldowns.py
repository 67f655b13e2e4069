"""A cooldown explains itself: why, since when, until when, and who tries next."""

import pytest
from pyrsistent import pmap

from llmux.actors.cooldowns import cooldowns_of
from llmux.actors.facts.quotas import Quota, Rest, quota_key

NOW = 1_700_000_000_000


def quotas(**rests: Rest):
    each = (Quota("alpha", "default", model.replace("every", "*"), rest=rest) for model, rest in rests.items())
    return pmap({quota_key(quota.provider, quota.account, quota.model): quota for quota in each})


def the_only(rest: Rest, probing: frozenset[str] = frozenset(), now: int = NOW):
    (cooldown,) = cooldowns_of(quotas(every=rest), "alpha", probing, now)
    return cooldown


def test_what_rests_says_why_and_until_when():
    cooldown = the_only(Rest("quota_exhausted", "claude.limit", NOW - 60_000, NOW + 60_000, NOW + 60_000))
    assert (cooldown.next_probe.at, cooldown.next_probe.state) == (NOW + 60_000, "resting")
    assert cooldown.explanation == (
        "Its quota is spent since 2023-11-14T22:12:20.000Z (seen in claude.limit). The provider says that it resets at "
        "2023-11-14T22:14:20.000Z. Nothing is asked of it until 2023-11-14T22:14:20.000Z; then one request tries it first."
    )


def test_a_reset_that_was_not_believed_is_told():
    cooldown = the_only(Rest("quota_exhausted", "x", NOW, NOW + 1_000, NOW + 9_000))
    assert "which is too far away to be believed" in cooldown.explanation


@pytest.mark.parametrize(("probing", "state"), [((), "due"), (("alpha/default/*",), "under_way")])
def test_a_rest_that_is_over_waits_for_one_request_that_tries_it(probing, state):
    cooldown = the_only(Rest("timed_out", "x", NOW - 9_000, NOW - 1_000), frozenset(probing))
    assert (cooldown.next_probe.at, cooldown.next_probe.state) == (NOW - 1_000, state)
    assert cooldown.explanation.startswith("It did not answer in time since ")
    assert "Its rest ended at" in cooldown.explanation


def test_a_clock_that_was_set_back_makes_a_probe_due_at_once():
    cooldown = the_only(Rest("garbled", "x", NOW, NOW + 60_000), now=NOW - 3_600_000)
    assert (cooldown.next_probe.at, cooldown.next_probe.state) == (NOW - 3_600_000, "due")
    assert "It failed (garbled)" in cooldown.explanation


def test_only_what_rests_of_this_provider_is_listed_in_order():
    rest = Rest("overloaded", "x", NOW, NOW + 1)
    known = quotas(b=rest, a=rest).set("beta/default/a", Quota("beta", "default", "a", rest=rest))
    known = known.set("alpha/default/c", Quota("alpha", "default", "c"))
    assert [each.model for each in cooldowns_of(known, "alpha", frozenset(), NOW)] == ["a", "b"]
