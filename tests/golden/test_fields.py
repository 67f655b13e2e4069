"""Fields of events and their defaults stay: a default is not written into the log, so another one would change the past."""

import msgspec
import pytest

from tests.golden.fields import FILE, parts, present, written_down

WRITE = "python -m tests.golden.write fields"
KNOWN, NOW = written_down(), present()
CURRENT = sorted(NOW)


def test_every_field_is_written_down():
    missing = {(name, field) for name in NOW for field in NOW[name] if field not in KNOWN.get(name, {})}
    assert not missing, f"Fields that {FILE.name} does not hold yet; add them with {WRITE}: {sorted(missing)}"
    later = {(name, field) for name in NOW for field, now in NOW[name].items() if now and not KNOWN[name][field]}
    assert not later, f"Fields that have got a default; write it down with {WRITE}: {sorted(later)}"


@pytest.mark.parametrize("name", CURRENT)
def test_no_field_is_removed_or_renamed_without_another_schema(name: str):
    removed = set(KNOWN.get(name, {})) - set(NOW[name])
    assert not removed, f"{name}: {removed} stand in logs. Count its schema up, and add an upcast and a golden log."


@pytest.mark.parametrize("name", CURRENT)
def test_no_default_ever_changes(name: str):
    for field, known in KNOWN.get(name, {}).items():
        if known:
            assert NOW[name].get(field) == known, (
                f"{name}.{field}: where the log says nothing, it says {known['default']!r}. Count the schema up, and add an "
                "upcast and a golden log."
            )


def test_a_schema_once_written_down_stays_written_down():
    """Of a type at an older schema only its upcast and its golden logs know, and this."""
    types = {name.split("/")[0]: int(name.split("/")[1]) for name in NOW if "/" in name}
    for name in KNOWN:
        if "/" in name:
            type, schema = name.split("/")
            assert int(schema) <= types[type]
    assert set(KNOWN) >= {f"{type}/{n}" for type, newest in types.items() for n in range(1, newest + 1)}


@pytest.mark.parametrize("part", parts(), ids=lambda part: part.__name__)
def test_a_list_in_the_log_keeps_the_order_of_its_fields(part: type[msgspec.Struct]):
    """New ones come last, and have a default: an older list is shorter."""
    if part.__struct_config__.array_like:
        known = list(KNOWN[part.__name__])
        assert list(NOW[part.__name__])[: len(known)] == known
