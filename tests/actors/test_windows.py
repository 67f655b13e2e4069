"""What limits are compared with: counts by minute, day and month that follow from the log alone."""

from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from llmux import events
from llmux.actors.facts import EMPTY, evolve
from llmux.actors.facts.windows import MINUTE_MS, Window, month_of, rolled
from llmux.events import RecordedEvent, canonical, type_of
from llmux.prompts import Usage

START = int(datetime(2026, 1, 31, 23, 58, tzinfo=UTC).timestamp() * 1000)
HOUR_MS, DAY_MS = 60 * MINUTE_MS, 24 * 60 * MINUTE_MS


def asked(position: int, at: int, principal: str = "k1") -> RecordedEvent:
    fact = events.RequestAccepted(endpoint="/api/smart", fingerprint="f", prompt_bytes=1, draw=1)
    return _recorded(position, at, principal, fact)


def spent(position: int, at: int, tokens: int, principal: str = "k1") -> RecordedEvent:
    fact = events.AttemptSucceeded(
        provider="claude", model="m", first_chunk_ms=1, duration_ms=1, usage=Usage(input_tokens=tokens)
    )
    return _recorded(position, at, principal, fact)


def _recorded(position: int, at: int, principal: str, fact: events.Event) -> RecordedEvent:
    kind = type_of(fact)
    return RecordedEvent(position, "x", 0, kind, fact.schema, "", at, principal, "r", "", canonical(fact), b"", b"")


def window_of(*history: RecordedEvent) -> Window:
    return evolve(EMPTY, history).windows["k1"]


def test_a_month_ends_where_the_calendar_says() -> None:
    window = window_of(asked(1, START), asked(2, START + MINUTE_MS), spent(3, START + MINUTE_MS, 70))
    assert (window.requests_minute, window.requests_minute_before, window.requests_month) == (1, 1, 2)
    later = rolled(window, START + 2 * MINUTE_MS)
    assert (later.requests_minute, later.requests_minute_before) == (0, 1)
    assert (later.requests_day, later.requests_month, later.tokens_month) == (0, 0, 0)
    assert later.month == month_of(START) + 1


def test_a_day_ends_and_the_month_goes_on() -> None:
    window = window_of(spent(1, START - DAY_MS, 70), spent(2, START, 5))
    assert (window.tokens_minute, window.tokens_day, window.tokens_month) == (5, 5, 75)


def test_a_clock_that_is_set_back_forgives_nothing() -> None:
    window = window_of(spent(1, START, 70), spent(2, START - HOUR_MS, 5))
    assert (window.tokens_minute, window.tokens_day) == (75, 75)
    assert rolled(window, START - DAY_MS) == window


def test_principals_do_not_share_a_window() -> None:
    facts = evolve(EMPTY, [asked(1, START), asked(2, START, "k2"), spent(3, START, 9, "k2")])
    assert (facts.windows["k1"].requests_day, facts.windows["k1"].tokens_day) == (1, 0)
    assert (facts.windows["k2"].requests_day, facts.windows["k2"].tokens_day) == (1, 9)


@given(st.lists(st.tuples(st.integers(0, 3 * DAY_MS), st.integers(0, 9)), min_size=1, max_size=30))
def test_windows_hold_what_a_look_at_all_events_finds(steps: list[tuple[int, int]]) -> None:
    times = sorted(START - DAY_MS + offset for offset, _ in steps)
    history: list[RecordedEvent] = []
    for at, (_, tokens) in zip(times, steps, strict=True):
        history += [asked(len(history) + 1, at), spent(len(history) + 2, at, tokens)]
    window, now = window_of(*history), times[-1]
    tokens = dict.fromkeys(times, 0)
    for at, (_, cost) in zip(times, steps, strict=True):
        tokens[at] += cost

    def within(span: object) -> tuple[int, int]:
        same = [at for at in times if span(at) == span(now)]  # type: ignore[operator]
        return len(same), sum(tokens[at] for at in set(same))

    assert (window.requests_minute, window.tokens_minute) == within(lambda at: at // MINUTE_MS)
    assert (window.requests_day, window.tokens_day) == within(lambda at: at // DAY_MS)
    assert (window.requests_month, window.tokens_month) == within(month_of)
    before = [at for at in times if at // MINUTE_MS == now // MINUTE_MS - 1]
    assert window.requests_minute_before == len(before)


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_rolling_twice_is_rolling_once(first: int, second: int) -> None:
    window = Window(minute=5, day=0, requests_minute=3, tokens_day=9)
    early, late = sorted((first, second))
    assert rolled(rolled(window, early), late) == rolled(window, late)
    assert msgspec.structs.asdict(window) == msgspec.structs.asdict(Window(minute=5, requests_minute=3, tokens_day=9))
