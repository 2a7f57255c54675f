"""Strays: what happened at the venue, or stands there, that no lot and no order of ours accounts for."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from pipaid.model.order import Fill


class StrayKind(StrEnum):
    """What was found."""

    FILL = "fill"
    ORDER = "order"
    FUNDING = "funding"


class Stray(msgspec.Struct, frozen=True, kw_only=True):
    """One thing nobody accounts for, under the venue's own id; `desk` is where, `reason` why it is nobody's.

    `quantity` is signed as it moves the position (funding: the amount), and the whole of what is open for an order.
    """

    id: str
    desk: str
    kind: StrayKind
    symbol: str
    quantity: Decimal
    time_ms: int
    reason: str
    client_order_id: str = ""
    strategy_id: str = ""
    price: Decimal | None = None


def stray_fill(fill: Fill, quantity: Decimal, desk: str, reason: str, *, strategy_id: str = "") -> Stray:
    """Return what nobody accounts for of a fill."""
    return Stray(
        id=fill.id,
        desk=desk,
        kind=StrayKind.FILL,
        symbol=fill.symbol,
        quantity=fill.side.sign * quantity,
        time_ms=fill.time_ms,
        reason=reason,
        client_order_id=fill.client_order_id,
        strategy_id=strategy_id,
        price=fill.price,
    )
