"""One resolver per desk: settles orders of unknown outcome by evidence, and compares the books with the venue."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Final

import structlog
import trio
from attrs import define, field

from actors.actor import Inbox, OrderNews
from pipaid.engine.quotes import Quotes
from pipaid.model.money import ZERO
from pipaid.model.order import Execution, Order, OrderFact
from pipaid.model.position import Position
from pipaid.seams import Clock
from pipaid.venues.venue import Desk, OrderView
from pipaid.wire.activity import Activity

log = structlog.get_logger()
DOUBTS_MAX: Final = 10_000
TOMBSTONES_MAX: Final = 10_000
TOMBSTONE_MS: Final = 86_400_000
FENCE_MARGIN_MS: Final = 1_000
ASK_EVERY_S: Final = 0.5
COMPARE_EVERY_S: Final = 30.0


@define(eq=False)
class Resolver:
    """End doubt about orders: found at the venue, or denied by it once it can no longer accept the request.

    `doubts` holds orders with the venue time from which a denial counts, `tombstones` the ids proven absent, for a
    day. `frozen` are the symbols on which our lots and the venue's position disagree: no entry is made there.
    """

    name: str
    desk: Desk
    quotes: Quotes
    clock: Clock
    activity: Activity
    inbox: Callable[[str], Inbox | None]
    lots: Callable[[], Iterable[Position]]
    freeze: Callable[[set[str]], None]
    doubts: dict[str, tuple[Order, int]] = field(factory=dict[str, tuple[Order, int]])
    tombstones: OrderedDict[str, int] = field(factory=OrderedDict[str, int])
    frozen: set[str] = field(factory=set[str])
    unassigned: dict[str, Decimal] = field(factory=dict[str, Decimal])
    _suspects: dict[str, Decimal] = field(factory=dict[str, Decimal])

    def doubt(self, order: Order, expires_at_ms: int) -> None:
        """Take an order whose outcome is unknown; a full list refuses nothing, for the next comparison finds it."""
        if len(self.doubts) < DOUBTS_MAX:
            self.doubts[order.client_order_id] = (order, expires_at_ms)

    async def reconcile(self, orders: Iterable[Order]) -> int:
        """Compare working orders with the venue before anything else happens; return how many differed.

        To do it twice changes nothing: what the venue shows is booked by facts that derive from the venue's own.
        """
        settled = 0
        for order in orders:
            view = await self._view(order)
            settled += await self._settle(order, view, denied=view is None)
        return settled

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask about doubtful orders and compare positions, until cancelled."""
        task_status.started()
        compared_s = self.clock.monotonic_s()
        while True:
            await self.clock.sleep(ASK_EVERY_S)
            await self._ask()
            now_s = self.clock.monotonic_s()
            if now_s - compared_s >= COMPARE_EVERY_S:
                compared_s = now_s
                await self.compare()

    async def _ask(self) -> None:
        now_ms = self.quotes.now_ms
        while self.tombstones and next(iter(self.tombstones.values())) < now_ms:
            self.tombstones.popitem(last=False)
        for client_id, (order, expires_at_ms) in list(self.doubts.items()):
            fenced = not self.desk.capabilities.request_expiry or now_ms > expires_at_ms + FENCE_MARGIN_MS
            view = await self._view(order)
            if view is None and not fenced:
                continue
            self.doubts.pop(client_id, None)
            await self._settle(order, view, denied=view is None)

    async def _view(self, order: Order) -> OrderView | None:
        return await self.desk.lookup(order)

    async def _settle(self, order: Order, view: OrderView | None, *, denied: bool) -> int:
        inbox = self.inbox(order.strategy_id)
        if inbox is None:
            return 0
        client_id = order.client_order_id
        if denied:
            self.tombstones[client_id] = self.quotes.now_ms + TOMBSTONE_MS
            while len(self.tombstones) > TOMBSTONES_MAX:
                self.tombstones.popitem(last=False)
            fact = OrderFact.CANCEL if order.status.value == "open" else OrderFact.DENY
            log.warning("order.absent", strategy_id=order.strategy_id, order_id=order.id, fact=fact.value)
            await inbox.deliver(OrderNews(((client_id, fact, "the venue does not know it"),)))
            return 1
        assert view is not None
        return await self._adopt(inbox, order, view)

    async def _adopt(self, inbox: Inbox, order: Order, view: OrderView) -> int:
        told = 0
        booked = order.filled
        for fill in view.fills:
            # Fills come oldest first; what the order holds already is skipped by quantity, the journal guards the rest.
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
        elif not told and order.status.value != "open":
            await inbox.deliver(OrderNews(((order.client_order_id, OrderFact.ACK, ""),)))
            told += 1
        return told

    async def compare(self) -> None:
        """Hold the venue's position of each symbol against the sum of our lots; freeze what differs twice running.

        What is under way makes them differ for a moment: the same difference, twice in a row, is no moment.
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
        confirmed = {symbol for symbol, amount in differing.items() if self._suspects.get(symbol) == amount}
        self._suspects = differing
        if confirmed != self.frozen:
            log.error("position.unassigned", desk=self.name, amounts={s: str(differing[s]) for s in sorted(confirmed)})
            self.frozen = confirmed
            self.unassigned = {symbol: differing[symbol] for symbol in sorted(confirmed)}
            self.freeze(confirmed)
