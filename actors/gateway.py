"""One gateway per desk: sends orders that risk approved and the journal holds, and brings back what became of them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Final

import structlog
import trio
from attrs import define, field

from actors.actor import REQUEST_WINDOW_MS, CancelNews, Inbox, OrderNews
from pipaid.engine.quotes import Quotes
from pipaid.engine.risk import Approved
from pipaid.model.order import Execution, FundingPaid, Order, OrderFact
from pipaid.storage.store import Committed
from pipaid.venues.venue import Confirmed, Desk, DeskUpdate, Outcome, Reconnected, Refused, Unknown
from pipaid.wire.activity import Activity

log = structlog.get_logger()
QUEUE_MAX: Final = 100_000
ENDED_KEPT: Final = 16_384
NEWS_MAX: Final = 256
WITHDRAWN_AT_ONCE: Final = 64
ENDS: Final = frozenset({OrderFact.COMPLETE, OrderFact.CANCEL, OrderFact.EXPIRE})


@define(eq=False)
class Gateway:
    """Carry one desk's orders: cancellations and reducing orders first, then entries, each in the order given.

    The queue takes QUEUE_MAX orders; risk's caps keep it far below. `stopped` is the kill switch: while it says why,
    no entry leaves any more, and those that wait are refused with the reason as proof, for they were never sent. So is
    an order whose cancellation overtakes it. A call that is cut short leaves its order in doubt.
    """

    name: str
    desk: Desk
    quotes: Quotes
    activity: Activity
    inbox: Callable[[str], Inbox | None]
    owner_of_position: Callable[[str], str | None]
    doubt: Callable[[Order, int], None]
    reconnected: Callable[[], None]
    stopped: str = ""
    sent: int = 0
    unassigned: int = 0
    _cancels: deque[Order] = field(factory=deque[Order])
    _exits: deque[Order] = field(factory=deque[Order])
    _entries: deque[Order] = field(factory=deque[Order])
    _unsent: dict[str, str] = field(factory=dict[str, str])
    # What was taken back before its cancellation was durable: that one is not sent a second time.
    _withdrawn: dict[str, None] = field(factory=dict[str, None])
    _owners: dict[str, str] = field(factory=dict[str, str])
    _ended: OrderedDict[str, str] = field(factory=OrderedDict[str, str])
    _taken: DeskUpdate | None = None
    _work: trio.Event = field(factory=trio.Event)

    @property
    def waiting(self) -> int:
        """Return how many orders and cancellations have not been sent yet."""
        return len(self._cancels) + len(self._exits) + len(self._entries)

    def know(self, order: Order) -> None:
        """Remember whose order this is until it has ended, so that its executions find their way."""
        self._owners[order.client_order_id] = order.strategy_id

    def note_end(self, client_id: str) -> None:
        """Let an ended order make room; for a while late facts about it still find their way."""
        self._withdrawn.pop(client_id, None)
        owner = self._owners.pop(client_id, None)
        if owner is not None:
            self._ended[client_id] = owner
            if len(self._ended) > ENDED_KEPT:
                self._ended.popitem(last=False)

    def send(self, approved: Approved, proof: Committed) -> None:
        """Take an order; the proof of its commit is demanded because nothing else may be sent."""
        assert proof.n > 0, "an order is sent only after the commit of its intent"
        self.know(approved.order)
        self._unsent[approved.order.client_order_id] = ""
        self._put(self._exits if approved.order.reduce_only else self._entries, approved.order)

    def cancel(self, order: Order, proof: Committed) -> None:
        """Take a cancellation."""
        assert proof.n > 0, "a cancellation is sent only after its commit"
        self._put(self._cancels, order)

    async def withdraw(self, orders: Iterable[Order]) -> None:
        """Take back at the desk what may rest there of entries, side by side; return when each call was answered.

        Of all that is sent this alone needs no proof of a commit: stopping comes first and is journalled second, if it
        still can be. Hence `stopped` must say why. What reduces stays, for it protects.
        """
        assert self.stopped, "only once everything is stopped is anything sent that no commit stands behind"
        resting = deque(order for order in orders if not order.reduce_only and self._may_rest(order.client_order_id))
        self._withdrawn.update((order.client_order_id, None) for order in resting)
        if resting:
            log.warning("entries.withdrawn", desk=self.name, orders=len(resting), reason=self.stopped)
        async with trio.open_nursery() as nursery:
            for _ in range(min(len(resting), WITHDRAWN_AT_ONCE)):
                nursery.start_soon(self._withdraw_all, resting)

    def _may_rest(self, client_id: str) -> bool:
        return client_id in self._owners and client_id not in self._unsent and client_id not in self._withdrawn

    async def _withdraw_all(self, resting: deque[Order]) -> None:
        while resting:
            await self._withdraw_one(resting.popleft())

    def _put(self, queue: deque[Order], order: Order) -> None:
        assert self.waiting < QUEUE_MAX, f"more than {QUEUE_MAX} orders wait for {self.name}"
        queue.append(order)
        self.activity.begin()
        self._work.set()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send what comes and listen to the desk, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            task_status.started()
            while True:
                await self._work.wait()
                self._work = trio.Event()
                await self._drain()

    async def _drain(self) -> None:
        """Send all that waits; news of what was sent at once go out together, one letter a strategy."""
        news: dict[str, list[tuple[str, OrderFact, str]]] = {}
        units = 0
        try:
            while self.waiting and units < NEWS_MAX:
                if self._cancels:
                    await self._cancel_one()
                    continue
                order = (self._exits or self._entries).popleft()
                units += 1
                fact, detail = await self._send_one(order)
                news.setdefault(order.strategy_id, []).append((order.client_order_id, fact, detail))
        finally:
            try:
                for strategy_id, facts in news.items():
                    await self._tell(strategy_id, OrderNews(tuple(facts)))
            finally:
                self.activity.end(units)
                if self.waiting:
                    self._work.set()

    async def _send_one(self, order: Order) -> tuple[OrderFact, str]:
        never = self._unsent.pop(order.client_order_id, "") or ("" if order.reduce_only else self.stopped)
        if never:
            self.note_end(order.client_order_id)
            return OrderFact.REFUSE, f"never sent: {never}"
        self.sent += 1
        expires_at_ms = self.quotes.now_ms + REQUEST_WINDOW_MS
        try:
            outcome = await self.desk.place(order, expires_at_ms=expires_at_ms)
        except BaseException:
            self.doubt(order, expires_at_ms)
            raise
        if isinstance(outcome, Confirmed):
            if self.stopped and not order.reduce_only:
                # It was on its way when everything was stopped.
                await self.withdraw((order,))
            return OrderFact.ACK, ""
        if isinstance(outcome, Refused):
            # A reducing order that comes after its lot was closed is an everyday race; an entry is not.
            tell = log.info if order.reduce_only else log.warning
            tell("order.refused", strategy_id=order.strategy_id, order_id=order.id, proof=outcome.proof)
            self.note_end(order.client_order_id)
            return OrderFact.REFUSE, outcome.proof
        log.warning("order.unknown", strategy_id=order.strategy_id, order_id=order.id, detail=outcome.detail)
        self.doubt(order, expires_at_ms)
        return OrderFact.LOSE, outcome.detail

    async def _cancel_one(self) -> None:
        order = self._cancels.popleft()
        try:
            if order.client_order_id in self._unsent:
                self._unsent[order.client_order_id] = "withdrawn before its turn came"
            elif order.client_order_id not in self._withdrawn:
                await self._withdraw_one(order)
        finally:
            self.activity.end()

    async def _withdraw_one(self, order: Order) -> None:
        """Ask for a cancellation. Only the desk's execution ends the order; a refusal says nothing about its fate."""
        outcome: Outcome = Unknown("the call was cut short")
        try:
            outcome = await self.desk.cancel(order)
        finally:
            if not isinstance(outcome, Confirmed):
                self._withdrawn.pop(order.client_order_id, None)
            if isinstance(outcome, Unknown):
                self.doubt(order, self.quotes.now_ms + REQUEST_WINDOW_MS)
        if not isinstance(outcome, Confirmed):
            log.debug("cancel.refused", strategy_id=order.strategy_id, order_id=order.id, outcome=repr(outcome))
            await self._tell(order.strategy_id, CancelNews(order.client_order_id))

    async def _tell(self, strategy_id: str, fact: Execution | FundingPaid | OrderNews | CancelNews) -> None:
        inbox = self.inbox(strategy_id)
        if inbox is not None:
            await inbox.deliver(fact)
            return
        self.unassigned += 1
        log.error("fact.unassigned", desk=self.name, strategy_id=strategy_id, fact=repr(fact)[:300])

    async def _listen(self) -> None:
        if self._taken is not None:
            # Taken from the desk before a restart, when its owner had no room for it.
            await self._pass_on(self._taken)
        async for update in self.desk.updates():
            self._taken = update
            await self._pass_on(update)

    async def _pass_on(self, update: DeskUpdate) -> None:
        if isinstance(update, Reconnected):
            log.warning("desk.reconnected", desk=self.name, detail=update.detail)
            self.reconnected()
        elif (owner := self._owner(update)) is None:
            self.unassigned += 1
            log.error("execution.unassigned", desk=self.name, fact=repr(update)[:300])
        else:
            await self._tell(owner, update)
        self._taken = None
        self.activity.end()

    def _owner(self, update: Execution | FundingPaid) -> str | None:
        if isinstance(update, Execution):
            client_id = update.client_order_id
            owner = self._owners.get(client_id) or self._ended.get(client_id)
            if update.fact in ENDS:
                self.note_end(client_id)
            if owner is not None:
                return owner
        return self.owner_of_position(update.position_id) if update.position_id else None
