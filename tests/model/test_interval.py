"""The fifteen intervals: where each candle begins, against calendars, and that they lie end to end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.model.interval import Interval

MOMENTS = st.integers(0, 4_102_444_799_999)


def test_there_are_the_fifteen_of_the_contract() -> None:
    assert [*Interval] == ["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"]


@pytest.mark.parametrize("interval", Interval)
@given(at_ms=MOMENTS)
def test_each_candle_holds_the_moment_and_ends_where_the_next_begins(interval: Interval, at_ms: int) -> None:
    start, end = interval.start_of(at_ms), interval.end_of(at_ms)

    assert start <= at_ms < end
    assert interval.start_of(start) == start
    assert interval.start_of(end) == end
    assert interval.number(end) == interval.number(start) + 1
    assert interval.opens_ms(interval.number(at_ms)) == start


@given(at_ms=MOMENTS)
def test_weeks_begin_on_monday_and_months_on_the_first_at_midnight(at_ms: int) -> None:
    week, month = (moment(each.start_of(at_ms)) for each in (Interval.W1, Interval.MONTH))

    assert (week.isoweekday(), week.hour, week.minute, week.second) == (1, 0, 0, 0)
    assert (month.day, month.hour, month.minute, month.second) == (1, 0, 0, 0)
    assert month.month == moment(at_ms).month


@pytest.mark.parametrize(
    ("interval", "at", "start", "end"),
    [
        (Interval.MONTH, "2024-02-29T23:59:59.999", "2024-02-01", "2024-03-01"),
        (Interval.MONTH, "2025-12-31T00:00:00", "2025-12-01", "2026-01-01"),
        (Interval.W1, "2026-01-01T12:00:00", "2025-12-29", "2026-01-05"),
        (Interval.D3, "1970-01-03T23:00:00", "1970-01-01", "1970-01-04"),
        (Interval.D3, "1970-01-04T00:00:00", "1970-01-04", "1970-01-07"),
        (Interval.H8, "2025-06-01T23:00:00", "2025-06-01T16:00:00", "2025-06-02"),
        (Interval.M3, "2025-06-01T00:05:59", "2025-06-01T00:03:00", "2025-06-01T00:06:00"),
    ],
)
def test_a_candle_lies_where_the_calendar_puts_it(interval: Interval, at: str, start: str, end: str) -> None:
    at_ms = millis(at)

    assert (interval.start_of(at_ms), interval.end_of(at_ms)) == (millis(start), millis(end))


def moment(at_ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)


def millis(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)
