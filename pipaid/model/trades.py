"""Market trades as columns: exact integers in the finest step that their prices and quantities need."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike, NDArray

from pipaid.errors import InvalidParameter
from pipaid.model.candle import MarketTrade
from pipaid.model.columns import (
    PRICE_DECIMALS_MAX,
    VOLUME_DECIMALS_MAX,
    Candles,
    Floats,
    Integers,
    decimals_of,
)
from pipaid.model.instrument import Timeframe

NAMES: Final = ("time_ms", "price", "quantity", "buyer_is_maker")


@frozen(eq=False)
class Trades:
    """The market trades of one symbol in the order of time, as columns of equal length.

    Times are UTC milliseconds. Prices are whole numbers of 10 to the power of minus `price_decimals` quote units,
    quantities of minus `quantity_decimals` base units; `price` and `quantity` tell them as floats. Make them with
    `from_rows`, which takes floats.
    """

    symbol: str
    time_ms: Integers
    price_units: Integers
    quantity_units: Integers
    buyer_is_maker: NDArray[np.bool_]
    price_decimals: int = 0
    quantity_decimals: int = 0

    def __len__(self) -> int:
        """Return the number of market trades."""
        return len(self.time_ms)

    @classmethod
    def from_rows(
        cls,
        symbol: str,
        *,
        time_ms: ArrayLike,
        price: ArrayLike,
        quantity: ArrayLike,
        buyer_is_maker: ArrayLike | None = None,
    ) -> Trades:
        """Make market trades of columns of numbers; raise InvalidParameter, naming the first, for what cannot be."""
        columns = [np.asarray(column, dtype=np.float64) for column in (time_ms, price, quantity)]
        makers = np.zeros(len(columns[0]), dtype=bool) if buyer_is_maker is None else np.asarray(buyer_is_maker) != 0
        lengths = {len(makers), *map(len, columns)}
        if len(lengths) > 1:
            raise InvalidParameter(f"{symbol}: columns of different lengths: {', '.join(map(str, sorted(lengths)))}")
        if not len(makers):
            raise InvalidParameter(f"{symbol}: no market trades")
        times, prices, quantities = columns
        for wrong, what in (
            (~np.isfinite(times) | (times != np.rint(times)), "the time is no whole number of ms"),
            (~(np.isfinite(prices) & (prices > 0)), "the price is not a number above zero"),
            (~(np.isfinite(quantities) & (quantities > 0)), "the quantity is not a number above zero"),
            (np.diff(times, prepend=times[:1]) < 0, "the time goes back"),
        ):
            found = np.flatnonzero(wrong)
            if len(found):
                raise InvalidParameter(f"{symbol}: market trade {found[0]}: {what}")
        price_decimals = decimals_of(symbol, prices, PRICE_DECIMALS_MAX)
        quantity_decimals = decimals_of(symbol, quantities, VOLUME_DECIMALS_MAX, rounds=True)
        return cls(
            symbol,
            times.astype(np.int64),
            np.rint(prices * 10.0**price_decimals).astype(np.int64),
            np.rint(quantities * 10.0**quantity_decimals).astype(np.int64),
            makers,
            price_decimals,
            quantity_decimals,
        )

    @property
    def price(self) -> Floats:
        """Return the prices as the floats nearest to the exact values."""
        prices: Floats = self.price_units / 10.0**self.price_decimals
        return prices

    @property
    def quantity(self) -> Floats:
        """Return the quantities as the floats nearest to the exact values."""
        quantities: Floats = self.quantity_units / 10.0**self.quantity_decimals
        return quantities

    def part(self, first: int, end: int) -> Trades:
        """Return those from a place on and before another; the columns are shared."""
        rows = slice(first, end)
        return Trades(
            self.symbol,
            self.time_ms[rows],
            self.price_units[rows],
            self.quantity_units[rows],
            self.buyer_is_maker[rows],
            self.price_decimals,
            self.quantity_decimals,
        )

    def trade(self, place: int) -> MarketTrade:
        """Return one market trade with exact decimals."""
        return MarketTrade(
            self.symbol,
            self.time_ms.item(place),
            exact(self.price_units.item(place), self.price_decimals),
            exact(self.quantity_units.item(place), self.quantity_decimals),
            self.buyer_is_maker.item(place),
        )

    def candles(self, timeframe: Timeframe = Timeframe.M1) -> Candles:
        """Return the candles they make; an interval without any has none."""
        intervals = self.time_ms // timeframe.ms
        starts = np.flatnonzero(np.diff(intervals, prepend=-1))
        price = self.price_units
        return Candles.of(
            self.symbol,
            timeframe,
            [
                intervals[starts] * timeframe.ms,
                price[starts],
                np.maximum.reduceat(price, starts),
                np.minimum.reduceat(price, starts),
                price[np.append(starts[1:], len(price)) - 1],
                np.add.reduceat(self.quantity_units, starts),
            ],
            price_decimals=self.price_decimals,
            volume_decimals=self.quantity_decimals,
        )


def exact(units: int, decimals: int) -> Decimal:
    """Return so many units of a decimal step as a decimal."""
    return Decimal(units).scaleb(-decimals)
