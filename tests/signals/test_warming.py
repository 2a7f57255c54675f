"""An indicator has its first value after as many candles as is said."""

from __future__ import annotations

import pytest

from pipaid.signals.features import make_indicator
from pipaid.signals.indicator import Sample
from pipaid.signals.warming import candles_needed
from tests.signals.candles import candles_of


@pytest.mark.parametrize(
    ("name", "params", "needed"),
    [("close", (), 1), ("sma", (20,), 20), ("ema", (50,), 50), ("rsi", (14,), 14), ("atr", (14,), 14)],
)
def test_the_first_value_comes_with_just_so_many(name: str, params: tuple[int, ...], needed: int) -> None:
    indicator = make_indicator(name, params)
    known: list[bool] = []
    for candle in candles_of([100.0 + number % 7 for number in range(60)]):
        indicator.update(Sample.of(candle))
        known.append(indicator.value is not None)

    assert candles_needed(name, params) == needed == known.index(True) + 1
