"""What was traded of a symbol within a span of time: its candle, how much money changed hands, and who took."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from pipaid.model.candle import Candle, MarketTrade
from pipaid.model.interval import Interval
from pipaid.model.money import ZERO


class Turnover(msgspec.Struct, frozen=True, gc=False):
    """A candle with all that market data says of it.

    Prices and `quote_volume` are in quote currency, `volume` in base currency. What takers bought is `taken` of the
    volume, for `quote_taken`. Where candles alone are known, who took is not: `trades` and both of these are zero then.
    """

    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    trades: int = 0
    taken: Decimal = ZERO
    quote_taken: Decimal = ZERO

    def and_then(self, later: Turnover) -> Turnover:
        """Return this and what came after it as one."""
        return Turnover(
            self.open_ms,
            self.open,
            max(self.high, later.high),
            min(self.low, later.low),
            later.close,
            self.volume + later.volume,
            self.quote_volume + later.quote_volume,
            self.trades + later.trades,
            self.taken + later.taken,
            self.quote_taken + later.quote_taken,
        )

    def opened_at(self, open_ms: int) -> Turnover:
        """Return the same as the content of a candle that opens at a moment."""
        return self if self.open_ms == open_ms else msgspec.structs.replace(self, open_ms=open_ms)


class Print(msgspec.Struct, frozen=True, gc=False):
    """A market trade with its number, which goes up by one with each trade of its symbol."""

    id: int
    trade: MarketTrade


def turnover_of(trade: MarketTrade, open_ms: int) -> Turnover:
    """Return what one market trade comes to."""
    price, quantity = trade.price, trade.quantity
    value = price * quantity
    taken, quote_taken = (ZERO, ZERO) if trade.buyer_is_maker else (quantity, value)
    return Turnover(open_ms, price, price, price, price, quantity, value, 1, taken, quote_taken)


def guessed(candle: Candle) -> Turnover:
    """Return what a candle alone tells: the money it turned over is its volume at the mean of its four prices."""
    mean = (candle.open + candle.high + candle.low + candle.close) / 4
    prices = (candle.open, candle.high, candle.low, candle.close)
    return Turnover(candle.open_time_ms, *prices, candle.volume, candle.volume * mean)


class Grouping:
    """Build larger candles of smaller ones that come in order; what is missing leaves no candle, or less in one."""

    __slots__ = ("_ends_ms", "interval", "made")

    def __init__(self, interval: Interval) -> None:
        self.interval = interval
        self.made: list[Turnover] = []
        self._ends_ms = 0

    def take(self, small: Iterable[Turnover]) -> None:
        """Take the next smaller candles."""
        for each in small:
            if each.open_ms >= self._ends_ms:
                number = self.interval.number(each.open_ms)
                self._ends_ms = self.interval.opens_ms(number + 1)
                self.made.append(each.opened_at(self.interval.opens_ms(number)))
            else:
                self.made[-1] = self.made[-1].and_then(each)


def grouped(small: Iterable[Turnover], interval: Interval) -> list[Turnover]:
    """Return the larger candles that smaller ones make."""
    grouping = Grouping(interval)
    grouping.take(small)
    return grouping.made
