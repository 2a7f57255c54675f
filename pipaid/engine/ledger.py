"""Fills become positions: pure bookkeeping in exact decimals."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipaid.errors import InvariantBroken
from pipaid.model.money import ZERO, exact_product, exact_sum, is_bookable
from pipaid.model.order import Fill, Order, OrderFact, OrderStatus, follow
from pipaid.model.position import CloseReason, Direction, Position


def filled_order(order: Order, fill: Fill) -> Order:
    """Return the order after a fill; raise InvariantBroken if the fill cannot be true or goes beyond its quantity."""
    objection = _objection(order, fill)
    if objection is not None:
        raise InvariantBroken(f"fill {fill.id} of order {order.id}: {objection}")
    filled = order.filled + fill.quantity
    if filled > order.quantity:
        raise InvariantBroken(f"order {order.id} of {order.quantity} was filled to {filled}")
    status = follow(order.status, OrderFact.COMPLETE if filled == order.quantity else OrderFact.FILL)
    return msgspec.structs.replace(
        order,
        status=status,
        filled=filled,
        filled_value=exact_sum(order.filled_value, exact_product(fill.quantity, fill.price)),
        fee=exact_sum(order.fee, fill.fee),
        market_step=max(order.market_step, fill.market_step),
        ended_at_ms=fill.time_ms if status is OrderStatus.FILLED else order.ended_at_ms,
    )


def opened_position(order: Order, time_ms: int) -> Position:
    """Return the empty lot that an entry order's first fill opens."""
    return Position(
        id=order.position_id,
        strategy_id=order.strategy_id,
        account=order.account,
        dry_run=order.dry_run,
        run_id=order.run_id,
        symbol=order.symbol,
        direction=Direction.LONG if order.side.sign > 0 else Direction.SHORT,
        leverage=order.leverage,
        tag=order.tag,
        stop_price=order.stop_price,
        take_profit_price=order.take_profit_price,
        opened_at_ms=time_ms,
    )


def entered(position: Position, fill: Fill) -> Position:
    """Return the lot after a fill of its entry order."""
    return msgspec.structs.replace(
        position,
        entry_quantity=position.entry_quantity + fill.quantity,
        entry_value=exact_sum(position.entry_value, exact_product(fill.quantity, fill.price)),
        fees=exact_sum(position.fees, fill.fee),
        market_step=max(position.market_step, fill.market_step),
    )


def fitting(position: Position | None, fill: Fill) -> tuple[Fill | None, Decimal]:
    """Return the part of an exit's fill that its lot has room for, if any, and how much goes beyond the lot.

    The lot bears the whole fee, which does not always divide.
    """
    room = position.quantity if position is not None else ZERO
    if fill.quantity <= room:
        return fill, ZERO
    if room == ZERO:
        return None, fill.quantity
    return msgspec.structs.replace(fill, quantity=room), fill.quantity - room


def left(position: Position, fill: Fill) -> Position:
    """Return the lot after a fill of one of its exits; raise InvariantBroken if it would turn around."""
    exit_quantity = position.exit_quantity + fill.quantity
    if exit_quantity > position.entry_quantity:
        raise InvariantBroken(f"position {position.id} of {position.entry_quantity} was left by {exit_quantity}")
    return msgspec.structs.replace(
        position,
        exit_quantity=exit_quantity,
        exit_value=exact_sum(position.exit_value, exact_product(fill.quantity, fill.price)),
        fees=exact_sum(position.fees, fill.fee),
    )


def funded(position: Position, amount: Decimal, time_ms: int) -> Position:
    """Return the lot after a funding settlement; a positive amount was received. Raise InvariantBroken for nonsense."""
    if not is_bookable(amount):
        raise InvariantBroken(f"funding of position {position.id}: {amount} is no amount")
    return msgspec.structs.replace(position, funding=exact_sum(position.funding, amount), funded_at_ms=time_ms)


def closed(position: Position, reason: CloseReason, time_ms: int) -> Position:
    """Return the lot at its end."""
    return msgspec.structs.replace(position, closed_at_ms=time_ms, reason=reason)


def _objection(order: Order, fill: Fill) -> str | None:
    figures = (fill.quantity, fill.price, fill.fee)
    if not all(map(is_bookable, figures)):
        return "a figure is not a number, or has more than 18 digits before or after the point"
    if not (fill.quantity > ZERO and fill.price > ZERO):
        return f"{fill.quantity} at {fill.price} is no execution"
    if (fill.symbol, fill.side) != (order.symbol, order.side):
        return f"{fill.side} {fill.symbol} does not fill {order.side} {order.symbol}"
    return None


def close_reason(order: Order, fill: Fill) -> CloseReason:
    """Return why a lot is closed by the fill of an order."""
    if fill.liquidation:
        return CloseReason.LIQUIDATION
    return CloseReason(order.reason) if order.reason else CloseReason.EXIT_RULE
