"""The hash chain: nothing changes unnoticed."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from llmux.events import RecordedEvent
from llmux.eventstore.append import Plan, Prepared, draft_of
from llmux.eventstore.chain import EMPTY, GENESIS, digest, hash_of
from llmux.eventstore.table import event_of, packed, row_of, unpacked
from tests.eventstore.logs import changed, new

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NUMBER = st.integers(-(2**63), 2**63 - 1)
ID = st.uuids().map(str) | TEXT
FIELDS = {
    "position": NUMBER,
    "stream": TEXT,
    "version": NUMBER,
    "type": TEXT,
    "schema": NUMBER,
    "event_id": ID,
    "recorded_at": NUMBER,
    "principal": TEXT,
    "correlation_id": ID,
    "causation_id": ID,
    "data": TEXT.map(str.encode),
    "prev_hash": st.binary(min_size=32, max_size=32),
    "hash": st.just(b""),
}
EVENTS = st.builds(RecordedEvent, **FIELDS).map(lambda event: changed(event, hash=hash_of(event)))


def test_the_form_that_is_hashed_stays_as_it_is() -> None:
    """Logs out there were written with it: this value never changes."""
    assert GENESIS.hex() == "6b8a2d430afd18d403eabac5e4a0f5f85722d8e0a5af7f81e2ee12d50411b8a8"
    value = digest(1, "cache", 0, "CacheCleared", 1, "id", 5, "local", "r", "c", b'{"entries":0}', GENESIS)
    assert value.hex() == "c3e8e4e6f3432d71f23e633e7496a37787b4dc80f6fa2de3072a1b1827ee719e"


@given(EVENTS, st.sampled_from(sorted(set(FIELDS) - {"hash"})), st.data())
def test_any_single_changed_field_changes_the_hash(event: RecordedEvent, field: str, data: st.DataObject) -> None:
    value = data.draw(FIELDS[field].filter(lambda value: value != getattr(event, field)))
    assert hash_of(changed(event, **{field: value})) != event.hash


TEXTS = ["stream", "type", "event_id", "principal", "correlation_id", "causation_id"]


@given(EVENTS, st.integers(0, len(TEXTS) - 2))
def test_no_text_can_move_from_one_field_to_the_next(event: RecordedEvent, index: int) -> None:
    left, right = TEXTS[index], TEXTS[index + 1]
    joined = getattr(event, left) + getattr(event, right)
    hashes = {hash_of(changed(event, **{left: joined[:cut], right: joined[cut:]})) for cut in range(len(joined) + 1)}
    assert len(hashes) == len(joined) + 1


@given(EVENTS, st.binary(max_size=64), st.binary(max_size=64))
def test_a_key_makes_the_chain_one_that_only_its_holder_can_write(
    event: RecordedEvent, key: bytes, other: bytes
) -> None:
    assert hash_of(event, key) != event.hash
    # HMAC pads keys with zeros: keys that differ only in them are one key
    if key.ljust(64, b"\0") != other.ljust(64, b"\0"):
        assert hash_of(event, key) != hash_of(event, other)


@given(EVENTS)
def test_a_row_is_the_event_again(event: RecordedEvent) -> None:
    assert event_of(row_of(event)) == event


@given(ID)
def test_an_id_survives_its_short_form(id: str) -> None:
    assert unpacked(packed(id)) == id


def test_a_uuid_takes_16_bytes_and_only_its_canonical_form_does() -> None:
    uuid = "01a204b0-3850-7000-bc6f-4f7e0118f148"
    assert packed(uuid) == bytes.fromhex(uuid.replace("-", ""))
    for other in (uuid.upper(), uuid.replace("-", ""), "{" + uuid[:-2] + "}", uuid[:-1] + "g", ""):
        assert packed(other) == other


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-2, 3), st.integers(0, 6)), max_size=30))
def test_a_plan_does_what_a_simple_model_does(wishes: list[tuple[str, int, int]]) -> None:
    """Random appends of one event each: ids come from a small pool, so that many are repeated, some with other content."""
    plan = Plan(EMPTY, {}, (), 0)
    versions: dict[str, int] = {}
    ids: dict[int, str] = {}
    expected_outcomes = []
    for stream, expected, id in wishes:
        actual = versions.get(stream, -1)
        if id in ids:
            expected_outcomes.append("repeated" if ids[id] == stream else "EventIdReused")
        elif expected not in (-2, actual):
            expected_outcomes.append("WrongExpectedVersion")
        else:
            versions[stream], ids[id] = actual + 1, stream
            expected_outcomes.append("recorded")
    entries = [
        Prepared((draft_of(new(stream, event_id=f"id-{id}")),), {stream: expected}) for stream, expected, id in wishes
    ]
    outcomes = [
        type(outcome).__name__
        if isinstance(outcome, Exception)
        else "repeated" if outcome.repeated else "recorded"
        for outcome in plan.decide(entries).outcomes
    ]  # fmt: skip
    assert outcomes == expected_outcomes
    assert [event.position for event in plan.events] == list(range(1, len(ids) + 1))
    previous = GENESIS
    for event in plan.events:
        assert event.prev_hash == previous
        assert event.hash == hash_of(event)
        previous = event.hash


def test_a_recorded_event_has_no_field_that_these_tests_leave_out() -> None:
    assert [field.name for field in msgspec.structs.fields(RecordedEvent)] == list(FIELDS)
