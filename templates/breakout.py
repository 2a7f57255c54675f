"""Breakout: enter where the close leaves the channel of the candles before it, trail out at a shorter channel."""

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

CLOSE = Feature("close")


@frozen(kw_only=True)
class BreakoutParams:
    """The knobs of breakout."""

    lookback: int = integer_param("Candles of the channel to break out of", low=2, high=500, default=24)
    exit_lookback: int = integer_param("Candles of the channel that ends a position", low=1, high=500, default=12)
    atr_period: int = integer_param("Window of the average true range", low=2, high=100, default=14)
    stop_atr: Decimal = decimal_param("Stop distance in average true ranges", low="0.1", high="20", default="2")
    risk_per_trade: Decimal = decimal_param(
        "Share of the symbol's equity lost if the stop is hit", low="0.0001", high="0.2", default="0.01"
    )
    allow_short: bool = flag_param("Trade breakouts to the downside too", default=False)


class Breakout(Template):
    """Enter at a close beyond the extremes of the `lookback` candles before; leave beyond those of `exit_lookback`."""

    id = "tpl_breakout"
    description = "Trades closes beyond the previous candles' channel, with ATR stops and a channel exit."
    params_type = BreakoutParams
    risk_defaults: ClassVar[RiskParams] = RiskParams(
        max_open_positions=10, max_trades_per_day=50, max_drawdown_pct=Decimal("0.2"), max_order_rate=60
    )
    params: BreakoutParams

    @property
    def top(self) -> Feature:
        """Return the highest high of the candles before, to break above."""
        return Feature("channel_high", (self.params.lookback,))

    @property
    def bottom(self) -> Feature:
        """Return the lowest low of the candles before, to break below."""
        return Feature("channel_low", (self.params.lookback,))

    @property
    def exit_top(self) -> Feature:
        """Return the high whose breaking ends a short position."""
        return Feature("channel_high", (self.params.exit_lookback,))

    @property
    def exit_bottom(self) -> Feature:
        """Return the low whose breaking ends a long position."""
        return Feature("channel_low", (self.params.exit_lookback,))

    @property
    def span(self) -> Feature:
        """Return the average true range."""
        return Feature("atr", (self.params.atr_period,))

    def features(self) -> tuple[Feature, ...]:
        """Return the features of the strategy's series that `on_candle` reads."""
        return CLOSE, self.top, self.bottom, self.exit_top, self.exit_bottom, self.span

    def wakes(self) -> Wakes:
        """Wake at closes beyond a channel only."""
        up, exit_short = Condition("above", CLOSE, self.top), Condition("above", CLOSE, self.exit_top)
        down, exit_long = Condition("below", CLOSE, self.bottom), Condition("below", CLOSE, self.exit_bottom)
        if self.params.allow_short:
            return Wakes(flat=(up, down), holding=(exit_long, exit_short))
        return Wakes(flat=(up,), holding=(exit_long,))

    def on_candle(self, view: View) -> Iterator[Intent]:
        """Leave beyond the exit channel, or enter beyond the entry channel."""
        if view.positions:
            ended = {
                direction
                for direction, broken in (
                    (Direction.LONG, _beyond(view, self.exit_bottom, -1)),
                    (Direction.SHORT, _beyond(view, self.exit_top, 1)),
                )
                if broken
            }
            yield from leave(view, frozenset(ended))
        else:
            yield from self._entry(view)

    def on_closed(self, view: View, position: Position) -> Iterator[Intent]:
        """Turn around where the candle that ended this position broke out the other way."""
        if position.reason is CloseReason.EXIT_RULE:
            for entry in self._entry(view):
                if entry.direction is not position.direction:
                    yield entry

    def _entry(self, view: View) -> Iterator[Enter]:
        span = view.feature(self.span)
        if span is None or view.positions or view.entries:
            return
        if _beyond(view, self.top, 1):
            direction, words = Direction.LONG, "above the highest high"
        elif self.params.allow_short and _beyond(view, self.bottom, -1):
            direction, words = Direction.SHORT, "below the lowest low"
        else:
            return
        yield from protected_entry(
            view,
            direction,
            risk=self.params.risk_per_trade,
            stop_distance=float(self.params.stop_atr) * span,
            take_distance=0.0,
            reason=f"close {words} of {self.params.lookback} candles",
        )


def _beyond(view: View, edge: Feature, sign: int) -> bool:
    close, level = view.feature(CLOSE), view.feature(edge)
    return close is not None and level is not None and sign * close > sign * level
