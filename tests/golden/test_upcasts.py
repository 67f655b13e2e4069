"""Upcasts are pure, and read whatever their old schema could hold."""

import copy

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmux.events import TYPES, UPCASTS, Line, canonical, fact_of
from tests.golden.fields import written_down
from tests.golden.old import OLD

STEPS = pytest.mark.parametrize("step", sorted(UPCASTS), ids=lambda step: f"{step[0]}/{step[1]}")


def line(type: str, schema: int, fields: dict) -> Line:
    return Line(1, "s", type, schema, 0, "local", "r", msgspec.json.encode(fields))


def test_what_every_old_schema_could_hold_is_known():
    assert set(OLD) == set(UPCASTS)
    table = written_down()
    for (type, schema), (fields, defaults) in OLD.items():
        known = table[f"{type}/{schema}"]
        assert set(fields) == set(known)
        assert defaults == {name: each["default"] for name, each in known.items() if each}


@STEPS
@given(data=st.data())
def test_an_upcast_is_pure(step, data):
    could, left_out = OLD[step]
    fields = data.draw(
        st.fixed_dictionaries(
            {name: value for name, value in could.items() if name not in left_out},
            optional={name: could[name] for name in left_out},
        )
    )
    before = copy.deepcopy(fields)
    once = UPCASTS[step](fields)
    assert fields == before
    assert UPCASTS[step](fields) == once
    assert msgspec.json.encode(once), "what comes out is what JSON can hold"


@STEPS
@given(data=st.data())
def test_an_upcast_leads_to_a_fact_whatever_is_left_out(step, data):
    (type, schema), (fields, defaults) = step, OLD[step]
    whole = data.draw(st.fixed_dictionaries(dict(fields)))
    short = {name: value for name, value in whole.items() if defaults.get(name, ...) != value}
    fact = fact_of(line(type, schema, whole))
    assert isinstance(fact, TYPES[type])
    assert fact_of(line(type, schema, short)) == fact, "a field that is left out has the default it always had"
    assert msgspec.json.decode(canonical(fact), type=TYPES[type]) == fact


@given(st.fixed_dictionaries(dict(OLD["RequestAccepted", 1][0])))
def test_an_accepted_request_of_schema_1_says_the_same_as_one_of_schema_2(fields):
    fact = fact_of(line("RequestAccepted", 1, fields))
    for name in ("endpoint", "model", "stream", "pinned", "fingerprint", "prompt_bytes", "flight", "draw", "cache"):
        assert getattr(fact, name) == fields[name]
    assert [msgspec.structs.asdict(each) for each in fact.candidates] == fields["candidates"]
    assert [msgspec.structs.asdict(each) for each in fact.exclusions] == [
        {"until": None, **each} for each in fields["exclusions"]
    ]
