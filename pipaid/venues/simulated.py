"""The desk of the simulated venue: a matching book behind the Desk protocol, inside this process."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec
import trio
from attrs import define, field

from pipaid.engine.matching import MatchingBook
from pipaid.engine.standing import Working
from pipaid.model.candle import MarketTrade
from pipaid.model.order import Execution, Fill, Order, OrderFact
from pipaid.model.position import Position
from pipaid.venues.venue import (
    Capabilities,
    Confirmed,
    DeskUpdate,
    Funding,
    MarketUpdate,
    Opened,
    OrderView,
    Outcome,
    Ranged,
    Refused,
    Unknown,
)
from pipaid.wire.activity import Activity

# Stands between a client id and a number where a venue took the id once more.
AGAIN: Final = "~"
ENDED_KEPT: Final = 4_096
FILLS_KEPT: Final = 4_096
# Nobody waits while all of very many orders are looked at.
VIEWED_AT_ONCE: Final = 500

# Ended ids are remembered for a while only, so a client id is unique among working orders, not for ever.
CAPABILITIES: Final = Capabilities(
    id_unique="open",
    request_expiry=False,
    acts_in_call=True,
    answers_at_once=True,
    lookup_by_client_id=True,
    fills_since=True,
    countdown_cancel=False,
    max_id_len=36,
    stop_orders=True,
)


@define(eq=False)
class _Known:
    """An order that the desk works."""

    working: Working
    fact: OrderFact = OrderFact.ACK
    fills: tuple[Fill, ...] = ()

    def view(self) -> OrderView:
        order = self.working.order
        return OrderView(
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            fact=self.fact,
            filled=self.working.filled,
            fills=self.fills,
        )


@define(eq=False)
class SimulatedDesk:
    """Take one account's orders and match them against what `on_market` is shown.

    It has no memory of its own: `restore` hands it what the journal knows. Each update counts as activity until the
    consumer has dealt with it; a market that plays faster than its updates are dealt with waits for them, which bounds
    what lies in the outbox.
    """

    book: MatchingBook
    activity: Activity
    capabilities: Capabilities = CAPABILITIES
    _now_ms: int = 0
    _outbox: deque[DeskUpdate] = field(factory=deque[DeskUpdate])
    _readers: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    _working: dict[str, _Known] = field(factory=dict[str, _Known])
    # What may be asked about them, and no more: thousands are remembered.
    _ended: OrderedDict[str, OrderView] = field(factory=OrderedDict[str, OrderView])
    _fills: deque[Fill] = field(factory=lambda: deque[Fill](maxlen=FILLS_KEPT))

    def restore(
        self, orders: Iterable[Order], positions: Iterable[Position], prices: Mapping[str, Decimal], now_ms: int
    ) -> None:
        """Take back the account's working orders and open lots from the journal, and the last prices."""
        self._now_ms = now_ms
        reports = self.book.restore(orders, positions, prices, now_ms)
        self._working.update((working.order.client_order_id, _Known(working)) for working in self.book.orders())
        self._report(reports)

    @property
    def waiting(self) -> int:
        """Return how many updates nobody has taken yet."""
        return len(self._outbox)

    @property
    def now_ms(self) -> int:
        """Return the venue's time."""
        return self._now_ms

    def reports(self) -> list[DeskUpdate]:
        """Take out what nobody has taken yet; each goes on counting as activity until whoever took it ends that."""
        taken = list(self._outbox)
        self._outbox.clear()
        return taken

    def forget_lots(self, ids: Iterable[str]) -> None:
        """Drop paper lots that their owner gave up."""
        self.book.forget_lots(ids)

    def on_market(self, update: MarketUpdate) -> None:
        """Match against one update of the market; what it leads to waits in the outbox."""
        if isinstance(update, MarketTrade):
            self._now_ms = update.time_ms
            reports = self.book.traded(update)
        elif isinstance(update, Opened):
            self._now_ms = update.time_ms
            reports = self.book.opened(update.prices, update.time_ms)
        elif isinstance(update, Ranged):
            reports = self.book.ranged(update.candles, update.time_ms)
        elif isinstance(update, Funding):
            reports = self.book.funding(update.symbol, update.rate, update.mark, update.time_ms)
        else:
            self._now_ms = update.time_ms
            return
        if reports:
            self._report(reports)

    async def place(self, order: Order, *, expires_at_ms: int) -> Outcome:
        """Send one order."""
        await trio.lowlevel.checkpoint()
        return self.take(order, expires_at_ms=expires_at_ms)

    def take(self, order: Order, *, expires_at_ms: int) -> Outcome:
        """Take an order that has arrived, if it has not expired and its client id may be used (again)."""
        client_id, unique = order.client_order_id, self.capabilities.id_unique
        if self.capabilities.request_expiry and self._now_ms > expires_at_ms:
            return Refused(f"EXPIRED: the request was good until {expires_at_ms}, and it is {self._now_ms}")
        if client_id in self._working or (unique == "forever" and client_id in self._ended):
            if unique != "none":
                # No proof of a refusal: an order with this id may well be the one that was meant.
                return Unknown(f"DUPLICATE_ID: the client order id {client_id} was used before")
            # What uniqueness would have prevented happens: the venue works a second order.
            order = msgspec.structs.replace(order, client_order_id=f"{client_id}{AGAIN}{len(self._working)}")
        refusal = self.book.place(order)
        if refusal is not None:
            return Refused(refusal)
        working = self.book.working(order.client_order_id)
        assert working is not None, "an order is not matched before the market moves"
        self._working.setdefault(order.client_order_id, _Known(working))
        return Confirmed()

    async def cancel(self, order: Order) -> Outcome:
        """Withdraw an order; refused if it is not working (any more)."""
        await trio.lowlevel.checkpoint()
        return self.withdraw(order)

    def withdraw(self, order: Order) -> Outcome:
        """Withdraw an order whose cancellation has arrived."""
        reports = self.book.cancel(order.client_order_id, self._now_ms)
        self._report(reports)
        return Confirmed() if reports else Refused(f"order {order.client_order_id} is not working")

    async def lookup(self, order: Order) -> OrderView | None:
        """Return a working order, or one that ended not long ago."""
        await trio.lowlevel.checkpoint()
        known = self._working.get(order.client_order_id)
        return self._ended.get(order.client_order_id) if known is None else known.view()

    async def open_orders(self) -> Sequence[OrderView]:
        """Return every working order of the account."""
        views: list[OrderView] = []
        known = list(self._working.values())
        for start in range(0, max(len(known), 1), VIEWED_AT_ONCE):
            await trio.lowlevel.checkpoint()
            some = known[start : start + VIEWED_AT_ONCE]
            views += [each.view() for each in some if each.working.order.client_order_id in self._working]
        return views

    async def fills_since(self, time_ms: int) -> Sequence[Fill]:
        """Return the last fills from a moment on, oldest first; of those before a restart the journal knows."""
        await trio.lowlevel.checkpoint()
        return [fill for fill in self._fills if fill.time_ms >= time_ms]

    async def positions(self) -> Mapping[str, Decimal]:
        """Return the signed net position of each symbol."""
        await trio.lowlevel.checkpoint()
        return self.book.net()

    def updates(self) -> DeskUpdates:
        """Yield what happens to the account's orders; whoever takes an update ends its activity when done with it."""
        return DeskUpdates(self._outbox, self._readers)

    def _report(self, reports: Sequence[DeskUpdate]) -> None:
        for report in reports:
            if isinstance(report, Execution):
                self._remember(report)
        self._outbox.extend(_under_its_own_id(report) for report in reports)
        self.activity.begin(len(reports))
        self._readers.unpark_all()

    def _remember(self, report: Execution) -> None:
        if report.fill is not None:
            self._fills.append(report.fill)
        known = self._working.get(report.client_order_id)
        if known is None:  # The venue's own closing order, or one that ended while nobody was there.
            return
        known.fact = report.fact
        if report.fill is not None:
            known.fills = (*known.fills, report.fill)
        if report.fact is not OrderFact.FILL:
            self._ended[report.client_order_id] = self._working.pop(report.client_order_id).view()
            if len(self._ended) > ENDED_KEPT:
                self._ended.popitem(last=False)


def _under_its_own_id(report: DeskUpdate) -> DeskUpdate:
    """Return a report with the client id that the order was sent with; its fills keep ids of their own."""
    if not isinstance(report, Execution) or AGAIN not in report.client_order_id:
        return report
    client_id = report.client_order_id.partition(AGAIN)[0]
    fill = report.fill and msgspec.structs.replace(report.fill, client_order_id=client_id)
    return msgspec.structs.replace(report, client_order_id=client_id, fill=fill)


@define(eq=False)
class DeskUpdates:
    """Take a desk's updates out of its outbox, in order, as they come."""

    _outbox: deque[DeskUpdate]
    _readers: trio.lowlevel.ParkingLot

    def __aiter__(self) -> DeskUpdates:
        """Return the iterator itself."""
        return self

    async def __anext__(self) -> DeskUpdate:
        """Wait for the next update."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._outbox:
            await self._readers.park()
        return self._outbox.popleft()
