"""One resolver per desk: settles orders of unknown outcome, by what the venue shows and never by time alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Final

import structlog
import trio
from attrs import define, evolve, field

from actors.actor import OUTAGES, DeskFact, OrderNews
from pipaid.engine.quotes import Quotes
from pipaid.model.money import ZERO
from pipaid.model.order import Execution, Fill, Order, OrderFact, OrderStatus
from pipaid.seams import Clock
from pipaid.venues.venue import Capabilities, Confirmed, Desk, OrderView, Refused

log = structlog.get_logger()
DOUBTS_MAX: Final = 10_000
FENCE_MARGIN_MS: Final = 1_000
# Twice the lateness that a request may have on its way (reliability.md, 1).
PATIENCE_S: Final = 60.0
# The clocks of venue and daemon may differ by so much.
FILLS_MARGIN_MS: Final = 60_000
ASK_EVERY_S: Final = 0.5
ASKED_AT_ONCE: Final = 50
ENDED: Final = frozenset({OrderFact.CANCEL, OrderFact.EXPIRE, OrderFact.REFUSE})


@define(eq=False)
class Doubt:
    """An order whose outcome is unknown, until when its request may be accepted, and since when it is in doubt.

    `accepted` says that the venue had it once, so that only its end is unknown; `recalled` that it was asked to cancel
    it while it denied knowing it.
    """

    order: Order
    expires_at_ms: int
    since_s: float
    accepted: bool
    recalled: bool = False


@define(eq=False)
class Resolver:
    """End doubt about orders: what the venue shows is adopted, what it can no longer accept and denies is absent.

    A denial is believed, by what the desk can do:

    - `acts_in_call`: at once, for no request is ever under way.
    - `request_expiry`: when the request has expired, by venue time and with a margin (the fence).
    - neither: when the doubt is PATIENCE_S old, the venue was then asked to cancel the order by its client id, and
      denies it once more. It is UNKNOWN until then and counted at its worst. One that rises even later is met by its
      row in the journal, which has no end: it is cancelled or adopted.
    - An order that the venue had once is past all this: its end only has to be read, with the margin of a request.

    A desk without `lookup_by_client_id` shows an order by its open orders and, after the fence, by its fills. One that
    cannot tell fills either shows nothing of what has ended: a denial is believed only while the position of the symbol
    agrees with our lots and all doubts there are of one side; otherwise the doubt stays, and a person has to look.

    A full list refuses nothing for good: what is not taken is found again by the comparison of open orders.
    """

    name: str
    desk: Desk
    quotes: Quotes
    clock: Clock
    deliver: Callable[[str, DeskFact], None]
    unbooked: Callable[[Sequence[Fill]], Awaitable[list[Fill]]]
    agrees: Callable[[str], Awaitable[bool]]
    doubts: dict[str, Doubt] = field(factory=dict[str, Doubt])
    postponed: int = 0

    @property
    def can(self) -> Capabilities:
        """Return what the desk can do."""
        return self.desk.capabilities

    def doubt(self, order: Order, expires_at_ms: int) -> None:
        """Take an order of unknown outcome; a new doubt outlives the answer to what was asked before it."""
        client_id = order.client_order_id
        before = self.doubts.get(client_id)
        if before is None and len(self.doubts) >= DOUBTS_MAX:
            self.postponed += 1
            log.error("doubt.postponed", desk=self.name, strategy_id=order.strategy_id, order_id=order.id)
            return
        accepted = order.status is not OrderStatus.INTENDED and order.status is not OrderStatus.UNKNOWN
        if before is None:
            self.doubts[client_id] = Doubt(order, expires_at_ms, self.clock.monotonic_s(), accepted)
        else:
            # What is doubted anew is a cancellation: until when the order may be accepted is told by its first request.
            self.doubts[client_id] = evolve(before, order=order, accepted=accepted or before.accepted)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask about doubtful orders until cancelled."""
        task_status.started()
        while True:
            await self.clock.sleep(ASK_EVERY_S)
            await self.ask()

    async def ask(self) -> None:
        """Ask once about the orders in doubt, at most ASKED_AT_ONCE of them: those that waited longest for it."""
        if not self.doubts:
            return
        # Judged before asking: a denial counts only if the request could not be accepted any more by then.
        fenced = {client_id for client_id, doubt in self.doubts.items() if self._fenced(doubt)}
        try:
            sight = {} if self.can.lookup_by_client_id else await self._sight(fenced)
        except OUTAGES as outage:
            log.warning("desk.silent", desk=self.name, reason=str(outage))
            return
        for client_id, doubt in list(islice(self.doubts.items(), ASKED_AT_ONCE)):
            try:
                await self._ask_about(doubt, sight, fenced=client_id in fenced)
            except OUTAGES as outage:
                # The rest would hardly be answered now; this one is asked about last when they are.
                log.warning("desk.silent", desk=self.name, order_id=doubt.order.id, reason=str(outage))
                self._put_last(client_id)
                break

    async def _ask_about(self, doubt: Doubt, sight: Mapping[str, OrderView], *, fenced: bool) -> None:
        order = doubt.order
        client_id = order.client_order_id
        view = await self.desk.lookup(order) if self.can.lookup_by_client_id else sight.get(client_id)
        if view is not None:
            await self._adopt(order, view)
        elif fenced and await self._is_gone(doubt):
            log.warning("order.absent", desk=self.name, strategy_id=order.strategy_id, order_id=order.id)
            self.deliver(order.strategy_id, OrderNews(((client_id, OrderFact.DENY, "the venue does not know it"),)))
        else:
            self._put_last(client_id)
            return
        if self.doubts.get(client_id) is doubt:
            del self.doubts[client_id]

    def _put_last(self, client_id: str) -> None:
        doubt = self.doubts.pop(client_id, None)
        if doubt is not None:
            self.doubts[client_id] = doubt

    def _fenced(self, doubt: Doubt) -> bool:
        if self.can.acts_in_call:
            return True
        if self.can.request_expiry or doubt.accepted:
            return self.quotes.now_ms > doubt.expires_at_ms + FENCE_MARGIN_MS
        return self.clock.monotonic_s() > doubt.since_s + PATIENCE_S

    async def _is_gone(self, doubt: Doubt) -> bool:
        """Tell whether a denial after the fence is to be believed."""
        order = doubt.order
        if not (self.can.lookup_by_client_id or self.can.fills_since):
            doubts = [each.order for each in self.doubts.values() if each.order.symbol == order.symbol]
            if len({each.side for each in doubts}) > 1 or not await self.agrees(order.symbol):
                return False
        if self.can.acts_in_call or self.can.request_expiry or doubt.accepted or doubt.recalled:
            return True
        # Whatever it answers: only the next denial counts.
        doubt.recalled = isinstance(await self.desk.cancel(order), Confirmed | Refused)
        return False

    async def _sight(self, fenced: set[str]) -> dict[str, OrderView]:
        """Return what open orders, and fills after the fence, show of the orders in doubt."""
        sight = {view.client_order_id: view for view in await self.desk.open_orders()}
        past = {key: doubt.order for key, doubt in self.doubts.items() if key in fenced and key not in sight}
        if not (self.can.fills_since and past):
            return sight
        since_ms = min(order.placed_at_ms for order in past.values()) - FILLS_MARGIN_MS
        found: dict[str, list[Fill]] = {}
        for fill in await self.desk.fills_since(since_ms):
            if fill.client_order_id in past:
                found.setdefault(fill.client_order_id, []).append(fill)
        for client_id, fills in found.items():
            filled = sum((fill.quantity for fill in fills), ZERO)
            sight[client_id] = OrderView(
                client_order_id=client_id,
                symbol=past[client_id].symbol,
                fact=OrderFact.COMPLETE if filled >= past[client_id].quantity else OrderFact.CANCEL,
                filled=filled,
                fills=tuple(fills),
            )
        return sight

    async def _adopt(self, order: Order, view: OrderView) -> None:
        """Tell the strategy what the venue shows of its order."""
        client_id = order.client_order_id
        for fill in await self.unbooked(view.fills):
            self.deliver(
                order.strategy_id,
                Execution(client_order_id=client_id, fact=OrderFact.FILL, time_ms=fill.time_ms, fill=fill),
            )
        if view.fact is not OrderFact.COMPLETE:
            # A completed order is ended by its fills; should one be missing still, it is asked about again.
            ended = view.fact in ENDED
            fact, said = (view.fact, "settled by asking the venue") if ended else (OrderFact.ACK, "")
            self.deliver(order.strategy_id, OrderNews(((client_id, fact, said),)))
