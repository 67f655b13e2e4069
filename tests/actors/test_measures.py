"""How much is left of a limit, and when there is room again: exact to the millisecond."""

from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from llmux.actors.facts.windows import MINUTE_MS, Window, month_of, rolled
from llmux.actors.measures import Held, Measure, end_of_month, measures_of
from llmux.events import KeyLimits

DAY_MS = 24 * 60 * MINUTE_MS
START = int(datetime(2026, 12, 31, 23, 30, tzinfo=UTC).timestamp() * 1000)


def minute(limit: int, present: int, before: int, held: int = 0) -> Measure:
    return Measure("requests", "minute", limit, present, before, held, START + MINUTE_MS)


def test_a_minute_slides():
    measure = minute(10, present=1, before=6)
    assert [measure.used(START + s * 1000) for s in (0, 10, 11, 30, 59, 60)] == [7, 6, 6, 4, 2, 1]
    assert measure.free_at(3, START) == START
    assert measure.free_at(4, START) == START + 10_000
    assert measure.free_at(9, START) == START + MINUTE_MS
    assert measure.free_at(10, START) == START + 2 * MINUTE_MS
    assert measure.free_at(11, START) is None
    assert measure.renewed_at(START) == START + 2 * MINUTE_MS
    assert minute(10, 0, 6).renewed_at(START) == START + MINUTE_MS
    assert minute(10, 0, 0).renewed_at(START) == START


@given(
    st.integers(1, 300), st.integers(0, 300), st.integers(0, 300), st.integers(1, 300), st.integers(0, MINUTE_MS - 1)
)
@example(limit=1, present=1, before=1, need=1, offset=0)
def test_there_is_room_at_the_moment_that_is_told_and_not_before(limit, present, before, need, offset):
    now = START + offset
    window = Window(
        minute=START // MINUTE_MS,
        day=START // DAY_MS,
        month=month_of(START),
        requests_minute=present,
        requests_minute_before=before,
    )

    def used(at: int) -> int:
        (measure,) = measures_of(KeyLimits(requests_per_minute=limit), rolled(window, at), Held())
        return measure.used(at)

    (measure,) = measures_of(KeyLimits(requests_per_minute=limit), window, Held())
    at = measure.free_at(need, now)
    if at is None:
        assert need > limit
        return
    assert used(at) + need <= limit
    assert at == now or used(at - 1) + need > limit


def test_days_and_months_end_where_the_calendar_says():
    window = rolled(Window(), START)
    limits = KeyLimits(requests_per_day=5, tokens_per_month=100)
    day, month = measures_of(limits, window, Held(requests=2, tokens=40))
    assert (day.unit, day.span, day.left(START)) == ("requests", "day", 3)
    assert (month.unit, month.span, month.left(START)) == ("tokens", "month", 60)
    new_year = START + 30 * MINUTE_MS
    assert day.ends == month.ends == new_year
    assert day.free_at(4, START) == month.free_at(61, START) == new_year
    assert end_of_month(month_of(new_year)) == int(datetime(2027, 2, 1, tzinfo=UTC).timestamp() * 1000)


def test_a_clock_that_is_set_back_makes_nothing_smaller():
    measure = minute(10, present=1, before=6)
    assert measure.used(START - DAY_MS) == 7
