"""Mean reversion: enter against a stretched price, leave when it has come back, give up after a while."""

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
    Exit,
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
from templates.protected import exact, protected_entry

STOPLESS_Z = 4.0  # Without a stop, an entry is sized as if this many deviations were the distance to one.


@frozen(kw_only=True)
class MeanReversionParams:
    """The knobs of mean reversion; distances are in standard deviations of the close from its mean."""

    window: int = integer_param("Candles of the mean and the deviation", low=5, high=500, default=20)
    entry_z: Decimal = decimal_param("Distance at which to enter against the move", low="0.5", high="6", default="2")
    exit_z: Decimal = decimal_param(
        "Distance at which the price has come back", low="0", high="3", default="0.5", less_than="entry_z"
    )
    stop_z: Decimal = decimal_param(
        "Distance of the stop from the mean at entry, or from the close where that is not beyond entry_z; 0 for none "
        "(then sized as with 4)",
        low="0",
        high="12",
        default="4",
    )
    max_hold_candles: int = integer_param(
        "Candles after which a position is closed, 0 for never", low=0, high=10_000, default=200, name="max_hold_bars"
    )
    risk_per_trade: Decimal = decimal_param(
        "Share of the symbol's equity lost if the stop is hit", low="0.0001", high="0.2", default="0.01"
    )
    allow_short: bool = flag_param("Trade stretches to the upside too", default=False)


class MeanReversion(Template):
    """Enter against a close far from its mean, and leave when it is near again, stopped out or held too long."""

    id = "tpl_meanrev"
    description = "Trades against closes far from their mean, with a stop in deviations and a time exit."
    params_type = MeanReversionParams
    risk_defaults: ClassVar[RiskParams] = RiskParams(
        max_open_positions=10, max_trades_per_day=50, max_drawdown_pct=Decimal("0.2"), max_order_rate=60
    )
    params: MeanReversionParams

    @property
    def stretch(self) -> Feature:
        """Return the distance of the close from its mean."""
        return Feature("zscore", (self.params.window,))

    @property
    def deviation(self) -> Feature:
        """Return the standard deviation."""
        return Feature("stddev", (self.params.window,))

    def features(self) -> tuple[Feature, ...]:
        """Return the features of the strategy's series that `on_candle` reads."""
        return self.stretch, self.deviation

    def wakes(self) -> Wakes:
        """Wake at stretches while flat, and while holding at the way back, or at each candle if the time is limited."""
        params = self.params
        low = Condition("at_most", self.stretch, -float(params.entry_z))
        high = Condition("at_least", self.stretch, float(params.entry_z))
        back_up = Condition("at_least", self.stretch, -float(params.exit_z))
        back_down = Condition("at_most", self.stretch, float(params.exit_z))
        return Wakes(
            flat=(low, high) if params.allow_short else (low,),
            holding=(back_up, back_down) if params.allow_short else (back_up,),
            holding_every=params.max_hold_candles > 0,
        )

    def on_candle(self, view: View) -> Iterator[Intent]:
        """Leave when the price has come back or the time is up; enter against a stretch."""
        if not view.positions:
            yield from self._entry(view)
            return
        z = view.feature(self.stretch)
        for position in view.positions:
            if view.exiting(position.id):
                continue
            # A price that jumps over the mean has come back as well.
            if z is not None and -position.direction.sign * z <= float(self.params.exit_z):
                yield Exit(position_id=position.id)
            elif self._is_overdue(view, position):
                yield Exit(position_id=position.id, reason=CloseReason.TIME_EXIT)

    def _is_overdue(self, view: View, position: Position) -> bool:
        longest = self.params.max_hold_candles
        candle = view.candle
        if not longest or candle is None:
            return False
        return candle.close_time_ms - position.opened_at_ms >= longest * view.timeframe.ms

    def _entry(self, view: View) -> Iterator[Enter]:
        params = self.params
        z, deviation = view.feature(self.stretch), view.feature(self.deviation)
        if z is None or deviation is None or view.entries or abs(z) < float(params.entry_z):
            return
        direction = Direction.LONG if z < 0.0 else Direction.SHORT
        if direction is Direction.SHORT and not params.allow_short:
            return
        reason = f"close {abs(z):.2f} deviations from its mean"
        if not params.stop_z:
            yield from _stopless_entry(view, direction, risk=params.risk_per_trade, deviation=deviation, reason=reason)
            return
        covered = abs(z) if params.stop_z > params.entry_z else 0.0
        room = (float(params.stop_z) - covered) * deviation
        if room > 0.0:  # Otherwise the price is beyond the stop already.
            yield from protected_entry(
                view, direction, risk=params.risk_per_trade, stop_distance=room, take_distance=0.0, reason=reason
            )


def _stopless_entry(
    view: View, direction: Direction, *, risk: Decimal, deviation: float, reason: str
) -> Iterator[Enter]:
    candle = view.candle
    assert candle is not None
    distance = exact(STOPLESS_Z * deviation)
    if distance > 0 and view.equity > 0:
        notional = min(view.equity * risk / distance * candle.close, view.capital * view.leverage)
        yield Enter(symbol=view.symbol, direction=direction, tag=direction.value, notional=notional, reason=reason)
