"""What charts draw: within bounds, true where it is drawn, and with a word on what is left out."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.model.order import Side
from pipaid.reporting.charting import (
    LEVELS_MAX,
    MARKED_TRADES_MAX,
    OVERVIEW_CANDLES_MAX,
    SYMBOLS_MAX,
    Block,
    Level,
    block_of,
    curve_of,
    exposure_by_day,
    fitted,
    merged_levels,
    symbol_charts,
    thinned,
)
from tests.builders import DAY_MS, OTHER, START_MS, SYMBOL
from tests.results import make_columns, make_fill, make_level, make_result, make_trade

HOUR_MS = 3_600_000


def unpacked(block: Block) -> list[tuple[int, int, int, int, int]]:
    """Return candles as the page's script makes them of a block, in units."""
    candles: list[tuple[int, int, int, int, int]] = []
    at, last = block.start_ms, 0
    for index, step in enumerate(block.steps):
        first, high, low, close = block.prices[index * 4 : index * 4 + 4]
        at, start = at + step * block.step_ms, last + first
        last = start + close
        candles.append((at, start, start + high, start + low, last))
    return candles


def rows_of(candles: Candles) -> list[tuple[int, int, int, int, int]]:
    columns = (candles.time_ms, candles.open, candles.high, candles.low, candles.close)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_packed_candles_are_the_true_ones() -> None:
    candles = make_columns(300)

    assert unpacked(block_of(candles)) == rows_of(candles)


