"""The crossing of two simple averages, long only, one unit: as a template, and as other engines have it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
from attrs import frozen

from pipaid.model.columns import Candles, Floats
from pipaid.model.instrument import Timeframe
from pipaid.sdk import (
    Condition,
    Direction,
    Enter,
    ExitAll,
    Feature,
    Intent,
    RiskParams,
    Template,
    View,
    Wakes,
    integer_param,
)

FAST, SLOW = 10, 50
START_MS = 1_704_067_200_000
YEAR_MINUTES = 525_600


@frozen(kw_only=True)
class CrossoverParams:
    """Over how many candles the averages go."""

    fast: int = integer_param("Candles of the fast average", low=2, high=500, default=FAST)
    slow: int = integer_param("Candles of the slow average", low=2, high=500, default=SLOW)


class Crossover(Template):
    """Buy one unit when the fast average crosses above the slow one, and sell it when it crosses below."""

    id = "tpl_crossover"
    description = "Follows the crossing of two simple averages."
    params_type = CrossoverParams
    risk_defaults = RiskParams(
        max_trades_per_day=1_000, max_drawdown_pct=Decimal("0.99"), max_order_rate=1_000, max_open_positions=10
    )
    params: CrossoverParams

    def __init__(self, params: Any, state: Any = None) -> None:
        super().__init__(params, state)
        self.fast, self.slow = Feature("sma", (params.fast,)), Feature("sma", (params.slow,))

    def features(self) -> tuple[Feature, ...]:
        """Return both averages."""
        return self.fast, self.slow

    def wakes(self) -> Wakes:
        """Wake at the crossings that matter."""
        return Wakes(
            flat=(Condition("cross_above", self.fast, self.slow),),
            holding=(Condition("cross_below", self.fast, self.slow),),
        )

    def on_candle(self, view: View) -> Iterator[Intent]:
        """Enter or leave where the averages have crossed."""
        fast, slow = view.feature(self.fast), view.feature(self.slow)
        if fast is None or slow is None:
            return
        before, slow_before = view.feature_before(self.fast), view.feature_before(self.slow)
        if before is None or slow_before is None:
            return
        if fast > slow and before <= slow_before:
            if not view.positions:
                yield Enter(symbol=view.symbol, direction=Direction.LONG, quantity=Decimal(1))
        elif fast < slow and before >= slow_before:
            yield ExitAll(symbol=view.symbol)


def averages(closes: Floats, window: int, decimals: int) -> Floats:
    """Return simple averages as the floats nearest to the exact ones, not a number while there are too few candles."""
    units = np.rint(closes * 10**decimals).astype(np.int64)
    sums = np.concatenate(([0], units.cumsum()))
    values = np.full(len(closes), np.nan)
    values[window - 1 :] = (sums[window:] - sums[:-window]) / (window * 10**decimals)
    return values


def synthetic(count: int = YEAR_MINUTES, seed: int = 1) -> Candles:
    """Return gapless minutes of a random walk in cents."""
    chance = np.random.default_rng(seed)
    closes = 10_000 + np.clip(chance.integers(-12, 13, count).cumsum(), -6_000, None)
    opens = np.concatenate(([10_000], closes[:-1]))
    highs = np.maximum(opens, closes) + chance.integers(0, 9, count)
    lows = np.minimum(opens, closes) - chance.integers(0, 9, count)
    columns = {"open": opens, "high": highs, "low": lows, "close": closes}
    return Candles.from_rows(
        "BTCUSDT",
        Timeframe.M1,
        time_ms=START_MS + 60_000 * np.arange(count),
        volume=np.ones(count),
        **{name: column / 100 for name, column in columns.items()},
    )
