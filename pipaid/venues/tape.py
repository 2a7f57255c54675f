"""What was recorded of one symbol, kept compactly as the text it came in and made into exact decimals when asked."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from pipaid.model.candle import Candle, MarketTrade
from pipaid.model.instrument import MINUTE_MS, Timeframe
from pipaid.model.money import ZERO, plain
from pipaid.model.turnover import Turnover, guessed


@define(eq=False)
class Tape:
    """Rows of one symbol in the order of time: each a moment and some text.

    A candle takes about 60 bytes, and 100 with all that a venue publishes of it.
    """

    symbol: str
    _times: array[int] = field(factory=lambda: array("q"))
    _ends: array[int] = field(factory=lambda: array("q"))
    _text: bytearray = field(factory=bytearray)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._times)

    def add(self, time_ms: int, text: str) -> None:
        """Append a row."""
        self._text += text.encode()
        self._times.append(time_ms)
        self._ends.append(len(self._text))

    @property
    def times(self) -> NDArray[np.int64]:
        """Return the times as a column; while somebody holds it, no row can be added."""
        return np.frombuffer(self._times, dtype=np.int64)

    def time_ms(self, index: int) -> int:
        """Return the time of a row."""
        return self._times[index]

    def fields(self, index: int) -> list[str]:
        """Return the fields of a row as they were recorded."""
        start = self._ends[index - 1] if index else 0
        return self._text[start : self._ends[index]].decode().split(",")

    def after(self, time_ms: int) -> int:
        """Return the index of the first row at or after a moment."""
        return int(np.searchsorted(self.times, time_ms))

    def candle(self, index: int) -> Candle:
        """Return a row of a tape of candles."""
        first, high, low, last, volume = map(Decimal, self.fields(index)[:5])
        return Candle(self.symbol, Timeframe.M1, self._times[index], first, high, low, last, volume)

    def turnover(self, index: int) -> Turnover:
        """Return a row of a tape of candles with what else is known of it."""
        each, more = self.candle(index), self.fields(index)[5:]
        try:
            value, trades, taken, quote_taken = Decimal(more[0]), int(more[1]), Decimal(more[2]), Decimal(more[3])
        except (IndexError, ValueError, InvalidOperation):
            return guessed(each)
        if not all(part.is_finite() and part >= 0 for part in (value, taken, quote_taken)):
            return guessed(each)
        return Turnover(
            each.open_time_ms, each.open, each.high, each.low, each.close, each.volume,
            value, trades, taken, quote_taken,
        )  # fmt: skip

    def trade(self, index: int) -> MarketTrade:
        """Return a row of a tape of market trades."""
        price, quantity, *maker = self.fields(index)
        return MarketTrade(self.symbol, self._times[index], Decimal(price), Decimal(quantity), maker == ["1"])

    def history(self, timeframe: Timeframe, end_ms: int, count: int) -> Iterator[Candle]:
        """Yield the last `count` candles of a timeframe that end at or before a moment; each is whole by then."""
        end_ms -= end_ms % timeframe.ms
        spans = self.spans(timeframe.ms, self.after(end_ms))
        for start, end in spans[-count:] if count else ():
            yield self._joined(start, end, timeframe)

    def spans(self, length_ms: int, end: int) -> list[tuple[int, int]]:
        """Return first and last-but-one index of the rows before `end` that lie in the same interval, one by one."""
        intervals = self.times[:end] // length_ms
        starts: list[int] = np.flatnonzero(np.diff(intervals, prepend=-1)).tolist()
        return list(zip(starts, [*starts[1:], end], strict=True)) if starts else []

    def _joined(self, start: int, end: int, timeframe: Timeframe) -> Candle:
        small = [self.candle(index) for index in range(start, end)]
        return Candle(
            self.symbol,
            timeframe,
            small[0].open_time_ms - small[0].open_time_ms % timeframe.ms,
            small[0].open,
            max(candle.high for candle in small),
            min(candle.low for candle in small),
            small[-1].close,
            sum((candle.volume for candle in small), ZERO),
        )


def candles_of(trades: Tape) -> Tape:
    """Make the minute candles of a tape of market trades; a minute without trades has none."""
    tape = Tape(trades.symbol)
    for start, end in trades.spans(MINUTE_MS, len(trades)):
        prints = [trades.trade(index) for index in range(start, end)]
        prices = [each.price for each in prints]
        volume = sum((each.quantity for each in prints), ZERO)
        value = sum((each.price * each.quantity for each in prints), ZERO)
        bought = [each for each in prints if not each.buyer_is_maker]
        taken = sum((each.quantity for each in bought), ZERO)
        quote_taken = sum((each.price * each.quantity for each in bought), ZERO)
        values = (prices[0], max(prices), min(prices), prices[-1], volume, value, len(prints), taken, quote_taken)
        opened_ms = prints[0].time_ms - prints[0].time_ms % MINUTE_MS
        tape.add(opened_ms, ",".join(plain(Decimal(each)) for each in values))
    return tape
