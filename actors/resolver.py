"""One resolver per desk: settles orders of unknown outcome by evidence, and compares the books with the venue."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Final

import structlog
import trio
from attrs import define, field

from actors.actor import REQUEST_WINDOW_MS, Inbox, OrderNews
from pipaid.engine.quotes import Quotes
from pipaid.errors import ExchangeError, Unavailable
from pipaid.model.money import ZERO
from pipaid.model.order import Execution, Order, OrderFact, OrderStatus
from pipaid.model.position import Position
from pipaid.seams import Clock
from pipaid.venues.venue import Desk, OrderView
from pipaid.wire.activity import Activity

log = structlog.get_logger()
DOUBTS_MAX: Final = 10_000
TOMBSTONES_MAX: Final = 10_000
ENDS: Final = frozenset({OrderFact.COMPLETE, OrderFact.CANCEL, OrderFact.EXPIRE, OrderFact.REFUSE})
TOMBSTONE_MS: Final = 86_400_000
FENCE_MARGIN_MS: Final = 1_000
ASK_EVERY_S: Final = 0.5
LOOK_EVERY_S: Final = 5.0
COMPARE_EVERY_S: Final = 30.0
# The world's trouble, not ours: what was not answered is asked again.
OUTAGES: Final = (ExchangeError, Unavailable, OSError)


@define(eq=False)
class Resolver:
    """End doubt about orders: found at the venue, or denied by it once it can no longer accept the request.

    `doubts` holds orders with the venue time until which they may still be accepted, `tombstones` those proven absent,
    for a day, should one appear after all. The symbols on which our lots and the venue's position disagree are frozen
    in the quotes: no entry is made there until they agree again. `ended` is told of orders that will not fill any more.
    """

    name: str
    desk: Desk
    quotes: Quotes
    clock: Clock
    activity: Activity
    inbox: Callable[[str], Inbox | None]
    lots: Callable[[], Iterable[Position]]
    ended: Callable[[str], None]
    doubts: dict[str, tuple[Order, int]] = field(factory=dict[str, tuple[Order, int]])
    tombstones: OrderedDict[str, tuple[Order, int]] = field(factory=OrderedDict[str, tuple[Order, int]])
    unassigned: dict[str, Decimal] = field(factory=dict[str, Decimal])
    _suspects: dict[str, Decimal] = field(factory=dict[str, Decimal])
    _interrupted: bool = False

    @property
    def frozen(self) -> frozenset[str]:
        """Return the symbols on which nothing is entered."""
        return self.quotes.frozen.get(self.name, frozenset())

    def doubt(self, order: Order, expires_at_ms: int) -> None:
        """Take an order whose outcome is unknown; a full list refuses nothing, for the next comparison finds it."""
        if len(self.doubts) < DOUBTS_MAX:
            self.doubts[order.client_order_id] = (order, expires_at_ms)

    def reconnected(self) -> None:
        """Take note that the desk's stream was interrupted: everything is to be compared at once."""
        self._interrupted = True

    async def reconcile(self, orders: Iterable[Order]) -> int:
        """Compare working orders with the venue before anything else happens; return how many differed.

        To do it twice changes nothing: what the venue shows is booked by facts that derive from the venue's own.
        """
        settled = 0
        for order in orders:
            view = await self.desk.lookup(order)
            if view is None and not self.desk.capabilities.acts_in_call:
                # It may have left just before we went down: whatever was sent until now can be accepted for a while.
                self.doubt(order, self.quotes.now_ms + REQUEST_WINDOW_MS)
                continue
            settled += await self._settle(order, view)
        return settled

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask about doubtful orders, look for late ones and compare positions, until cancelled."""
        task_status.started()
        looked_s = compared_s = self.clock.monotonic_s()
        while True:
            await self.clock.sleep(ASK_EVERY_S)
            await self._ask()
            now_s = self.clock.monotonic_s()
            try:
                if self._interrupted:
                    looked_s = compared_s = -COMPARE_EVERY_S
                    self._interrupted = False
                if now_s - looked_s >= LOOK_EVERY_S:
                    looked_s = now_s
                    await self._look_for_late()
                if now_s - compared_s >= COMPARE_EVERY_S:
                    compared_s = now_s
                    await self.compare()
            except OUTAGES as outage:
                log.warning("desk.silent", desk=self.name, reason=str(outage))

    async def _ask(self) -> None:
        for client_id, doubt in list(self.doubts.items()):
            order, expires_at_ms = doubt
            # Judged before asking: a denial counts only if the request could not be accepted any more by then.
            fenced = self.desk.capabilities.acts_in_call or self.quotes.now_ms > expires_at_ms + FENCE_MARGIN_MS
            try:
                view = await self.desk.lookup(order)
            except OUTAGES as outage:
                log.warning("desk.silent", desk=self.name, order_id=order.id, reason=str(outage))
                continue
            if view is None and not fenced:
                continue
            await self._settle(order, view)
            if self.doubts.get(client_id) is doubt:
                del self.doubts[client_id]

    async def _look_for_late(self) -> None:
        """Adopt an order that works at the venue although it was proven absent."""
        now_ms = self.quotes.now_ms
        while self.tombstones and next(iter(self.tombstones.values()))[1] < now_ms:
            self.tombstones.popitem(last=False)
        if not self.tombstones:
            return
        for view in await self.desk.open_orders():
            order, _ = self.tombstones.pop(view.client_order_id, (None, 0))
            inbox = self.inbox(order.strategy_id) if order is not None else None
            if order is not None and inbox is not None:
                log.error("order.risen", desk=self.name, strategy_id=order.strategy_id, order_id=order.id)
                await inbox.deliver(Execution(client_order_id=view.client_order_id, fact=OrderFact.ACK, time_ms=now_ms))
                await self._adopt(inbox, order, view)

    async def _settle(self, order: Order, view: OrderView | None) -> int:
        """Tell the strategy what the venue shows of its order, or that it denies knowing it."""
        inbox = self.inbox(order.strategy_id)
        if inbox is None:
            log.error("order.unassigned", desk=self.name, strategy_id=order.strategy_id, order_id=order.id)
            return 0
        if view is not None:
            return await self._adopt(inbox, order, view)
        client_id = order.client_order_id
        self.tombstones[client_id] = (order, self.quotes.now_ms + TOMBSTONE_MS)
        while len(self.tombstones) > TOMBSTONES_MAX:
            self.tombstones.popitem(last=False)
        fact = OrderFact.CANCEL if order.status is OrderStatus.OPEN else OrderFact.DENY
        log.warning("order.absent", strategy_id=order.strategy_id, order_id=order.id, fact=fact.value)
        await inbox.deliver(OrderNews(((client_id, fact, "the venue does not know it"),)))
        self.ended(client_id)
        return 1

    async def _adopt(self, inbox: Inbox, order: Order, view: OrderView) -> int:
        told = 0
        # Fills come oldest first, and a venue may have forgotten the oldest. What the order holds already is skipped by
        # quantity; the journal guards the rest.
        booked = order.filled - (view.filled - sum((fill.quantity for fill in view.fills), ZERO))
        for fill in view.fills:
            if booked >= fill.quantity:
                booked -= fill.quantity
                continue
            client_id = order.client_order_id
            await inbox.deliver(
                Execution(client_order_id=client_id, fact=OrderFact.FILL, time_ms=fill.time_ms, fill=fill)
            )
            told += 1
        if view.fact in (OrderFact.CANCEL, OrderFact.EXPIRE, OrderFact.REFUSE):
            await inbox.deliver(OrderNews(((order.client_order_id, view.fact, "settled by asking the venue"),)))
            told += 1
        elif not told and order.status is not OrderStatus.OPEN:
            await inbox.deliver(OrderNews(((order.client_order_id, OrderFact.ACK, ""),)))
            told += 1
        if view.fact in ENDS:
            self.ended(order.client_order_id)
        return told

    async def compare(self) -> None:
        """Hold the venue's position of each symbol against the sum of our lots; freeze what differs twice running.

        What is under way makes them differ for a moment: the same difference, twice in a row, is no moment. What is
        frozen stays so while it differs, by whatever amount.
        """
        ours: dict[str, Decimal] = {}
        for lot in self.lots():
            ours[lot.symbol] = ours.get(lot.symbol, ZERO) + lot.direction.sign * lot.quantity
        theirs: Mapping[str, Decimal] = await self.desk.positions()
        differing = {
            symbol: theirs.get(symbol, ZERO) - ours.get(symbol, ZERO)
            for symbol in sorted({*ours, *theirs})
            if theirs.get(symbol, ZERO) != ours.get(symbol, ZERO)
        }
        frozen = frozenset(
            symbol
            for symbol, amount in differing.items()
            if symbol in self.frozen or self._suspects.get(symbol) == amount
        )
        self._suspects = differing
        self.unassigned = {symbol: differing[symbol] for symbol in sorted(frozen)}
        if frozen == self.frozen:
            return
        tell = log.error if frozen - self.frozen else log.warning
        tell("position.unassigned", desk=self.name, amounts={s: str(amount) for s, amount in self.unassigned.items()})
        self.quotes.frozen[self.name] = frozen
