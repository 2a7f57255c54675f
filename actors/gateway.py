"""One gateway per desk: sends orders that risk approved and the journal holds, and brings back what became of them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Final

import structlog
import trio
from attrs import define, field

from actors.actor import REQUEST_WINDOW_MS, DeskFact, Inbox, MailboxFull, OrderNews
from pipaid.engine.quotes import Quotes
from pipaid.engine.risk import Approved
from pipaid.model.order import Execution, FundingPaid, Order, OrderFact, OrderStatus
from pipaid.model.stray import Stray, StrayKind, stray_fill
from pipaid.seams import Clock
from pipaid.storage.store import Committed
from pipaid.venues.venue import Confirmed, Desk, Outcome, Reconnected, Refused, Unknown
from pipaid.wire.activity import Activity

log = structlog.get_logger()
QUEUE_MAX: Final = 100_000
NEWS_MAX: Final = 256
LATE_MAX: Final = 8_192
SENT_KEPT: Final = 16_384
WITHDRAWN_AT_ONCE: Final = 1_000
REQUESTS_AT_ONCE: Final = 16
# At most so many of them enter: however long they hang, there is a way out.
ENTRIES_AT_ONCE: Final = 12
ENDS: Final = frozenset({OrderFact.CANCEL, OrderFact.EXPIRE})


@define(eq=False)
class Delivery:
    """Hand facts to the strategies they concern; for one without room they wait here in order, and nobody else waits.

    LATE_MAX facts wait for one strategy. What comes beyond that is dropped, and `missed` is told: the desk is then
    asked for all that happened. `nobody` takes what is for a strategy that does not run.
    """

    inbox: Callable[[str], Inbox | None]
    activity: Activity
    nobody: Callable[[str, DeskFact], None]
    missed: Callable[[], None]
    dropped: int = 0
    _late: dict[str, deque[DeskFact]] = field(factory=dict[str, deque[DeskFact]])
    _nursery: trio.Nursery | None = None

    @property
    def late(self) -> int:
        """Return how many facts wait for room."""
        return sum(map(len, self._late.values()))

    def hand(self, strategy_id: str, fact: DeskFact) -> None:
        """Put a fact into its mailbox, or let it wait for room."""
        late = self._late.get(strategy_id)
        if late is None:
            inbox = self.inbox(strategy_id)
            if inbox is None:
                self.nobody(strategy_id, fact)
                return
            try:
                inbox.tell(fact)
            except MailboxFull:
                late = self._late[strategy_id] = deque[DeskFact]()
                if self._nursery is not None:
                    self._nursery.start_soon(self._carry, strategy_id)
            else:
                return
        if len(late) < LATE_MAX:
            late.append(fact)
            self.activity.begin()
            return
        self.dropped += 1
        if self.dropped.bit_count() == 1:
            log.error("fact.dropped", strategy_id=strategy_id, waiting=len(late), dropped=self.dropped)
        self.missed()

    async def run(self) -> None:
        """Carry what is late until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                for strategy_id in list(self._late):
                    nursery.start_soon(self._carry, strategy_id)
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def _carry(self, strategy_id: str) -> None:
        late = self._late[strategy_id]
        while late:
            inbox = self.inbox(strategy_id)
            if inbox is None:
                self.nobody(strategy_id, late[0])
            else:
                await inbox.deliver(late[0])
            late.popleft()
            self.activity.end()
        del self._late[strategy_id]


