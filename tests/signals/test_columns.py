"""Columns and live indicators agree to the last bit, at every candle, whatever gaps, spikes and blocks there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipaid.model.candle import Candle
from pipaid.model.columns import Candles
from pipaid.signals import columns as columns_module
from pipaid.signals import lanes as lanes_module
from pipaid.signals.columns import Columns
from pipaid.signals.indicator import INDICATORS
from pipaid.signals.series import BLOCK, CONDITIONS, Condition, Feature, Series
from tests.signals.candles import candles_of, eurusd_hours, storms, walks

PARAMS: dict[str, Sequence[tuple[int | float, ...]]] = {
    "close": [()],
    "true_range": [()],
    "period": [(4 * 3_600_000, 0), (7 * 86_400_000, 4 * 86_400_000)],
    "arithmetic_rung": [(0.5, 2.0, 9, 0.5)],
    "geometric_rung": [(0.5, 2.0, 9, 0.0)],
}
FORMULAS: list[Feature] = [Feature("macd_histogram", (2, 4, 3)), Feature("natr", (3,)), Feature("natr", (14,))]
FEATURES = FORMULAS + [
    Feature(name, params) for name in INDICATORS for params in PARAMS.get(name, [(1,), (2,), (5,), (14,)])
]
CONDITION = st.builds(
    Condition,
    st.sampled_from(sorted(CONDITIONS)),
    st.sampled_from(FEATURES),
    st.one_of(st.sampled_from(FEATURES), st.floats(0.5, 2.0)),
)


def columns_of(candles: Sequence[Candle]) -> Candles:
    first = candles[0]
    return Candles.from_rows(
        first.symbol,
        first.timeframe,
        time_ms=[each.open_time_ms for each in candles],
        open=[float(each.open) for each in candles],
        high=[float(each.high) for each in candles],
        low=[float(each.low) for each in candles],
        close=[float(each.close) for each in candles],
        volume=[float(each.volume) for each in candles],
    )


def assert_agree(candles: Sequence[Candle], features: Sequence[Feature], block: int) -> None:
    """Hold every value and every one before it to what a live series shows."""
    columns = Columns(columns_of(candles), block=block)
    series = Series(candles[0].symbol, candles[0].timeframe, block=block)
    for feature in features:
        series.retain(feature)
    made = [columns.feature(feature) for feature in features]
    for place, candle in enumerate(candles):
        series.append(candle)
        for feature, values in zip(features, made, strict=True):
            live = series.feature(feature)
            shown = [None if np.isnan(each[place]) else float(each[place]) for each in (values.value, values.previous)]
            assert shown == [live.value, live.previous], (feature, place)


@given(candles=walks(count=60, gap_max=10), block=st.sampled_from([4, 7, 8, 16, 64]))
@settings(deadline=None)
def test_columns_show_what_live_indicators_show(candles: list[Candle], block: int) -> None:
    assert_agree(candles, FEATURES, block)


@given(
    candles=storms(),
    block=st.sampled_from([3, 4, 16, 64]),
    chunk=st.sampled_from([1, 5, 32]),
    lanes=st.sampled_from([1, 2, 5]),
)
@settings(deadline=None)
def test_storms_agree_however_the_work_is_cut(candles: list[Candle], block: int, chunk: int, lanes: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(columns_module, "CHUNK", chunk)
        patched.setattr(lanes_module, "LANES_MAX", lanes)
        patched.setattr(lanes_module, "PART", chunk)
        assert_agree(candles, FEATURES, block)


@given(candles=storms(decimals_min=11))
@settings(deadline=None)
def test_moments_of_prices_of_many_decimals_agree(candles: list[Candle]) -> None:
    assert_agree(candles, [Feature(name, (window,)) for name in ("stddev", "zscore") for window in (3, 5, 6, 7)], 64)


@given(
    candles=st.one_of(walks(count=60, gap_max=10), storms()),
    block=st.sampled_from([4, 8, 64]),
    conditions=st.lists(CONDITION, min_size=1, max_size=6),
)
@settings(deadline=None)
def test_conditions_hold_where_they_hold_live(candles: list[Candle], block: int, conditions: list[Condition]) -> None:
    columns = Columns(columns_of(candles), block=block)
    held = [columns.holds(condition) for condition in conditions]
    series = Series(candles[0].symbol, candles[0].timeframe, block=block)
    for number, condition in enumerate(conditions):
        series.watch(condition, number)
    for place, candle in enumerate(candles):
        series.append(candle)
        assert sorted(number for number, at in enumerate(held) if at[place]) == sorted(map(hash, series.due()))


def test_real_candles_over_several_blocks_agree(eurusd_hours_csv: Path) -> None:
    candles = eurusd_hours(eurusd_hours_csv)
    features = [Feature("ema", (50,)), Feature("rsi", (14,)), Feature("atr", (14,)), Feature("sma", (200,)),
                Feature("zscore", (20,)), Feature("channel_high", (55,)), Feature("atr", (700,)),
                Feature("stddev", (1_999,)), Feature("lowest", (1_024,))]  # fmt: skip

    assert_agree(candles, features, BLOCK)


def test_of_no_candles_there_are_no_values() -> None:
    columns = Columns(columns_of(candles_of([1, 2, 3])).between(10**13, 10**14))

    for feature in FEATURES:
        assert len(columns.feature(feature).value) == len(columns.feature(feature).previous) == 0
    assert not columns.holds(Condition("every")).any()


def test_what_is_no_indicator_is_refused() -> None:
    columns = Columns(columns_of(candles_of([1, 2, 3])))
    with pytest.raises(ValueError, match="no indicator is called"):
        columns.feature(Feature("magic"))
    with pytest.raises(ValueError, match="a whole number from 1"):
        columns.feature(Feature("sma", (0,)))
