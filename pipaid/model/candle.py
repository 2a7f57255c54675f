"""Candles and market trades, and the building of larger candles from smaller ones."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipaid.model.instrument import Timeframe


class Candle(msgspec.Struct, frozen=True, gc=False):
    """One closed interval of one symbol; prices in quote currency, volume in base currency, times in UTC ms."""

    symbol: str
    timeframe: Timeframe
    open_time_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal

    @property
    def close_time_ms(self) -> int:
        """Return the first millisecond after the interval: the moment at which the candle is final."""
        return self.open_time_ms + self.timeframe.ms

    def objection(self) -> str | None:
        """Return why this candle cannot be true, or nothing."""
        prices = (self.open, self.high, self.low, self.close)
        if not all(price.is_finite() and price > 0 for price in prices):
            return "a price is not a positive number"
        if not (self.volume.is_finite() and self.volume >= 0):
            return "the volume is not a number from zero on"
        if self.high < max(self.open, self.close) or self.low > min(self.open, self.close):
            return "high and low do not enclose open and close"
        if self.open_time_ms % self.timeframe.ms:
            return f"the open time is not a multiple of {self.timeframe}"
        return None


class MarketTrade(msgspec.Struct, frozen=True, gc=False):
    """One public print: price in quote currency, quantity in base currency."""

    symbol: str
    time_ms: int
    price: Decimal
    quantity: Decimal
    buyer_is_maker: bool = False


class CandleBuilder:
    """Build candles of one symbol and a larger timeframe from smaller ones.

    A candle is closed by the first smaller candle that ends at or after its own end; an interval without any smaller
    candle yields none, and one with some missing yields what there was.
    """

    __slots__ = ("_forming", "symbol", "timeframe")

    def __init__(self, symbol: str, timeframe: Timeframe) -> None:
        self.symbol = symbol
        self.timeframe = timeframe
        self._forming: Candle | None = None

    def add(self, small: Candle) -> tuple[Candle, ...]:
        """Take the next smaller candle, in time order; return the larger ones it closes (none, one or two)."""
        start = small.open_time_ms - small.open_time_ms % self.timeframe.ms
        closed: list[Candle] = []
        forming = self._forming
        if forming is not None and forming.open_time_ms != start:
            closed.append(forming)
            forming = None
        forming = self._widened(forming, small, start)
        if small.close_time_ms >= forming.close_time_ms:
            closed.append(forming)
            self._forming = None
        else:
            self._forming = forming
        return tuple(closed)

    def _widened(self, forming: Candle | None, small: Candle, start: int) -> Candle:
        if forming is None:
            return Candle(
                self.symbol, self.timeframe, start, small.open, small.high, small.low, small.close, small.volume
            )
        return Candle(
            self.symbol,
            self.timeframe,
            start,
            forming.open,
            max(forming.high, small.high),
            min(forming.low, small.low),
            small.close,
            forming.volume + small.volume,
        )
