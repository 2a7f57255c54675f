"""Intents, orders and fills, and the closed table of what may happen to an order."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

from pipaid.errors import InvariantBroken
from pipaid.model.money import ZERO


class Side(StrEnum):
    """The direction of an order."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """Return +1 for a buy and -1 for a sell."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """Return the side that undoes this one."""
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    """How an order meets the market; stops and take-profits are market orders once their price is touched."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    TAKE_PROFIT = "take_profit"


class TimeInForce(StrEnum):
    """How long an order rests."""

    GTC = "GTC"
    IOC = "IOC"


class OrderStatus(StrEnum):
    """Where an order stands in what we know of it."""

    INTENDED = "intended"
    UNKNOWN = "unknown"
    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    ABSENT = "absent"


class OrderFact(StrEnum):
    """What can be learned about an order."""

    ACK = "ack"
    REFUSE = "refuse"
    LOSE = "lose"
    FILL = "fill"
    COMPLETE = "complete"
    CANCEL = "cancel"
    EXPIRE = "expire"
    DENY = "deny"


_UNSETTLED: Final = {
    OrderFact.ACK: OrderStatus.OPEN,
    OrderFact.REFUSE: OrderStatus.REJECTED,
    OrderFact.LOSE: OrderStatus.UNKNOWN,
    OrderFact.FILL: OrderStatus.OPEN,
    OrderFact.COMPLETE: OrderStatus.FILLED,
    OrderFact.CANCEL: OrderStatus.CANCELLED,
    OrderFact.EXPIRE: OrderStatus.EXPIRED,
    OrderFact.DENY: OrderStatus.ABSENT,
}

# What is not listed is impossible: it puts the strategy in `error` and keeps the evidence. Fills that arrive after an
# order's end are booked all the same; an order once proven absent that appears after all is adopted. An order whose
# fill was quicker than the answer to its placing is open, even if that answer is then lost. One that was open, and of
# which the venue knows nothing any more, has ended.
ORDER_TRANSITIONS: Final[dict[tuple[OrderStatus, OrderFact], OrderStatus]] = {
    **{(OrderStatus.INTENDED, fact): status for fact, status in _UNSETTLED.items()},
    **{(OrderStatus.UNKNOWN, fact): status for fact, status in _UNSETTLED.items()},
    (OrderStatus.OPEN, OrderFact.ACK): OrderStatus.OPEN,
    (OrderStatus.OPEN, OrderFact.LOSE): OrderStatus.OPEN,
    (OrderStatus.OPEN, OrderFact.FILL): OrderStatus.OPEN,
    (OrderStatus.OPEN, OrderFact.COMPLETE): OrderStatus.FILLED,
    (OrderStatus.OPEN, OrderFact.CANCEL): OrderStatus.CANCELLED,
    (OrderStatus.OPEN, OrderFact.EXPIRE): OrderStatus.EXPIRED,
    (OrderStatus.OPEN, OrderFact.DENY): OrderStatus.CANCELLED,
    (OrderStatus.FILLED, OrderFact.ACK): OrderStatus.FILLED,
    (OrderStatus.CANCELLED, OrderFact.ACK): OrderStatus.CANCELLED,
    (OrderStatus.CANCELLED, OrderFact.CANCEL): OrderStatus.CANCELLED,
    (OrderStatus.CANCELLED, OrderFact.FILL): OrderStatus.CANCELLED,
    (OrderStatus.CANCELLED, OrderFact.COMPLETE): OrderStatus.FILLED,
    (OrderStatus.EXPIRED, OrderFact.ACK): OrderStatus.EXPIRED,
    (OrderStatus.EXPIRED, OrderFact.EXPIRE): OrderStatus.EXPIRED,
    (OrderStatus.EXPIRED, OrderFact.FILL): OrderStatus.EXPIRED,
    (OrderStatus.EXPIRED, OrderFact.COMPLETE): OrderStatus.FILLED,
    (OrderStatus.ABSENT, OrderFact.ACK): OrderStatus.OPEN,
    (OrderStatus.ABSENT, OrderFact.FILL): OrderStatus.OPEN,
    (OrderStatus.ABSENT, OrderFact.COMPLETE): OrderStatus.FILLED,
    (OrderStatus.ABSENT, OrderFact.DENY): OrderStatus.ABSENT,
}

WORKING: Final = frozenset({OrderStatus.INTENDED, OrderStatus.UNKNOWN, OrderStatus.OPEN})


def follow(status: OrderStatus, fact: OrderFact) -> OrderStatus:
    """Return the status after a fact; raise InvariantBroken for a pair that the table does not hold."""
    try:
        return ORDER_TRANSITIONS[status, fact]
    except KeyError:
        raise InvariantBroken(f"an order that is {status} cannot {fact}") from None


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One order of one strategy; the price of a market order is the mark it was judged at.

    `position_id` names the lot it opens or reduces; `tag` is the template's own word for it (a grid level).
    `market_step` is the step of the market in which it was born or last filled: a simulated desk matches it only
    against later steps, so that going through a step again after a crash changes nothing.
    """

    id: str
    client_order_id: str
    strategy_id: str
    account: str
    dry_run: bool
    run_id: str
    position_id: str
    symbol: str
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal
    reduce_only: bool
    time_in_force: TimeInForce = TimeInForce.GTC
    leverage: int = 1
    tag: str = ""
    reason: str = ""
    stop_price: Decimal | None = None
    take_profit_price: Decimal | None = None
    status: OrderStatus = OrderStatus.INTENDED
    filled: Decimal = ZERO
    filled_value: Decimal = ZERO
    fee: Decimal = ZERO
    cancelling: bool = False
    market_step: int = 0
    placed_at_ms: int = 0
    ended_at_ms: int = 0
    detail: str = ""

    @property
    def working(self) -> bool:
        """Tell whether the venue may still fill it."""
        return self.status in WORKING

    @property
    def remaining(self) -> Decimal:
        """Return the unfilled quantity."""
        return self.quantity - self.filled


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """One execution; `id` is the venue's own and books it exactly once."""

    id: str
    client_order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    maker: bool
    time_ms: int
    market_step: int = 0
    liquidation: bool = False


class BookedFill(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fill as the journal keeps it: whose it is, and for which order and lot.

    `unassigned` is how much of it no lot accounts for: it left a lot that was gone already.
    """

    fill: Fill
    strategy_id: str
    order_id: str
    position_id: str
    dry_run: bool
    trade_id: str
    unassigned: Decimal = ZERO


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue reports of one order: a fact, with the fill that caused it, if one did.

    `position_id` names the lot where the venue knows it: always for closing orders that it placed by itself.
    """

    client_order_id: str
    fact: OrderFact
    time_ms: int
    fill: Fill | None = None
    position_id: str = ""
    detail: str = ""


class FundingPaid(msgspec.Struct, frozen=True, kw_only=True):
    """Funding was settled on one lot; positive amounts were received (quote currency)."""

    id: str
    position_id: str
    symbol: str
    amount: Decimal
    time_ms: int


PHASES: Final = 4


def market_step(time_ms: int, phase: int) -> int:
    """Return the number of a market step: venue time and, within it, 0 opened, 1 ranged, 2 closed or traded.

    The number grows with what happens: where a candle closes and the next one opens at the same moment, the closing
    (2) comes first, so that an order decided on it is matched at that opening.
    """
    return time_ms * PHASES + (phase + 2) % PHASES
