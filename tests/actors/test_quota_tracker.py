"""Who rests, for how long, and who may try again first."""

from pathlib import Path

import msgspec
import pytest
from pyrsistent import pmap

from llmux.actors.facts import EMPTY
from llmux.actors.facts.quotas import Quota, Rest, Window, quota_key, rest_of
from llmux.actors.quota_tracker import NoteAnswer, NoteFailure, NoteWindow, QuotaTracker, ResetQuota, decide
from llmux.clock import SeededClock
from llmux.events import ProviderCooled, ProviderRestored, QuotaExhausted, QuotaReported, QuotaReset
from llmux.failures import POLICIES, Kind
from tests.actors.house import house_settings

NOW = 1_000_000_000
SETTINGS = house_settings(Path("/nowhere"))
DAY_MS = 24 * 3_600_000


def failed(kind: Kind, **changes) -> list:
    message = NoteFailure("alpha", "default", "echo", kind, "test.sign", **changes)
    return decide(EMPTY, message, SETTINGS, NOW)


def with_quota(quota: Quota):
    key = quota_key(quota.provider, quota.account, quota.model)
    return msgspec.structs.replace(EMPTY, quotas=pmap({key: quota}))


def test_a_reset_time_is_believed():
    (fact,) = failed(Kind.QUOTA_EXHAUSTED, resets_at=NOW + 5_000_000)
    assert isinstance(fact, QuotaExhausted)
    assert (fact.until, fact.resets_at, fact.evidence) == (NOW + 5_000_000, NOW + 5_000_000, "test.sign")


def test_a_reset_time_beyond_a_week_is_not_believed():
    (fact,) = failed(Kind.QUOTA_EXHAUSTED, resets_at=NOW + 400 * DAY_MS)
    assert fact.until == NOW + 7 * DAY_MS


def test_a_reset_time_in_the_past_rests_for_a_second():
    (fact,) = failed(Kind.QUOTA_EXHAUSTED, resets_at=NOW - 5)
    assert fact.until == NOW + 1000


def test_a_quota_without_a_reset_time_rests_as_configured():
    (fact,) = failed(Kind.QUOTA_EXHAUSTED)
    assert fact.until == NOW + SETTINGS.providers["alpha"].cooldown_ms


def test_a_provider_that_asks_for_time_gets_it():
    (fact,) = failed(Kind.RATE_LIMITED, retry_after_ms=7_000)
    assert isinstance(fact, ProviderCooled)
    assert (fact.kind, fact.until) == ("rate_limited", NOW + 7_000)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_cools_as_its_row_says(kind):
    assert bool(failed(kind)) == (POLICIES[kind].cools_ms != 0)


def test_v3_7_a_prompt_that_is_too_long_cools_nobody():
    assert failed(Kind.CONTEXT_TOO_LONG) == []


def test_an_unreachable_server_rests_with_all_its_models():
    (fact,) = failed(Kind.UNAVAILABLE)
    assert fact.model == "*"
    assert rest_of(
        pmap({"alpha/default/*": Quota("alpha", "default", "*", rest=Rest("x", "y", 0, 5))}), "alpha", "default", "any"
    )


def test_an_answer_restores_what_rested_and_records_nothing_otherwise():
    facts = with_quota(Quota("alpha", "default", "*", rest=Rest("quota_exhausted", "test", 0, NOW - 1)))
    answer = NoteAnswer("alpha", "default", "echo", NOW)
    assert decide(facts, answer, SETTINGS, NOW) == [ProviderRestored(provider="alpha", account="default", model="*")]
    assert decide(EMPTY, answer, SETTINGS, NOW) == []


def test_an_answer_that_was_under_way_when_the_rest_began_says_nothing_of_it():
    """A long stream ends well after the limit was reached: the account is spent all the same."""
    facts = with_quota(Quota("alpha", "default", "*", rest=Rest("quota_exhausted", "test", NOW - 50, NOW + 99_000)))
    assert decide(facts, NoteAnswer("alpha", "default", "echo", NOW - 51), SETTINGS, NOW) == []
    assert decide(facts, NoteAnswer("alpha", "default", "echo", NOW - 49), SETTINGS, NOW)


@pytest.mark.parametrize("kind", [Kind.UNAVAILABLE, Kind.QUOTA_EXHAUSTED])
def test_what_is_one_models_trouble_rests_that_model_alone(kind):
    (fact,) = failed(kind, model_only=True)
    assert fact.model == "echo"


def test_a_window_is_recorded_only_when_it_changes():
    note = NoteWindow("alpha", "default", "*", "five_hour", "allowed", 12, NOW + 60)
    (fact,) = decide(EMPTY, note, SETTINGS, NOW)
    assert isinstance(fact, QuotaReported)
    facts = with_quota(Quota("alpha", "default", "*", {"five_hour": Window("allowed", 12, NOW + 60, NOW)}))
    assert decide(facts, note, SETTINGS, NOW) == []
    for change in ({"status": "warning"}, {"used_percent": 13}, {"resets_at": NOW + 61}):
        assert decide(facts, msgspec.structs.replace(note, **change), SETTINGS, NOW)


def test_an_answer_that_does_not_tell_the_share_of_a_window_leaves_what_is_known_of_it():
    facts = with_quota(Quota("alpha", "default", "*", {"five_hour": Window("allowed", 12, NOW + 60, NOW)}))
    silent = NoteWindow("alpha", "default", "*", "five_hour", "allowed", None, NOW + 60)
    assert decide(facts, silent, SETTINGS, NOW) == []
    (warned,) = decide(facts, msgspec.structs.replace(silent, status="warning"), SETTINGS, NOW)
    assert warned.used_percent == 12
    (begun_anew,) = decide(facts, msgspec.structs.replace(silent, resets_at=NOW + 9_000), SETTINGS, NOW)
    assert begun_anew.used_percent is None


def test_a_reset_by_hand_names_one_provider_or_all():
    assert decide(EMPTY, ResetQuota("alpha", "local"), SETTINGS, NOW) == [QuotaReset(provider="alpha")]
    assert [fact.provider for fact in decide(EMPTY, ResetQuota("", "local"), SETTINGS, NOW)] == list(SETTINGS.providers)


def test_one_probe_at_a_time():
    tracker = QuotaTracker(None, SETTINGS, SeededClock())
    assert tracker.claim_probe("alpha/default/*")
    assert not tracker.claim_probe("alpha/default/*")
    assert tracker.claim_probe("alpha/default/another")
    tracker.release_probe("alpha/default/*")
    tracker.release_probe("alpha/default/*")
    assert tracker.probing == {"alpha/default/another"}
