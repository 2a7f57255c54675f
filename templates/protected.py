"""The entry that momentum, mean reversion and breakout share: at the market, with a stop, sized by what it may lose."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from pipaid.sdk import Direction, Enter, Exit, View


def protected_entry(
    view: View, direction: Direction, *, risk: Decimal, stop_distance: float, take_distance: float, reason: str
) -> Iterator[Enter]:
    """Yield a market entry with its stop and target at distances from the close; nothing if they make no sense.

    A distance that rounds to less than a tick, or a stop at or below zero, would size the entry absurdly. A target
    distance of zero means no target.
    """
    candle = view.candle
    assert candle is not None
    price = view.instrument.price
    stop = price(candle.close - direction.sign * exact(stop_distance))
    take = price(candle.close + direction.sign * exact(take_distance))
    if stop <= 0 or stop == candle.close or (take_distance and (take <= 0 or take == candle.close)):
        return
    yield Enter(
        symbol=view.symbol,
        direction=direction,
        tag=direction.value,
        risk=risk,
        stop_price=stop,
        take_profit_price=take if take_distance else None,
        reason=reason,
    )


def leave(view: View, directions: frozenset[Direction]) -> Iterator[Exit]:
    """Yield market exits for the symbol's positions of the given directions that are not on their way out already."""
    for position in view.positions:
        if position.direction in directions and not view.exiting(position.id):
            yield Exit(position_id=position.id)


def exact(number: float) -> Decimal:
    """Return the shortest decimal that reads back as this float, as binary digits have no place in a price."""
    return Decimal(repr(number))
