"""Momentum: follow the crossing of two exponential averages while relative strength agrees."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import ClassVar

from attrs import frozen

from pipaid.sdk import (
    CloseReason,
    Condition,
    Direction,
    Enter,
    Feature,
    Intent,
    Position,
    RiskParams,
    Template,
    View,
    Wakes,
    decimal_param,
    flag_param,
    integer_param,
)
from templates.protected import leave, protected_entry

LONG = frozenset({Direction.LONG})
SHORT = frozenset({Direction.SHORT})


@frozen(kw_only=True)
class MomentumParams:
    """The knobs of momentum."""

    fast: int = integer_param("Window of the fast average", low=2, high=200, default=12, less_than="slow")
    slow: int = integer_param("Window of the slow average", low=3, high=400, default=26)
    rsi_period: int = integer_param("Window of the relative strength index", low=2, high=100, default=14)
    rsi_min: Decimal = decimal_param(
        "Least strength to go long; to go short it must be at most 100 less this", low="0", high="100", default="55"
    )
    atr_period: int = integer_param("Window of the average true range", low=2, high=100, default=14)
    stop_atr: Decimal = decimal_param("Stop distance in average true ranges", low="0.1", high="20", default="2")
    take_atr: Decimal = decimal_param(
        "Target distance in average true ranges, 0 for none", low="0", high="50", default="4"
    )
    risk_per_trade: Decimal = decimal_param(
        "Share of the symbol's equity lost if the stop is hit", low="0.0001", high="0.2", default="0.01"
    )
    allow_short: bool = flag_param("Trade the opposite crossing too", default=False)


class Momentum(Template):
    """Enter where the fast average crosses the slow one with strength behind it; leave at the opposite crossing."""

    id = "tpl_momentum"
    description = "Follows crossings of two exponential averages confirmed by RSI, with ATR stops."
    params_type = MomentumParams
    risk_defaults: ClassVar[RiskParams] = RiskParams(
        max_open_positions=10, max_trades_per_day=50, max_drawdown_pct=Decimal("0.2"), max_order_rate=60
    )
    params: MomentumParams

    @property
    def fast(self) -> Feature:
        """Return the fast average."""
        return Feature("ema", (self.params.fast,))

    @property
    def slow(self) -> Feature:
        """Return the slow average."""
        return Feature("ema", (self.params.slow,))

    @property
    def strength(self) -> Feature:
        """Return the relative strength index."""
        return Feature("rsi", (self.params.rsi_period,))

    @property
    def span(self) -> Feature:
        """Return the average true range."""
        return Feature("atr", (self.params.atr_period,))

    def features(self) -> tuple[Feature, ...]:
        """Return the features of the strategy's series that `on_candle` reads."""
        return self.fast, self.slow, self.strength, self.span

    def wakes(self) -> Wakes:
        """Wake at crossings only."""
        up = Condition("cross_above", self.fast, self.slow)
        down = Condition("cross_below", self.fast, self.slow)
        if self.params.allow_short:
            return Wakes(flat=(up, down), holding=(up, down))
        return Wakes(flat=(up,), holding=(down,))

    def on_candle(self, view: View) -> Iterator[Intent]:
        """Leave at the opposite crossing; enter at a crossing that strength confirms."""
        turn = self._turn(view)
        if turn is None:
            return
        if view.positions:
            yield from leave(view, SHORT if turn is Direction.LONG else LONG)
        else:
            yield from self._entry(view, turn)

    def on_closed(self, view: View, position: Position) -> Iterator[Intent]:
        """Turn around where the crossing that ended this position is an entry the other way."""
        turn = self._turn(view)
        if position.reason is CloseReason.EXIT_RULE and turn not in (None, position.direction):
            assert turn is not None
            yield from self._entry(view, turn)

    def _turn(self, view: View) -> Direction | None:
        """Return which way the averages crossed at the last candle, if they did."""
        fast, slow = view.feature(self.fast), view.feature(self.slow)
        fast_before, slow_before = view.feature_before(self.fast), view.feature_before(self.slow)
        if fast is None or slow is None or fast_before is None or slow_before is None:
            return None
        if fast > slow and fast_before <= slow_before:
            return Direction.LONG
        if fast < slow and fast_before >= slow_before:
            return Direction.SHORT
        return None

    def _entry(self, view: View, turn: Direction) -> Iterator[Enter]:
        params = self.params
        strength, span = view.feature(self.strength), view.feature(self.span)
        if strength is None or span is None or view.positions or view.entries:
            return
        lead = strength if turn is Direction.LONG else 100.0 - strength
        if (turn is Direction.LONG or params.allow_short) and lead >= float(params.rsi_min):
            yield from protected_entry(
                view,
                turn,
                risk=params.risk_per_trade,
                stop_distance=float(params.stop_atr) * span,
                take_distance=float(params.take_atr) * span,
                reason=f"averages crossed with RSI at {strength:.1f}",
            )