@define(eq=False)
class Gateway:
    """Carry one desk's orders: cancellations and reducing orders first, then entries, each in the order given.

    Unless the desk answers at once, up to REQUESTS_AT_ONCE are under way side by side, of one lot one after the other.
    What comes back goes to the strategy whose mark the order bears, or whose lot it is about; what is nobody's goes to
    `stray`. The queue takes QUEUE_MAX orders; risk's caps keep it far below. `stopped` is the kill switch: while it
    says why, no entry leaves any more, and those that wait are refused with the reason as proof, for they were never
    sent. So is an order whose cancellation overtakes it, and an entry whose moment passed while it waited, by its price
    or after `wait_max_s`. A call that is cut short leaves its order in doubt. Where a reconciliation follows each start
    (`awaits_reconciliation`), no entry leaves before it lets them.
    """

    name: str
    dry: bool
    desk: Desk
    quotes: Quotes
    clock: Clock
    activity: Activity
    inbox: Callable[[str], Inbox | None]
    owner_of_order: Callable[[str], str | None]
    owner_of_position: Callable[[str], str | None]
    doubt: Callable[[Order, int], None]
    reconnected: Callable[[], None]
    ended: Callable[[str], None]
    stray: Callable[[Stray], None]
    wait_max_s: float = REQUEST_WINDOW_MS / 1_000
    awaits_reconciliation: bool = False
    stopped: str = ""
    sent: int = 0
    delivery: Delivery = field(init=False)
    _cancels: deque[Order] = field(factory=deque[Order])
    _exits: deque[Order] = field(factory=deque[Order])
    _entries: deque[Order] = field(factory=deque[Order])
    _carried: dict[str, str] = field(factory=dict[str, str])
    _decided_s: dict[str, float] = field(factory=dict[str, float])
    _cancelling: set[str] = field(factory=set[str])
    # Of what was sent not long ago the answer may not have been booked yet.
    _gone_out: OrderedDict[str, None] = field(factory=OrderedDict[str, None])
    # What was taken back before its cancellation was durable: that one is not sent a second time.
    _withdrawn: OrderedDict[str, None] = field(factory=OrderedDict[str, None])
    # The lots about which a request is under way, how many of these enter, and who carries them.
    _busy: set[str] = field(factory=set[str])
    _entering: int = 0
    _reconciled: bool = False
    _lanes: int = 0
    _work: trio.Event = field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.delivery = Delivery(self.inbox, self.activity, self._nobody, self.reconnected)

    @property
    def waiting(self) -> int:
        """Return how many orders and cancellations have not been sent yet."""
        return len(self._cancels) + len(self._exits) + len(self._entries)

    def carries(self, client_id: str) -> bool:
        """Tell whether an order or its cancellation waits to be sent, or is being sent."""
        return client_id in self._carried or client_id in self._cancelling

    def send(self, approved: Approved, proof: Committed, decided_s: float) -> None:
        """Take an order that was decided on at a moment of the monotonic clock.

        The proof of its commit is demanded because nothing else may be sent.
        """
        order = approved.order
        assert proof.n > 0, "an order is sent only after the commit of its intent"
        assert order.dry_run is self.dry, f"an order of the other mode was brought to {self.name}"
        self._carried[order.client_order_id] = ""
        self._decided_s[order.client_order_id] = decided_s
        self._put(self._exits if order.reduce_only else self._entries, order)

    def let_enter(self) -> None:
        """Let entries go out: what the journal knows has been held against the desk."""
        self._reconciled = True
        self._work.set()

    def cancel(self, order: Order, proof: Committed) -> None:
        """Take a cancellation."""
        assert proof.n > 0, "a cancellation is sent only after its commit"
        assert order.dry_run is self.dry, f"a cancellation of the other mode was brought to {self.name}"
        self._cancelling.add(order.client_order_id)
        self._put(self._cancels, order)

    async def withdraw(self, orders: Iterable[Order]) -> None:
        """Take back at the desk what may rest there of entries, side by side; return when each call was answered.

        Of all that is sent this alone needs no proof of a commit: stopping comes first and is journalled second, if it
        still can be. Hence nothing is sent unless `stopped` says why: somebody may have let entries through again since
        this was asked for. What reduces stays, for it protects.
        """
        if not self.stopped:
            return
        resting = deque(order for order in orders if not order.reduce_only and self._may_rest(order))
        if resting:
            log.warning("entries.withdrawn", desk=self.name, orders=len(resting), reason=self.stopped)
        async with trio.open_nursery() as nursery:
            for _ in range(min(len(resting), WITHDRAWN_AT_ONCE)):
                nursery.start_soon(self._withdraw_all, resting)

    def _may_rest(self, order: Order) -> bool:
        client_id = order.client_order_id
        if order.dry_run is not self.dry or client_id in self._carried or client_id in self._withdrawn:
            return False
        return order.status is not OrderStatus.INTENDED or client_id in self._gone_out

    async def _withdraw_all(self, resting: deque[Order]) -> None:
        while resting:
            order = resting.popleft()
            _remember(self._withdrawn, order.client_order_id)
            await self._withdraw_one(order)

    def _put(self, queue: deque[Order], order: Order) -> None:
        assert self.waiting < QUEUE_MAX, f"more than {QUEUE_MAX} orders wait for {self.name}"
        queue.append(order)
        self.activity.begin()
        self._work.set()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send what comes and listen to the desk, until cancelled."""
        self._busy.clear()
        self._entering = self._lanes = 0
        self._reconciled = not self.awaits_reconciliation
        if self.waiting:
            self._work.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.delivery.run)
            nursery.start_soon(self._listen)
            task_status.started()
            while True:
                await self._work.wait()
                self._work = trio.Event()
                if self.desk.capabilities.answers_at_once and not self._lanes:
                    while await self._carry_out(NEWS_MAX):
                        pass
                    continue
                for _ in range(min(self.waiting, REQUESTS_AT_ONCE - self._lanes)):
                    self._lanes += 1
                    nursery.start_soon(self._go_along)

    async def _go_along(self) -> None:
        """Carry one thing out after the other while there is any that need not wait for another."""
        try:
            while await self._carry_out(1):
                pass
        finally:
            self._lanes -= 1

    async def _carry_out(self, orders_max: int) -> bool:
        """Send so many orders at most; news of them go out together, one letter a strategy. Tell if there was any."""
        news: dict[str, list[tuple[str, OrderFact, str]]] = {}
        units = 0
        try:
            while units < orders_max and (taken := self._take()) is not None:
                order, cancelling = taken
                enters = not cancelling and not order.reduce_only
                self._busy.add(order.position_id)
                self._entering += enters
                try:
                    if cancelling:
                        await self._cancel_one(order)
                        continue
                    units += 1
                    fact, detail = await self._send_one(order)
                finally:
                    self._busy.discard(order.position_id)
                    self._entering -= enters
                news.setdefault(order.strategy_id, []).append((order.client_order_id, fact, detail))
        finally:
            for strategy_id, facts in news.items():
                self.delivery.hand(strategy_id, OrderNews(tuple(facts)))
            self.activity.end(units)
        return bool(units)

    def _take(self) -> tuple[Order, bool] | None:
        """Take what is to be sent next, and tell whether it is a cancellation; what is about a busy lot waits."""
        for queue in (self._cancels, self._exits, self._entries):
            if queue is self._entries and (self._entering >= ENTRIES_AT_ONCE or not (self._reconciled or self.stopped)):
                break
            for place, order in enumerate(queue):
                if order.position_id not in self._busy:
                    del queue[place]
                    return order, queue is self._cancels
        return None

    async def _send_one(self, order: Order) -> tuple[OrderFact, str]:
        client_id = order.client_order_id
        try:
            never = self._carried[client_id] or ("" if order.reduce_only else self._too_late(order))
            if never:
                return OrderFact.REFUSE, f"never sent: {never}"
            return await self._place(order)
        finally:
            del self._carried[client_id]
            self._decided_s.pop(client_id, None)

    def _too_late(self, entry: Order) -> str:
        """Return why an entry that was good when it was decided on must not go out any more, or nothing."""
        if self.stopped:
            return self.stopped
        if self.quotes.is_stale(entry.symbol):
            return "its price has become stale"
        if self.quotes.is_frozen(self.name, entry.symbol):
            return f"what is held of {entry.symbol} is in dispute since it was decided on"
        waited_s = self.clock.monotonic_s() - self._decided_s[entry.client_order_id]
        if waited_s > self.wait_max_s:
            return f"it was decided on {waited_s:.1f} s ago, which is longer than a request is good for"
        return ""

    async def _place(self, order: Order) -> tuple[OrderFact, str]:
        self.sent += 1
        _remember(self._gone_out, order.client_order_id)
        expires_at_ms = self.quotes.now_ms + REQUEST_WINDOW_MS
        try:
            outcome = await self.desk.place(order, expires_at_ms=expires_at_ms)
        except BaseException:
            self.doubt(order, expires_at_ms)
            raise
        if isinstance(outcome, Confirmed):
            if self.stopped and not order.reduce_only:
                # It was on its way when everything was stopped.
                log.warning("entries.withdrawn", desk=self.name, orders=1, reason=self.stopped)
                _remember(self._withdrawn, order.client_order_id)
                await self._withdraw_one(order)
            return OrderFact.ACK, ""
        if isinstance(outcome, Refused):
            # A reducing order that comes after its lot was closed is an everyday race; an entry is not.
            tell = log.info if order.reduce_only else log.warning
            tell("order.refused", strategy_id=order.strategy_id, order_id=order.id, proof=outcome.proof)
            return OrderFact.REFUSE, outcome.proof
        log.warning("order.unknown", strategy_id=order.strategy_id, order_id=order.id, detail=outcome.detail)
        self.doubt(order, expires_at_ms)
        return OrderFact.LOSE, outcome.detail

    async def _cancel_one(self, order: Order) -> None:
        client_id = order.client_order_id
        try:
            if client_id in self._carried:
                self._carried[client_id] = "withdrawn before its turn came"
            elif client_id in self._withdrawn:
                del self._withdrawn[client_id]
            else:
                await self._withdraw_one(order)
        finally:
            self._cancelling.discard(client_id)
            self.activity.end()

    async def _withdraw_one(self, order: Order) -> Outcome:
        """Ask for a cancellation and return the answer, which says nothing of the order's fate: its execution does.

        A venue refuses because the order has ended, or because it has not come yet: it is asked which. Should it still
        work a while later, the auditor has the cancellation asked for again.
        """
        outcome: Outcome = Unknown("the call was cut short")
        try:
            outcome = await self.desk.cancel(order)
        finally:
            if not isinstance(outcome, Confirmed):
                log.debug("cancel.refused", strategy_id=order.strategy_id, order_id=order.id, outcome=repr(outcome))
                self._withdrawn.pop(order.client_order_id, None)
                if isinstance(outcome, Unknown) or not self.desk.capabilities.acts_in_call:
                    self.doubt(order, self.quotes.now_ms + REQUEST_WINDOW_MS)
        return outcome

    async def _listen(self) -> None:
        async for update in self.desk.updates():
            if isinstance(update, Reconnected):
                log.warning("desk.reconnected", desk=self.name, detail=update.detail)
                self.reconnected()
            else:
                self.pass_on(update)
            self.activity.end()
            if self.delivery.late:
                # Who has no room is given a chance to make some before more comes.
                await trio.lowlevel.checkpoint()

    def pass_on(self, update: Execution | FundingPaid) -> bool:
        """Bring what the venue tells to whom it concerns; tell whether it concerns anybody.

        Where fills are told by their orders alone, an order has not ended for us before it was asked for them: should
        this life end first, the next one asks.
        """
        owner = self.owner_of_order(update.client_order_id) if isinstance(update, Execution) else None
        owner = owner or (self.owner_of_position(update.position_id) if update.position_id else None)
        if owner is None:
            self._put_aside(update, "neither an order nor a lot of ours", "")
            return False
        ended = update.client_order_id if isinstance(update, Execution) and update.fact in ENDS else ""
        if not (ended and self.desk.capabilities.tells_fills_by_order):
            self.delivery.hand(owner, update)
        if ended:
            self.ended(ended)
        return True

    def _nobody(self, strategy_id: str, fact: DeskFact) -> None:
        if isinstance(fact, Execution | FundingPaid):
            self._put_aside(fact, "its strategy does not run", strategy_id)
        else:
            log.error("fact.unassigned", desk=self.name, strategy_id=strategy_id, fact=repr(fact)[:300])

    def _put_aside(self, fact: Execution | FundingPaid, reason: str, strategy_id: str) -> None:
        if isinstance(fact, FundingPaid):
            self.stray(
                Stray(
                    id=fact.id,
                    desk=self.name,
                    kind=StrayKind.FUNDING,
                    symbol=fact.symbol,
                    quantity=fact.amount,
                    time_ms=fact.time_ms,
                    reason=reason,
                    strategy_id=strategy_id,
                )
            )
        elif fact.fill is not None:
            self.stray(stray_fill(fact.fill, fact.fill.quantity, self.name, reason, strategy_id=strategy_id))
        else:
            log.info("execution.unassigned", desk=self.name, strategy_id=strategy_id, fact=repr(fact)[:300])


def _remember(kept: OrderedDict[str, None], client_id: str) -> None:
    kept[client_id] = None
    if len(kept) > SENT_KEPT:
        kept.popitem(last=False)
