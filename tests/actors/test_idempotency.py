"""Which request an idempotency key stands for, as it follows from the log."""

from llmux import events
from llmux.actors.facts import EMPTY, evolve
from llmux.actors.facts.idempotency import KEPT_MS, Idempotent, key_of
from llmux.events import RecordedEvent, canonical, type_of

HOUR_MS = 3_600_000


def log(*steps: tuple[str, int, events.Event]) -> list[RecordedEvent]:
    """(request, time, fact) -> events of the principal k1."""
    return [
        RecordedEvent(
            position, "x", 0, type_of(fact), fact.schema, "", at, "k1", request, "", canonical(fact), b"", b""
        )
        for position, (request, at, fact) in enumerate(steps, 1)
    ]


def accepted(idempotency: str) -> events.Event:
    return events.RequestAccepted(
        endpoint="/api/smart", fingerprint="f", prompt_bytes=1, draw=1, idempotency=idempotency
    )


COMPLETED = events.RequestCompleted(provider="claude", model="m", duration_ms=1)
FAILED = events.RequestFailed(code="x", blame="provider", attempts=1, duration_ms=1)
CANCELLED = events.RequestCancelled(by="client", duration_ms=1)


def test_a_key_stands_for_its_request_for_a_day() -> None:
    facts = evolve(EMPTY, log(("r1", 5, accepted("i1")), ("r1", 9, COMPLETED))).idempotency
    assert dict(facts.keys) == {key_of("k1", "i1"): Idempotent("r1", "f", 5 + KEPT_MS)}
    assert not facts.open


def test_a_key_whose_request_came_to_nothing_is_free_again() -> None:
    for end in (FAILED, CANCELLED, events.RequestAbandoned()):
        facts = evolve(EMPTY, log(("r1", 5, accepted("i1")), ("r1", 9, end))).idempotency
        assert not facts.keys
        assert not facts.open


def test_the_end_of_an_earlier_request_does_not_free_a_key_that_stands_for_a_later_one() -> None:
    steps = (("r1", 5, accepted("i1")), ("r2", 6, accepted("i1")), ("r1", 9, FAILED))
    assert evolve(EMPTY, log(*steps)).idempotency.keys[key_of("k1", "i1")].request == "r2"


def test_a_key_stands_as_long_as_one_of_its_requests_is_open_or_has_completed() -> None:
    both = (("r1", 5, accepted("i1")), ("r2", 6, accepted("i1")))
    for gone, stays in (("r1", "r2"), ("r2", "r1")):
        facts = evolve(EMPTY, log(*both, (gone, 7, CANCELLED))).idempotency
        assert dict(facts.keys) == {key_of("k1", "i1"): Idempotent(stays, "f", 5 + KEPT_MS)}
        assert dict(facts.open) == {stays: key_of("k1", "i1")}
        assert not evolve(EMPTY, log(*both, (gone, 7, CANCELLED), (stays, 8, FAILED))).idempotency.keys
        for end in (FAILED, CANCELLED, events.RequestAbandoned()):
            facts = evolve(EMPTY, log(*both, (stays, 7, COMPLETED), (gone, 8, end))).idempotency
            assert dict(facts.keys) == {key_of("k1", "i1"): Idempotent(stays, "f", 5 + KEPT_MS)}


def test_whoever_is_told_a_known_answer_again_neither_prolongs_the_key_nor_frees_it() -> None:
    done = (("r1", 5, accepted("i1")), ("r1", 6, COMPLETED), ("r2", 7, accepted("i1")))
    for end in (COMPLETED, FAILED):
        facts = evolve(EMPTY, log(*done, ("r2", 8, end))).idempotency
        assert dict(facts.keys) == {key_of("k1", "i1"): Idempotent("r1", "f", 5 + KEPT_MS)}
        assert not facts.open


def test_a_key_that_is_used_again_after_a_day_stands_for_a_day_from_then_on() -> None:
    day = KEPT_MS + 5
    steps = (
        ("r1", 5, accepted("i1")),
        ("r1", 6, COMPLETED),
        ("r2", day - 1, accepted("i2")),
        ("r3", day, accepted("i1")),
    )
    assert evolve(EMPTY, log(*steps)).idempotency.keys[key_of("k1", "i1")] == Idempotent("r3", "f", day + KEPT_MS)


def test_keys_out_of_time_are_removed_when_others_come() -> None:
    steps = [(f"r{n}", n * HOUR_MS, accepted(f"i{n}")) for n in range(60)]
    ends = [(request, at + 1, COMPLETED) for request, at, _ in steps]
    facts = evolve(EMPTY, log(*[step for pair in zip(steps, ends, strict=True) for step in pair])).idempotency
    assert len(facts.keys) <= 26
    assert key_of("k1", "i59") in facts.keys
    assert key_of("k1", "i0") not in facts.keys


def test_a_request_without_a_key_leaves_no_trace() -> None:
    facts = evolve(EMPTY, log(("r1", 5, accepted("")), ("r1", 9, COMPLETED))).idempotency
    assert facts == EMPTY.idempotency
