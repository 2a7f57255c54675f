"""The price levels of a grid, and which of them it trades on which side."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from decimal import Decimal

from attrs import frozen

from pipaid.sdk import Direction


@frozen
class Rung:
    """One entry of a grid: opened at `price` and closed at `target`, the level next to it.

    `reached` is how far from its level the price must have gone before the order is placed anew.
    """

    number: int
    direction: Direction
    price: Decimal
    target: Decimal
    reached: Decimal

    @property
    def tag(self) -> str:
        """Return the name of the rung's orders and positions."""
        return f"L{self.number}"

    def is_clear_of(self, price: Decimal) -> bool:
        """Tell whether the price is on the side from which the order can rest, and far enough."""
        return self.direction.sign * (price - self.reached) >= 0


def ladder(lower: Decimal, upper: Decimal, count: int, *, geometric: bool) -> tuple[Decimal, ...]:
    """Return `count` prices from lower to upper, at equal distances or at equal ratios."""
    if geometric:
        ratio = upper / lower
        inner = [lower * ratio ** (Decimal(rung) / (count - 1)) for rung in range(1, count - 1)]
    else:
        step = (upper - lower) / (count - 1)
        inner = [lower + step * rung for rung in range(1, count - 1)]
    return (lower, *inner, upper)


def rung_up(prices: tuple[Decimal, ...], number: int, threshold: Decimal) -> Rung:
    """Return the rung that buys at a level and sells at the next one up."""
    price, target = prices[number], prices[number + 1]
    return Rung(number, Direction.LONG, price, target, price + threshold * (target - price))


def rung_down(prices: tuple[Decimal, ...], number: int, threshold: Decimal) -> Rung:
    """Return the rung that sells short at a level and buys back at the next one down."""
    price, target = prices[number], prices[number - 1]
    return Rung(number, Direction.SHORT, price, target, price - threshold * (price - target))


def rungs(prices: tuple[Decimal, ...], *, side: str, start: Decimal, threshold: Decimal) -> tuple[Rung, ...]:
    """Return a grid's rungs from the lowest up; a neutral one buys below the starting price and sells above it.

    Levels that the tick has merged into one are no rungs, as nothing could be earned between them.
    """
    last = len(prices) - 1
    found: list[Rung] = []
    for number, price in enumerate(prices):
        buys = side == "long" or (side == "neutral" and price < start)
        if buys and number < last and price < prices[number + 1]:
            found.append(rung_up(prices, number, threshold))
        if not buys and number > 0 and price > prices[number - 1]:
            found.append(rung_down(prices, number, threshold))
    return tuple(found)


def target_of(prices: tuple[Decimal, ...], number: int, direction: Direction, entry: Decimal) -> Decimal:
    """Return where a position is closed: at the level next to the one it was opened at, beyond its entry price.

    After a change of params the number may name another level or none, and the entry price decides alone. Beyond the
    last level the ladder goes on with its last interval.
    """
    level = prices[number] if 0 <= number < len(prices) else entry
    if direction is Direction.LONG:
        above = bisect_right(prices, max(level, entry))
        return prices[above] if above < len(prices) else entry + prices[-1] - prices[-2]
    below = bisect_left(prices, min(level, entry)) - 1
    return prices[below] if below >= 0 else max(entry - (prices[1] - prices[0]), entry / 2)
