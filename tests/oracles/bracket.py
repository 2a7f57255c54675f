"""Oversold below an average, with a stop two true ranges away and a target at twice the risk: as a template."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from attrs import frozen

from pipaid.sdk import Condition, Direction, Enter, Feature, Intent, RiskParams, Template, View, Wakes

RSI, SMA, ATR = Feature("rsi", (14,)), Feature("sma", (50,)), Feature("atr", (14,))


@frozen(kw_only=True)
class BracketParams:
    """There is nothing to choose."""


class Bracket(Template):
    """Buy one unit when it is oversold and below its average, and leave at a stop or at a target."""

    id = "tpl_bracket"
    description = "Buys what is oversold, within a bracket."
    params_type = BracketParams
    risk_defaults = RiskParams(
        max_trades_per_day=1_000, max_drawdown_pct=Decimal("0.99"), max_order_rate=1_000, max_open_positions=10
    )

    def features(self) -> tuple[Feature, ...]:
        """Return what is looked at."""
        return RSI, SMA, ATR

    def wakes(self) -> Wakes:
        """Wake while it is oversold and nothing is held."""
        return Wakes(flat=(Condition("below", RSI, 30.0),))

    def on_candle(self, view: View) -> Iterator[Intent]:
        """Enter with a bracket."""
        strength, average, span = view.feature(RSI), view.feature(SMA), view.feature(ATR)
        if strength is None or average is None or span is None or view.positions or view.entries:
            return
        if strength < 30.0 and float(view.price) < average:
            risk = 2 * Decimal(span)
            yield Enter(
                symbol=view.symbol,
                direction=Direction.LONG,
                quantity=Decimal(1),
                stop_price=view.price - risk,
                take_profit_price=view.price + 2 * risk,
            )
