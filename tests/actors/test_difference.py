"""The difference of two states is all that tells them apart, and no more."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from llmux.actors.facts import EMPTY, evolve, plain
from llmux.actors.facts.difference import Change, difference
from tests.actors.test_facts import histories

_leaves = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "a"]) | st.lists(st.integers(0, 1))
_states = st.recursive(
    st.dictionaries(st.sampled_from("abc"), _leaves, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), _leaves | inner, max_size=3),
    max_leaves=8,
)


def applied(state: dict, changes: list[Change]) -> dict:
    """The state after the changes."""
    state = copy.deepcopy(state)
    for change in changes:
        inner = state
        for key in change.path[:-1]:
            inner = inner[key]
        if change.kind == "removed":
            assert inner.pop(change.path[-1]) == change.old
        else:
            assert (change.path[-1] in inner) == (change.kind == "changed")
            inner[change.path[-1]] = change.new
    return state


@given(_states, _states)
def test_the_changes_lead_from_one_state_to_the_other(before, after):
    kept = copy.deepcopy((before, after))
    changes = difference(before, after)
    assert repr(sorted_all(applied(before, changes))) == repr(sorted_all(after))
    assert (before, after) == kept
    assert [change.path for change in changes] == sorted(change.path for change in changes)


def sorted_all(state):
    """The state in an order that does not depend on how it was made; unlike ==, its repr tells True from 1."""
    return {key: sorted_all(state[key]) for key in sorted(state)} if isinstance(state, dict) else state


@given(_states)
def test_equal_states_have_no_difference(state):
    assert difference(state, copy.deepcopy(state)) == []


@given(_states, _states)
def test_backwards_what_was_added_is_removed(before, after):
    turned = {"added": "removed", "removed": "added", "changed": "changed"}
    backwards = [Change(each.path, turned[each.kind], each.new, each.old) for each in difference(before, after)]
    assert backwards == difference(after, before)


@given(histories)
def test_a_fold_changes_only_what_its_events_concern(history):
    """The difference of two moments is as large as what happened between them, whatever stood there before."""
    middle = evolve(EMPTY, history[:-1])
    changes = difference(plain(middle), plain(evolve(middle, history[-1:])))
    assert len(changes) <= 12
    assert ("position",) not in [change.path for change in changes]


def test_a_change_names_the_actor_and_what_was_and_is():
    before = {"position": 1, "keys": {"k1": {"user": "ada", "revoked_at": None}}, "cache": {"hits": 1}}
    after = {"position": 9, "keys": {"k1": {"user": "ada", "revoked_at": 5}, "k2": {"user": "bob"}}, "cache": {}}
    assert difference(before, after) == [
        Change(("cache", "hits"), "removed", old=1),
        Change(("keys", "k1", "revoked_at"), "changed", None, 5),
        Change(("keys", "k2"), "added", new={"user": "bob"}),
    ]
