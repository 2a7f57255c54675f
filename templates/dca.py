"""Dollar-cost averaging: buy the same amount at every interval of venue time, and leave all lots together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import ClassVar, Final

from attrs import frozen

from pipaid.sdk import (
    Alarm,
    CloseReason,
    Condition,
    Direction,
    Enter,
    ExitAll,
    Feature,
    Instrument,
    Intent,
    Position,
    RiskParams,
    Template,
    Timeframe,
    View,
    Wakes,
    choice_param,
    decimal_param,
    integer_param,
)

DAY_MS: Final = 86_400_000
# In quote currency: where nothing is left, this is wished for, and refused.
LEAST: Final = Decimal("0.01")
INTERVAL_MS: Final[dict[str, int]] = {
    "5m": 300_000,
    "15m": 900_000,
    "1h": 3_600_000,
    "4h": 14_400_000,
    "1d": DAY_MS,
    "1w": 7 * DAY_MS,
}
MONDAY_MS: Final = 4 * DAY_MS  # The epoch was a Thursday, and a week begins on Monday as a venue's weekly candle does.
BUYS_MAX: Final = 10_000


@frozen(kw_only=True)
class DcaParams:
    """The knobs of dollar-cost averaging."""

    interval: str = choice_param("Time between buys, counted from midnight UTC or Monday", choices=tuple(INTERVAL_MS))
    buy_amount: Decimal = decimal_param("Notional of each buy, in quote currency", above="0")
    max_buys: int = integer_param(
        "Most lots held on a symbol at once, 0 for as many as the capital buys", low=0, high=BUYS_MAX, default=0
    )
    take_profit_pct: Decimal = decimal_param(
        "Rise over the average entry at which all lots are sold, as a fraction, 0 for never",
        low="0",
        high="10",
        default="0",
    )
    stop_loss_pct: Decimal = decimal_param(
        "Fall below the average entry at which all lots are sold, as a fraction, 0 (or 1 and more) for never",
        low="0",
        high="10",
        default="0",
    )


class Dca(Template):
    """Buy at deployment and then whenever venue time enters the next interval.

    A target or stop is one price for all lots, reckoned from their average entry: an alarm that is moved with each buy
    and on which all are sold at the market. Once all lots are sold the buying goes on. The last buy before the capital
    is spent may be as small as half the usual amount; the one after it is wished for all the same, so that its refusal
    tells why the buying ends.
    """

    id = "tpl_dca"
    description = "Buys a fixed amount at fixed intervals, with an optional target and stop on the average entry."
    params_type = DcaParams
    # Buying into a fall is the point of it, so the drawdown cap is wide; the capital bounds the number of lots.
    risk_defaults: ClassVar[RiskParams] = RiskParams(max_drawdown_pct=Decimal("0.5"), max_order_rate=60)
    params: DcaParams

    @classmethod
    def check(
        cls,
        params: DcaParams,
        *,
        symbols: Sequence[str],
        timeframe: Timeframe,
        capital: Decimal,
        instruments: Mapping[str, Instrument],
    ) -> dict[str, str]:
        """Hold interval and amount against the strategy's timeframe, capital and venue."""
        mistakes: dict[str, str] = {}
        if INTERVAL_MS[params.interval] < timeframe.ms:
            mistakes["interval"] = f"must be at least the timeframe {timeframe}, got {params.interval}"
        share = capital / len(symbols)
        least = max((instruments[symbol].notional_min for symbol in symbols if symbol in instruments), default=0)
        if params.buy_amount > share:
            mistakes["buy_amount"] = (
                f"must be at most the capital of each symbol ({share:.2f}), got {params.buy_amount}"
            )
        elif params.buy_amount < least:
            mistakes["buy_amount"] = f"must be at least the venue's minimum notional {least}, got {params.buy_amount}"
        elif not params.max_buys and share > params.buy_amount * BUYS_MAX:
            mistakes["buy_amount"] = f"buys more than {BUYS_MAX} lots before the capital is spent; set max_buys"
        return mistakes

    @property
    def period(self) -> Feature:
        """Return the number of the current interval."""
        return Feature("period", (INTERVAL_MS[self.params.interval], self._offset_ms()))

    def features(self) -> tuple[Feature, ...]:
        """Return the features of the strategy's series that `on_candle` reads."""
        return (self.period,)

    def wakes(self) -> Wakes:
        """Wake where venue time enters the next interval."""
        turned = (Condition("changes", self.period),)
        return Wakes(flat=turned, holding=turned)

    def on_start(self, view: View) -> Iterator[Intent]:
        """Buy at once; what is still held is looked after with the params of now."""
        yield self._alarm(view)
        yield from self._buy(view, view.now_ms, first=True)

    def on_candle(self, view: View) -> Iterator[Intent]:
        """Buy if this candle's close is the first of its interval."""
        now, before = view.feature(self.period), view.feature_before(self.period)
        if view.candle is not None and now is not None and before is not None and now != before:
            yield from self._buy(view, view.candle.close_time_ms)

    def on_opened(self, view: View, position: Position) -> Iterator[Intent]:
        """Move the target and the stop to the new average."""
        if self.params.take_profit_pct or self.params.stop_loss_pct:
            yield self._alarm(view)

    def on_price(self, view: View, level: Decimal) -> Iterator[Intent]:
        """Sell all lots: the price has touched their target or their stop."""
        average = self._average(view)
        if average is not None:
            reason = CloseReason.TAKE_PROFIT if level > average else CloseReason.STOP_LOSS
            yield ExitAll(symbol=view.symbol, reason=reason)

    def _buy(self, view: View, at_ms: int, *, first: bool = False) -> Iterator[Intent]:
        params = self.params
        lots, entries = view.positions, view.entries
        if params.max_buys and len(lots) + len(entries) >= params.max_buys:
            return
        spent = sum((lot.quantity * lot.entry_price for lot in lots), Decimal(0))
        spent += sum(((entry.quantity - entry.filled) * entry.price for entry in entries), Decimal(0))
        amount = min(params.buy_amount, view.capital * view.leverage - spent)
        least = max(params.buy_amount / 2, view.instrument.notional_min)
        number = (at_ms - self._offset_ms()) // INTERVAL_MS[params.interval]
        if amount < least and not (first or view.alive(f"B{number - 1}")):
            return
        yield Enter(
            symbol=view.symbol,
            direction=Direction.LONG,
            tag=f"B{number}",
            notional=max(amount, LEAST),
            notional_min=least,
            reason=f"buy of interval {number}",
        )

    def _alarm(self, view: View) -> Alarm:
        """Return the alarm on the common target and stop, each if it is wanted; without lots there is none.

        The levels are exact: no order rests there, so they need no tick, and neither falls on the average by rounding.
        """
        average, target, stop = self._average(view), self.params.take_profit_pct, self.params.stop_loss_pct
        if average is None:
            return Alarm(symbol=view.symbol)
        return Alarm(
            symbol=view.symbol,
            below=average * (1 - stop) if 0 < stop < 1 else None,
            above=average * (1 + target) if target else None,
            exits=True,
        )

    def _average(self, view: View) -> Decimal | None:
        """Return the average entry of the lots that are not on their way out, if there are any."""
        lots = [lot for lot in view.positions if not view.exiting(lot.id)]
        quantity = sum((lot.quantity for lot in lots), Decimal(0))
        return sum((lot.quantity * lot.entry_price for lot in lots), Decimal(0)) / quantity if quantity else None

    def _offset_ms(self) -> int:
        return MONDAY_MS if self.params.interval == "1w" else 0
