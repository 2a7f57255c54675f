"""How much: capital over symbols, and the quantity of one entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from pipaid.engine.template import Enter, Template
from pipaid.model.instrument import Instrument
from pipaid.model.money import ONE, ZERO

# Market orders are reserved at a worse price than the last one, so that a moving market cannot carry them over a cap.
MARKET_RESERVE: Final = Decimal("0.01")
_SHARE_TOLERANCE: Final = Decimal("1e-9")


class Room(msgspec.Struct, frozen=True):
    """What a strategy may still bind on one symbol: quote currency of entry notional, and the equity to risk."""

    notional: Decimal
    equity: Decimal


def capital_by_symbol(template: Template, symbols: Sequence[str], capital: Decimal) -> dict[str, Decimal]:
    """Split capital over symbols by the template's allocation; refuse shares that are negative or exceed the whole."""
    shares: Mapping[str, Decimal] = template.allocation(symbols)
    total = sum(shares.values(), ZERO)
    if set(shares) != set(symbols) or any(share < ZERO for share in shares.values()) or total > ONE + _SHARE_TOLERANCE:
        raise ValueError(f"allocation must give each of {list(symbols)} a share, one in all, got {dict(shares)}")
    return {symbol: capital * shares[symbol] for symbol in symbols}


def reserve_price(price: Decimal, *, market: bool) -> Decimal:
    """Return the price at which an entry's exposure is counted before it is filled."""
    return price * (ONE + MARKET_RESERVE) if market else price


def entry_quantity(intent: Enter, *, price: Decimal, instrument: Instrument, room: Room, market: bool) -> Decimal:
    """Return the quantity of an entry on the lot, zero if nothing worth placing is left.

    By `quantity` as wished; by `notional` it is notional / price; by `risk` equity x risk / |price - stop|, so that
    the stop loses that share of the equity. The last two are clamped to what the wish allows, to the room and to what a
    single market order may close again; the first is for the gate to judge.
    """
    if intent.quantity is not None:
        return instrument.quantity(intent.quantity)
    if intent.notional is not None:
        wanted = intent.notional / price
    else:
        assert intent.risk is not None
        assert intent.stop_price is not None
        distance = abs(price - intent.stop_price)
        if distance == ZERO:
            return ZERO
        wanted = max(ZERO, room.equity) * intent.risk / distance
    if intent.quantity_max is not None:
        wanted = min(wanted, intent.quantity_max)
    if intent.notional_max is not None:
        wanted = min(wanted, intent.notional_max / price)
    affordable = max(ZERO, room.notional) / reserve_price(price, market=market)
    return instrument.quantity(min(wanted, affordable, instrument.quantity_max, instrument.market_quantity_max))