def test_packed_candles_keep_their_gaps() -> None:
    whole = make_columns(100)
    early, late = whole.between(START_MS, START_MS + HOUR_MS // 2), whole.between(START_MS + HOUR_MS, START_MS + DAY_MS)
    gappy = early.joined(late)

    assert len(gappy) == 70
    assert unpacked(block_of(gappy)) == rows_of(gappy)


@pytest.mark.parametrize(
    ("count", "most", "timeframe"),
    [(100, 100, Timeframe.M1), (101, 100, Timeframe.M5), (525_600, 2_500, Timeframe.H4), (1, 1, Timeframe.M1)],
)
def test_candles_are_drawn_in_the_smallest_timeframe_that_fits(count: int, most: int, timeframe: Timeframe) -> None:
    shown = fitted(make_columns(count), most)

    assert shown.timeframe is timeframe
    assert len(shown) <= most


def test_of_days_beyond_all_bounds_the_last_are_drawn() -> None:
    candles = make_columns(3_000, timeframe=Timeframe.D1)

    (chart,) = symbol_charts(make_result(), {SYMBOL: candles})

    assert chart.candles is not None
    drawn = unpacked(chart.candles)
    assert (len(drawn), drawn[-1][0]) == (OVERVIEW_CANDLES_MAX, int(candles.time_ms[-1]))
    assert chart.notes == ["3,000 candles of 1d are drawn as 2,500 of 1d; earlier ones are left out."]


def test_a_chart_says_what_it_draws() -> None:
    all_drawn = symbol_charts(make_result(), {SYMBOL: make_columns(1440)})
    grouped = symbol_charts(make_result(), {SYMBOL: make_columns(20_000)})

    assert all_drawn[0].notes == ["All 1,440 candles of 1m are drawn."]
    assert grouped[0].notes == ["20,000 candles of 1m are drawn as 1,334 of 15m."]


def test_trades_beyond_the_bound_are_thinned_out_evenly() -> None:
    trades = tuple(make_trade(number) for number in range(10_000))

    (chart,) = symbol_charts(make_result(trades=trades), {SYMBOL: make_columns()})

    assert len(chart.marks) == MARKED_TRADES_MAX
    assert (chart.marks[0].id, chart.marks[-1].id) == (0, 9_999)
    assert "1,000 of 10,000 trades are marked, evenly spread over time." in chart.notes


def test_a_symbol_without_candles_is_named() -> None:
    result = make_result(trades=(make_trade(),), levels=(make_level(symbol=OTHER),))

    first, second = symbol_charts(result, {})

    assert (first.symbol, first.candles, len(first.marks)) == (SYMBOL, None, 1)
    assert (second.symbol, len(second.levels)) == (OTHER, 1)
    assert first.notes == [f"The candles of {SYMBOL} were not handed to the report."]


def test_symbols_are_bounded() -> None:
    trades = tuple(make_trade(number, symbol=f"S{number}USDT") for number in range(SYMBOLS_MAX + 10))

    assert len(symbol_charts(make_result(trades=trades), {})) == SYMBOLS_MAX


def test_levels_of_one_price_that_follow_each_other_are_one() -> None:
    spans = [
        make_level("101", 0, 60_000),
        make_level("101", 90_000, 120_000),
        make_level("101", 500_000, 600_000),
        make_level("102", 60_000, 90_000),
        make_level("101", 10_000, 20_000, kind="target"),
    ]

    levels = merged_levels(spans, gap_ms=60_000)

    assert levels == [
        Level("stop", 101.0, START_MS, START_MS + 120_000),
        Level("stop", 101.0, START_MS + 500_000, START_MS + 600_000),
        Level("stop", 102.0, START_MS + 60_000, START_MS + 90_000),
        Level("target", 101.0, START_MS + 10_000, START_MS + 20_000),
    ]


def test_of_too_many_levels_those_that_rested_longest_are_drawn() -> None:
    levels = tuple(make_level(str(number), 0, number) for number in range(1, LEVELS_MAX + 101))

    (chart,) = symbol_charts(make_result(levels=levels), {SYMBOL: make_columns()})

    assert len(chart.levels) == LEVELS_MAX
    assert min(level.price for level in chart.levels) == 101.0
    assert "1,500 of 1,600 levels are drawn: those that rested longest." in chart.notes


def test_levels_that_were_not_kept_are_told() -> None:
    (chart,) = symbol_charts(make_result(levels_left_out=1_234), {SYMBOL: make_columns()})

    assert "1,234 levels came after the first 0 and were not kept." in chart.notes


def test_the_curve_tells_the_fall_from_the_peak_so_far() -> None:
    equity = [Decimal(each) for each in (1000, 1100, 990, 1045, 1210)]
    curve = curve_of(make_result(equity_curve=tuple((START_MS + at * DAY_MS, each) for at, each in enumerate(equity))))

    assert curve.equity == [1000, 1100, 990, 1045, 1210]
    assert curve.drawdown == [0, 0, -0.1, -0.05, 0]


def test_a_curve_without_points_or_without_money_is_drawn_as_it_is() -> None:
    assert curve_of(make_result(equity_curve=())).time_ms == []
    broke = curve_of(make_result(equity_curve=((START_MS, Decimal(0)), (START_MS + 1, Decimal(-5)))))
    lost = curve_of(make_result(equity_curve=((START_MS, Decimal(10)), (START_MS + 1, Decimal(-5)))))

    assert broke.drawdown == [0, 0]
    assert lost.drawdown == [0, -1]


def test_exposure_is_the_share_of_each_day() -> None:
    fills = [
        make_fill(Side.BUY, 6 * HOUR_MS),
        make_fill(Side.SELL, 12 * HOUR_MS),
        make_fill(Side.SELL, 18 * HOUR_MS, "2"),
        make_fill(Side.BUY, 18 * HOUR_MS, "1", symbol=OTHER),
        make_fill(Side.BUY, 36 * HOUR_MS, "2"),
        make_fill(Side.SELL, 42 * HOUR_MS, "1", symbol=OTHER),
    ]

    shares = exposure_by_day(fills, START_MS, START_MS + 3 * DAY_MS)

    # Day one: 6 to 12 and from 18 on; day two: until 18, by two symbols; day three: nothing.
    assert list(shares.values()) == [0.5, 0.75, 0]


def test_what_is_still_held_counts_until_the_end() -> None:
    # The last day has 12 hours, of which all are held.
    shares = exposure_by_day([make_fill(Side.BUY, 6 * HOUR_MS)], START_MS, START_MS + 36 * HOUR_MS)

    assert list(shares.values()) == [0.75, 1]


def test_a_moment_without_length_has_no_exposure() -> None:
    assert exposure_by_day([make_fill(Side.BUY, 0)], START_MS, START_MS) == {START_MS: 0}


@given(st.lists(st.integers(), max_size=200), st.integers(2, 50))
def test_thinning_keeps_the_order_and_both_ends(things: list[int], most: int) -> None:
    numbered = list(enumerate(things))

    kept = thinned(numbered, most)

    assert len(kept) == min(most, len(things))
    assert list(kept) == sorted(set(kept))
    assert kept[:1] == numbered[:1]
    assert kept[-1:] == numbered[-1:]


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(-3, 3)), max_size=30))
def test_shares_of_days_are_shares(moves: list[tuple[int, int]]) -> None:
    fills = [
        make_fill(Side.BUY if amount > 0 else Side.SELL, hour * HOUR_MS, str(abs(amount)))
        for hour, amount in moves
        if amount
    ]

    shares = exposure_by_day(fills, START_MS + HOUR_MS, START_MS + 100 * HOUR_MS)

    assert len(shares) == 5
    assert all(0 <= share <= 1 for share in shares.values())
    assert np.all(np.diff(list(shares)) == DAY_MS)
