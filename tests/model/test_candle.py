"""Candles that can be true, and larger ones built from smaller ones."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.model.candle import Candle, CandleBuilder
from pipaid.model.instrument import Timeframe
from tests.builders import MINUTE_MS, START_MS, SYMBOL


def candle(minute: int, prices: str = "100 110 90 105", timeframe: Timeframe = Timeframe.M1) -> Candle:
    """Make a candle that opens this many minutes after midnight, out of `open high low close`."""
    first, high, low, close = map(Decimal, prices.split())
    return Candle(SYMBOL, timeframe, START_MS + minute * MINUTE_MS, first, high, low, close, Decimal(2))


def built(*small: Candle, timeframe: Timeframe = Timeframe.M5) -> list[Candle]:
    builder = CandleBuilder(SYMBOL, timeframe)
    return [large for each in small for large in builder.add(each)]


def minutes(candles: list[Candle]) -> list[int]:
    return [(each.open_time_ms - START_MS) // MINUTE_MS for each in candles]


def test_a_candle_closes_at_the_first_millisecond_after_it() -> None:
    assert candle(0, timeframe=Timeframe.M5).close_time_ms == START_MS + 300_000


def test_five_minutes_make_one_candle_of_five() -> None:
    (large,) = built(
        candle(0, "100 101 99 100"),
        candle(1, "100 120 100 110"),
        candle(2, "110 111 80 90"),
        candle(3, "90 95 85 92"),
        candle(4, "92 93 91 93"),
    )

    assert large == Candle(
        SYMBOL, Timeframe.M5, START_MS, Decimal(100), Decimal(120), Decimal(80), Decimal(93), Decimal(10)
    )


def test_nothing_is_closed_before_its_end() -> None:
    assert built(*(candle(minute) for minute in range(4))) == []


def test_a_candle_with_a_missing_end_is_closed_by_the_next_interval() -> None:
    assert minutes(built(candle(0), candle(1), candle(5))) == [0]


def test_the_last_minute_after_a_gap_closes_two_at_once() -> None:
    closed = built(candle(0), candle(9))

    assert minutes(closed) == [0, 5]
    assert closed[1].volume == Decimal(2)


def test_an_interval_without_any_minute_yields_none() -> None:
    assert minutes(built(candle(4), candle(14))) == [0, 10]


def test_a_candle_begun_in_the_middle_holds_what_there_was() -> None:
    (large,) = built(candle(3, "90 95 85 92"), candle(4, "92 93 91 93"))

    assert (large.open_time_ms, large.open, large.volume) == (START_MS, Decimal(90), Decimal(4))


def test_a_candle_of_the_same_size_is_closed_at_once() -> None:
    assert minutes(built(candle(0), candle(1), timeframe=Timeframe.M1)) == [0, 1]


def test_days_begin_at_midnight() -> None:
    hours = [candle(60 * hour, timeframe=Timeframe.H1) for hour in range(49)]

    assert minutes(built(*hours, timeframe=Timeframe.D1)) == [0, 1440]


@given(st.sets(st.integers(0, 120), min_size=1), st.sampled_from([Timeframe.M5, Timeframe.M15, Timeframe.H1]))
def test_every_minute_goes_into_exactly_one_candle(present: set[int], timeframe: Timeframe) -> None:
    small = [candle(minute) for minute in sorted(present)]
    end = candle(10_000 * 60)  # Far away, so that everything before it is closed.

    closed = built(*small, end, timeframe=timeframe)

    assert sum(large.volume for large in closed) == 2 * len(small)
    assert sorted(set(minutes(closed))) == minutes(closed)
    assert all(large.objection() is None for large in closed)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"open": Decimal(0)}, "positive"),
        ({"close": Decimal(-1)}, "positive"),
        ({"high": Decimal("NaN")}, "positive"),
        ({"low": Decimal("sNaN")}, "positive"),
        ({"high": Decimal("Infinity")}, "positive"),
        ({"volume": Decimal(-1)}, "volume"),
        ({"volume": Decimal("NaN")}, "volume"),
        ({"high": Decimal(104)}, "enclose"),
        ({"low": Decimal(101)}, "enclose"),
        ({"open_time_ms": START_MS + 1}, "multiple of 1m"),
    ],
)
def test_a_candle_that_cannot_be_true_is_told(change: dict[str, Any], told: str) -> None:
    assert told in (msgspec.structs.replace(candle(0), **change).objection() or "")


def test_a_candle_that_can_be_true_meets_no_objection() -> None:
    assert candle(0).objection() is None
    assert candle(0, "100 100 100 100").objection() is None
