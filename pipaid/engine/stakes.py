"""What a strategy has at risk and what its lots have gained, summed as its orders and lots change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Final

from attrs import define, field

from pipaid.engine.book import StrategyExposure, SymbolExposure
from pipaid.model.money import ZERO, exact_sum
from pipaid.model.order import Order, Side
from pipaid.model.position import Direction, Position

_SMALLEST: Final = Decimal("1e-12")
_NONE_HERE: Final = SymbolExposure()


def counted(value: Decimal) -> Decimal:
    """Return a value as exposures count it: rounded up to twelve decimals, so that adding and taking away is exact."""
    return value.quantize(_SMALLEST, ROUND_CEILING)


def direction_of(entry: Order) -> Direction:
    """Return the direction of the lot that an entry opens."""
    return Direction.LONG if entry.side is Side.BUY else Direction.SHORT


def exposure_of(
    positions: Iterable[Position], entries: Sequence[tuple[Order, Decimal]], *, orders: int
) -> StrategyExposure:
    """Sum lots at their entry value and working entries at their reserve price; `orders` is how many orders work."""
    stakes = Stakes()
    for position in positions:
        stakes.hold(position)
    for entry, reserve in entries:
        stakes.work(entry, reserve)
    return stakes.exposure(orders)


@define(eq=False)
class Stakes:
    """Sum up lots at their entry value and working entries at their reserve price, each change by itself.

    `bound` is what both come to by symbol.
    """

    bound: dict[str, Decimal] = field(factory=dict[str, Decimal])
    _lots: dict[str, Decimal] = field(factory=dict[str, Decimal])
    _tags: dict[tuple[str, str], int] = field(factory=dict[tuple[str, str], int])
    _entries: dict[str, tuple[str, Decimal]] = field(factory=dict[str, tuple[str, Decimal]])
    # How many entries work for a lot; those of a lot that is open already open none.
    _openers: dict[str, int] = field(factory=dict[str, int])
    _waiting: int = 0
    _lot_value: Decimal = ZERO
    _entry_value: Decimal = ZERO
    _symbols: dict[str, SymbolExposure] = field(factory=dict[str, SymbolExposure])

    def hold(self, lot: Position) -> None:
        """Count an open lot, or count it as it is now."""
        value, before = counted(lot.open_value), self._lots.get(lot.id)
        self._lots[lot.id] = value
        if before is None:
            self._tag(lot.symbol, lot.tag, 1)
            self._count(lot.symbol, lot.direction, lots=1, waiting=-self._openers.get(lot.id, 0))
            before = ZERO
        if value != before:
            self._lot_value += value - before
            self._bind(lot.symbol, value - before)

    def leave(self, lot: Position) -> None:
        """Count a lot no longer."""
        value = self._lots.pop(lot.id)
        self._lot_value -= value
        self._bind(lot.symbol, -value)
        self._tag(lot.symbol, lot.tag, -1)
        self._count(lot.symbol, lot.direction, lots=-1, waiting=self._openers.get(lot.id, 0))

    def work(self, entry: Order, reserve: Decimal) -> None:
        """Count what is left of a working entry at a price, or count it as it is now."""
        self.end(entry)
        value, lot = counted(entry.remaining * reserve), entry.position_id
        self._entries[entry.client_order_id] = (lot, value)
        self._openers[lot] = self._openers.get(lot, 0) + 1
        self._entry_value += value
        self._bind(entry.symbol, value)
        self._tag(entry.symbol, entry.tag, 1)
        if lot not in self._lots:
            self._count(entry.symbol, direction_of(entry), lots=0, waiting=1)

    def end(self, entry: Order) -> None:
        """Count an entry no longer, if it was counted."""
        counted_as = self._entries.pop(entry.client_order_id, None)
        if counted_as is None:
            return
        lot, value = counted_as
        self._entry_value -= value
        self._bind(entry.symbol, -value)
        self._tag(entry.symbol, entry.tag, -1)
        left = self._openers.pop(lot) - 1
        if left:
            self._openers[lot] = left
        if lot not in self._lots:
            self._count(entry.symbol, direction_of(entry), lots=0, waiting=-1)

    def holds(self, symbol: str) -> bool:
        """Tell whether there is an open lot on a symbol."""
        here = self._symbols.get(symbol, _NONE_HERE)
        return here.longs + here.shorts > here.waiting

    def tagged(self, symbol: str, tag: str) -> bool:
        """Tell whether a working entry or an open lot on a symbol bears a tag."""
        return (symbol, tag) in self._tags

    def exposure(self, orders: int) -> StrategyExposure:
        """Return what is at risk; `orders` is how many orders work."""
        return StrategyExposure(
            positions=len(self._lots),
            position_value=self._lot_value,
            entries=self._waiting,
            entry_value=self._entry_value,
            orders=orders,
            symbols=self._symbols,
        )

    def _bind(self, symbol: str, more: Decimal) -> None:
        self.bound[symbol] = self.bound.get(symbol, ZERO) + more

    def _tag(self, symbol: str, tag: str, more: int) -> None:
        if tag:
            count = self._tags.get((symbol, tag), 0) + more
            if count:
                self._tags[symbol, tag] = count
            else:
                del self._tags[symbol, tag]

    def _count(self, symbol: str, direction: Direction, *, lots: int, waiting: int) -> None:
        """Count lots, and entries that may open one, on a symbol; what was told before stays as it is."""
        more = lots + waiting
        if not more and not waiting:
            return
        self._waiting += waiting
        longs, shorts = (more, 0) if direction is Direction.LONG else (0, more)
        here = self._symbols.get(symbol, _NONE_HERE).moved(longs, shorts, waiting)
        self._symbols = {**self._symbols, symbol: here}
        if here == _NONE_HERE:
            del self._symbols[symbol]


@define(eq=False)
class Gains:
    """Sum up by symbol what open lots have gained; a lot that changed is counted anew when somebody asks."""

    _sums: dict[str, tuple[Decimal, Decimal, Decimal]] = field(factory=dict[str, tuple[Decimal, Decimal, Decimal]])
    _counted: dict[str, Position] = field(factory=dict[str, Position])
    _changed: dict[str, Position | None] = field(factory=dict[str, Position | None])

    def hold(self, lot: Position) -> None:
        """Count an open lot as it is now."""
        self._changed[lot.id] = lot

    def leave(self, lot: Position) -> None:
        """Count a lot no longer."""
        if lot.id in self._counted:
            self._changed[lot.id] = None
        else:
            self._changed.pop(lot.id, None)

    def symbols(self) -> Iterable[str]:
        """Return the symbols on which there may be lots."""
        self._catch_up()
        return self._sums

    def at(self, symbol: str, price: Decimal) -> Decimal:
        """Return the profit of a symbol's open lots at a price, with what their closed parts and fees came to.

        At a price of zero, which is none, they are worth what they cost.
        """
        self._catch_up()
        if symbol not in self._sums:
            return ZERO
        quantity, value, realised = self._sums[symbol]
        return realised + (quantity * price - value if price else ZERO)

    def _catch_up(self) -> None:
        while self._changed:
            lot_id, lot = self._changed.popitem()
            before = self._counted.pop(lot_id, None)
            if before is not None:
                self._add(before, -1)
            if lot is not None:
                self._counted[lot_id] = lot
                self._add(lot, 1)

    def _add(self, lot: Position, times: int) -> None:
        quantity, value, realised = self._sums.get(lot.symbol, (ZERO, ZERO, ZERO))
        sign = times * lot.direction.sign
        self._sums[lot.symbol] = (
            exact_sum(quantity, sign * lot.quantity),
            exact_sum(value, sign * lot.open_value),
            exact_sum(realised, times * lot.pnl),
        )
