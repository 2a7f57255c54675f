"""What is traded: instruments with the venue's filters, and the timeframes of candles."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

from pipaid.model.money import ZERO, floor_to_step, nearest_tick, plain

MINUTE_MS: Final = 60_000


class Timeframe(StrEnum):
    """The length of candles. A strategy decides on those of `STRATEGY_TIMEFRAMES`; its rules may read others."""

    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H4 = "4h"
    D1 = "1d"

    @property
    def ms(self) -> int:
        """Return the length in milliseconds."""
        return _LENGTH_MS[self]


_LENGTH_MS: Final[dict[Timeframe, int]] = {
    Timeframe.M1: MINUTE_MS,
    Timeframe.M5: 5 * MINUTE_MS,
    Timeframe.M15: 15 * MINUTE_MS,
    Timeframe.M30: 30 * MINUTE_MS,
    Timeframe.H1: 60 * MINUTE_MS,
    Timeframe.H4: 240 * MINUTE_MS,
    Timeframe.D1: 1440 * MINUTE_MS,
}


# What a strategy may be deployed on, as the API tells it.
STRATEGY_TIMEFRAMES: Final = tuple(each for each in Timeframe if each is not Timeframe.M30)


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol of a venue and the filters its orders must pass; zero switches a filter off."""

    symbol: str
    base: str
    quote: str
    tick_size: Decimal
    lot_size: Decimal
    quantity_min: Decimal = ZERO
    quantity_max: Decimal = Decimal(10**9)
    market_quantity_max: Decimal = Decimal(10**9)
    price_min: Decimal = ZERO
    price_max: Decimal = Decimal(10**9)
    notional_min: Decimal = ZERO
    orders_max: int = 200
    maintenance_rate: Decimal = Decimal("0.005")

    def price(self, wanted: Decimal) -> Decimal:
        """Return the nearest price on the tick."""
        return nearest_tick(wanted, self.tick_size)

    def quantity(self, wanted: Decimal) -> Decimal:
        """Return the largest quantity on the lot that is not above the wanted one, zero if below the minimum."""
        rounded = floor_to_step(wanted, self.lot_size)
        return rounded if rounded >= self.quantity_min and rounded > ZERO else ZERO

    def objection(self, *, quantity: Decimal, price: Decimal, reduce_only: bool, market: bool) -> str | None:
        """Return the name and figures of the first filter an order fails, or nothing.

        Reduce-only orders are exempt from the minimum notional, as on the venue this models.
        """
        if not quantity.is_finite():
            return f"LOT_SIZE: quantity {quantity} is not a number"
        if not price.is_finite():
            return f"PRICE_FILTER: price {price} is not a number"
        if not (quantity > ZERO and floor_to_step(quantity, self.lot_size) == quantity):
            return f"LOT_SIZE: quantity {plain(quantity)} is not a positive multiple of {plain(self.lot_size)}"
        if quantity < self.quantity_min or quantity > (self.market_quantity_max if market else self.quantity_max):
            return f"LOT_SIZE: quantity {plain(quantity)} is outside the allowed range"
        if not market and not (price > ZERO and nearest_tick(price, self.tick_size) == price):
            return f"PRICE_FILTER: price {plain(price)} is not a positive multiple of {plain(self.tick_size)}"
        if not market and not self.price_min <= price <= self.price_max:
            return f"PRICE_FILTER: price {plain(price)} is outside the allowed range"
        if not reduce_only and quantity * price < self.notional_min:
            return f"MIN_NOTIONAL: {plain(quantity * price)} is below {plain(self.notional_min)}"
        return None
