"""How a session's changes are told: the events of the stream, made from orders, fills and positions."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from pipaid.engine.risk import Refused
from pipaid.model.event import (
    OrderCancelled,
    OrderFilled,
    OrderPlaced,
    PositionClosed,
    PositionOpened,
    PositionSummary,
    RiskBlocked,
)
from pipaid.model.moment import iso_millis
from pipaid.model.money import CENT, average
from pipaid.model.order import Fill, Order, OrderFact, OrderStatus, OrderType
from pipaid.model.position import Position


def blocked_event(symbol: str, refused: Refused) -> RiskBlocked:
    """Tell that a cap refused an entry."""
    return RiskBlocked(rule=refused.rule, symbol=symbol, limit=refused.limit, value=refused.value)


def placed_event(order: Order) -> OrderPlaced:
    """Tell that an order goes to the venue; a stop tells its trigger as `stop_price`, a market order no price."""
    return OrderPlaced(
        order_id=order.id,
        client_order_id=order.client_order_id,
        position_id=order.position_id,
        symbol=order.symbol,
        side=order.side.value,
        type=order.type.value,
        qty=order.quantity,
        price=order.price if order.type is OrderType.LIMIT else None,
        stop_price=order.price if order.type in (OrderType.STOP, OrderType.TAKE_PROFIT) else None,
        time_in_force=order.time_in_force.value,
        reduce_only=order.reduce_only,
        placed_at=iso_millis(order.placed_at_ms),
    )


def filled_event(order: Order, fill: Fill, trade_id: str) -> OrderFilled:
    """Tell of one fill; `order` is the order after it."""
    return OrderFilled(
        order_id=order.id,
        client_order_id=order.client_order_id,
        position_id=order.position_id,
        symbol=order.symbol,
        side=order.side.value,
        type=order.type.value,
        qty=order.quantity,
        price=None if order.type is OrderType.MARKET else order.price,
        fill_qty=fill.quantity,
        fill_price=fill.price,
        cum_qty=order.filled,
        avg_price=average(order.filled_value, order.filled),
        fee=fill.fee,
        fee_asset=fill.fee_asset,
        liquidity="maker" if fill.maker else "taker",
        trade_id=trade_id,
        is_complete=order.status is OrderStatus.FILLED,
    )


def cancelled_event(order: Order, fact: OrderFact, asked: str) -> OrderCancelled:
    """Tell that an order ended without being filled wholly; `asked` says why we wanted it so, if we did."""
    if fact is OrderFact.REFUSE:
        reason = "rejected"
    elif fact in (OrderFact.EXPIRE, OrderFact.DENY):
        reason = "expired"
    elif asked:
        reason = "pause" if asked == "pause" else "engine"
    else:
        reason = "exchange"
    return OrderCancelled(
        order_id=order.id,
        client_order_id=order.client_order_id,
        symbol=order.symbol,
        reason=reason,
        filled_qty=order.filled,
        cancelled_at=iso_millis(order.ended_at_ms),
    )


def opened_event(position: Position) -> PositionOpened:
    """Tell that a lot was opened."""
    return PositionOpened(
        position_id=position.id,
        symbol=position.symbol,
        side=position.direction.value,
        qty=position.entry_quantity,
        entry_price=average(position.entry_value, position.entry_quantity),
        notional=_cents(position.entry_value),
        leverage=position.leverage,
        stop_price=position.stop_price,
        take_profit_price=position.take_profit_price,
        opened_at=iso_millis(position.opened_at_ms),
    )


def closed_event(position: Position) -> PositionClosed:
    """Tell that a lot was closed, with its net profit."""
    return PositionClosed(
        position_id=position.id,
        symbol=position.symbol,
        side=position.direction.value,
        qty=position.exit_quantity,
        entry_price=average(position.entry_value, position.entry_quantity),
        exit_price=average(position.exit_value, position.exit_quantity),
        pnl=_cents(position.pnl),
        fee=_cents(position.fees),
        reason=position.reason.value if position.reason is not None else "exit_rule",
        opened_at=iso_millis(position.opened_at_ms),
        closed_at=iso_millis(position.closed_at_ms),
    )


def summary(position: Position) -> PositionSummary:
    """Return an open position as closing events list it."""
    return PositionSummary(
        position_id=position.id,
        symbol=position.symbol,
        side=position.direction.value,
        qty=position.quantity,
        entry_price=average(position.entry_value, position.entry_quantity),
    )


def _cents(value: Decimal) -> Decimal:
    return value.quantize(CENT, rounding=ROUND_HALF_UP)
