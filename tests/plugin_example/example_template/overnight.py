"""Overnight: buy at the first close of a day's evening, sell at the first close of its morning."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import ClassVar

from attrs import frozen

from pipaid.sdk import (
    Condition,
    Direction,
    Enter,
    Exit,
    Feature,
    Intent,
    RiskParams,
    Template,
    View,
    Wakes,
    decimal_param,
    integer_param,
)

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@frozen(kw_only=True)
class OvernightParams:
    """The knobs of the overnight trade."""

    morning: int = integer_param("Hour of the day (UTC) to sell", low=0, high=23, default=8, less_than="evening")
    evening: int = integer_param("Hour of the day (UTC) to buy", low=0, high=23, default=20)
    share: Decimal = decimal_param("Share of the capital to hold overnight", above="0", high="1", default="0.5")


class Overnight(Template):
    """Hold from the evening to the morning."""

    id = "tpl_example"
    description = "Buys in the evening and sells in the morning."
    params_type = OvernightParams
    risk_defaults: ClassVar[RiskParams] = RiskParams(max_open_positions=10)
    params: OvernightParams

    def features(self) -> tuple[Feature, ...]:
        """Return the number of the evening and of the morning."""
        return tuple(Feature("period", (DAY_MS, hour * HOUR_MS)) for hour in (self.params.evening, self.params.morning))

    def wakes(self) -> Wakes:
        """Wake once a day to buy and once to sell."""
        evening, morning = self.features()
        return Wakes(flat=(Condition("changes", evening),), holding=(Condition("changes", morning),))

    def on_start(self, view: View) -> Iterator[Intent]:
        """Wait for the evening."""
        return iter(())

    def on_candle(self, view: View) -> Iterator[Intent]:
        """Sell in the morning, buy in the evening."""
        evening, morning = self.features()
        if view.positions and view.feature(morning) != view.feature_before(morning):
            for position in view.positions:
                yield Exit(position_id=position.id)
        elif not view.positions and view.feature(evening) != view.feature_before(evening):
            notional = view.capital * self.params.share
            yield Enter(symbol=view.symbol, direction=Direction.LONG, tag="night", notional=notional)
