"""What stands on a simulated venue's book: working orders, open lots with their margin, and who goes first."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from attrs import define, field

from pipaid.engine.levels import Level, Levels
from pipaid.model.instrument import Instrument
from pipaid.model.money import ONE, ZERO, price_on_tick
from pipaid.model.order import Execution, Fill, Order, OrderFact, OrderType, Side
from pipaid.model.position import Position

RANK_STOP: Final = 0
RANK_TAKE_PROFIT: Final = 1
RANK_LIMIT: Final = 2
_RANKS: Final = {OrderType.STOP: RANK_STOP, OrderType.TAKE_PROFIT: RANK_TAKE_PROFIT, OrderType.LIMIT: RANK_LIMIT}


@define(eq=False)
class Working:
    """An order on the book, and how far it is filled."""

    order: Order
    filled: Decimal
    step: int
    level: Level[Working | Lot] | None = None

    @property
    def remaining(self) -> Decimal:
        """Return the unfilled quantity."""
        return self.order.quantity - self.filled

    @property
    def rank(self) -> int:
        """Return when it is matched within a phase."""
        return _RANKS[self.order.type]

    @property
    def seniority(self) -> tuple[int, str]:
        """Return its place among equals: the older first, judged by what the order says."""
        return seniority(self.order)


@define(eq=False)
class Lot:
    """An open lot with its isolated margin."""

    id: str
    side: Side
    leverage: int
    opened_at_ms: int
    funded_at_ms: int = 0
    step: int = -1
    quantity: Decimal = ZERO
    entry_quantity: Decimal = ZERO
    entry_value: Decimal = ZERO
    level: Level[Working | Lot] | None = None

    @property
    def rank(self) -> int:
        """Return when its liquidation is matched within a phase: with the stops."""
        return RANK_STOP

    @property
    def seniority(self) -> tuple[int, str]:
        """Return its place among equals."""
        return self.opened_at_ms, self.id


@define(eq=False)
class SymbolBook:
    """What stands on one symbol."""

    instrument: Instrument
    levels: Levels[Working | Lot] = field(factory=Levels[Working | Lot])
    waiting: dict[str, Working] = field(factory=dict[str, Working])
    lots: dict[str, Lot] = field(factory=dict[str, Lot])
    last: Decimal | None = None


def liquidation_price(lot: Lot, instrument: Instrument) -> Decimal:
    """Return the first price on the tick at which margin plus unrealised profit is at most the maintenance margin.

    Per unit: entry / leverage ± (price - entry) = maintenance rate x price. Zero means never.
    """
    sign = lot.side.sign
    if sign > 0 and lot.leverage == 1:
        # Paid for in full: no price can use that up.
        return ZERO
    entry = lot.entry_value / lot.entry_quantity
    price = entry * (ONE - sign * ONE / lot.leverage) / (ONE - sign * instrument.maintenance_rate)
    return price_on_tick(max(ZERO, price), instrument.tick_size, up=sign < 0)


def lot_objection(order: Order, lot: Lot | None) -> str | None:
    """Return why an order does not fit the lot it names, or nothing."""
    if order.reduce_only and lot is None:
        return f"REDUCE_ONLY: lot {order.position_id} is not open"
    if lot is not None and (order.side is lot.side) == order.reduce_only:
        return f"REDUCE_ONLY: a {order.side} order {'opens' if order.reduce_only else 'reduces'} lot {lot.id}"
    return None


def lot_of(position: Position) -> Lot:
    """Return an open position as the book keeps it."""
    return Lot(
        id=position.id,
        side=position.direction.entry_side,
        leverage=position.leverage,
        opened_at_ms=position.opened_at_ms,
        funded_at_ms=position.funded_at_ms,
        step=position.market_step,
        quantity=position.quantity,
        entry_quantity=position.entry_quantity,
        entry_value=position.entry_value,
    )


def new_lot(order: Order, time_ms: int) -> Lot:
    """Return the empty lot that an order's first fill opens."""
    return Lot(id=order.position_id, side=order.side, leverage=order.leverage, opened_at_ms=time_ms)


def executed(fill: Fill, fact: OrderFact, position_id: str) -> Execution:
    """Report a fill."""
    return Execution(
        client_order_id=fill.client_order_id, fact=fact, time_ms=fill.time_ms, fill=fill, position_id=position_id
    )


def ended(working: Working, fact: OrderFact, time_ms: int, detail: str) -> Execution:
    """Report the end of an order that is not filled, or not wholly."""
    order = working.order
    return Execution(
        client_order_id=order.client_order_id,
        fact=fact,
        time_ms=time_ms,
        position_id=order.position_id,
        detail=detail,
    )


def lay_ahead(level: Level[Working | Lot], last: Decimal | None) -> bool:
    """Tell whether a level lay ahead of the last price, so that its order had to wait for the market to come."""
    return last is None or (level.price <= last if level.falling else level.price >= last)


def seniority(order: Order) -> tuple[int, str]:
    """Return an order's place among equals: the older first."""
    return order.placed_at_ms, order.client_order_id
