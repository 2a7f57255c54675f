"""The last known prices and the venue's time, shared by every session of a venue."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from attrs import define, field

from pipaid.model.money import ZERO


def _never(_: str) -> bool:
    """Data that cannot age."""
    return False


@define
class Quotes:
    """Hold what the market said last; only the feed writes it, and each desk's resolver its own set in `frozen`.

    `now_ms` is venue time, `step` the number of the market step in force, `stale` the symbols on whose prices no entry
    may be based, and `is_aged` looks whether one more has become so just now. `frozen` holds, by the name of the book,
    the symbols on which our lots and the venue disagree.
    """

    now_ms: int = 0
    step: int = 0
    prices: dict[str, Decimal] = field(factory=dict[str, Decimal])
    stale: set[str] = field(factory=set[str])
    is_aged: Callable[[str], bool] = _never
    frozen: dict[str, frozenset[str]] = field(factory=dict[str, frozenset[str]])

    def price(self, symbol: str) -> Decimal:
        """Return the last price, zero if none is known."""
        return self.prices.get(symbol, ZERO)

    def is_stale(self, symbol: str) -> bool:
        """Tell whether no entry may be based on what is known of a symbol."""
        if symbol not in self.stale and self.is_aged(symbol):
            self.stale.add(symbol)
        return symbol in self.stale

    def is_frozen(self, book: str, symbol: str) -> bool:
        """Tell whether a book may not enter on a symbol because what it holds there is in dispute."""
        return symbol in self.frozen.get(book, ())
