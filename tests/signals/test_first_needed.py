"""An indicator that is fed only what it keeps is, to the last bit, what all candles would have made of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.model.candle import Candle
from pipaid.signals.features import first_needed, make_indicator
from pipaid.signals.indicator import INDICATORS, Indicator, Sample
from tests.signals.candles import walks

WINDOWS = (1, 2, 3, 5, 8, 13)
GIVEN: dict[str, tuple[tuple[float, ...], ...]] = {
    "close": ((),),
    "true_range": ((),),
    "period": ((4 * 3_600_000, 0),),
    "arithmetic_rung": ((95, 105, 8, 0.5),),
    "geometric_rung": ((95, 105, 8, 0.5),),
}


def fed(name: str, params: tuple[float, ...], samples: Sequence[Sample]) -> Indicator:
    indicator = make_indicator(name, params)
    for sample in samples:
        indicator.update(sample)
    return indicator


@pytest.mark.parametrize("name", sorted(INDICATORS))
@given(candles=walks(count=50), count=st.integers(0, 45))
def test_what_came_before_the_first_needed_candle_changes_nothing(
    name: str, candles: Sequence[Candle], count: int
) -> None:
    samples = [Sample.of(candle) for candle in candles]
    for params in GIVEN.get(name, tuple((window,) for window in WINDOWS)):
        first = first_needed(name, params, count)
        whole, short = fed(name, params, samples[:count]), fed(name, params, samples[first:count])

        for sample in samples[count:]:
            if count:
                assert (short.value, short.previous) == (whole.value, whole.previous)
            whole.update(sample)
            short.update(sample)
        assert (short.value, short.previous) == (whole.value, whole.previous)


@pytest.mark.parametrize("name", ["sma", "zscore", "channel_high"])
def test_a_window_needs_its_length_and_one_or_two_more(name: str) -> None:
    assert all(window < 10_000 - first_needed(name, (window,), 10_000) <= window + 2 for window in WINDOWS)


@pytest.mark.parametrize("name", ["ema", "rsi", "atr"])
def test_what_never_forgets_needs_everything(name: str) -> None:
    assert first_needed(name, (5,), 10_000) == 0
