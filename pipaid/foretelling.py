"""The past of a strategy's symbols, as far as it can be read in little time, for what is foretold of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import numpy as np
import trio

from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.signals.series import Series
from pipaid.venues.venue import Market

# Nobody waits longer for what is only good to know.
READ_S_MAX: Final = 10.0


async def series_at(market: Market, symbol: str, timeframe: Timeframe, at_ms: int) -> Series:
    """Return a series of its own as it stood at a moment, with all the history that its values depend on."""
    end_ms = at_ms - at_ms % timeframe.ms
    anchor_ms = Series.anchor_ms(end_ms, timeframe)
    count = (end_ms - anchor_ms) // timeframe.ms
    series = Series(symbol, timeframe)
    for candle in await market.history(symbol, timeframe, end_ms=end_ms, count=count):
        if candle.open_time_ms >= anchor_ms:
            series.append(candle)
    return series


async def pasts_of(
    past: Callable[[str, Timeframe, int], Awaitable[Series]],
    symbols: Sequence[str],
    timeframes: Sequence[Timeframe],
    now_ms: int,
    *,
    within_s: float = READ_S_MAX,
) -> dict[str, dict[Timeframe, Candles]]:
    """Return the candles of each symbol and timeframe up to a moment; what takes too long is left out.

    `past` gives a series as it stood at a moment.
    """
    pasts: dict[str, dict[Timeframe, Candles]] = {symbol: {} for symbol in symbols}
    with trio.move_on_after(within_s):
        for symbol, known in pasts.items():
            for timeframe in timeframes:
                series = await past(symbol, timeframe, now_ms)
                if series.length:
                    known[timeframe] = columns_of(series)
    return pasts


def columns_of(series: Series) -> Candles:
    """Return the candles that a series keeps as columns."""
    names = ("open", "high", "low", "close", "volume")
    columns = {name: np.array(getattr(series, name)) for name in names}
    return Candles.from_rows(series.symbol, series.timeframe, time_ms=np.array(series.time_ms), **columns)
