"""One auditor per desk: holds our orders, fills and lots against the venue's, at the start, all the time, and anew."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Final, Protocol

import msgspec
import structlog
import trio
from attrs import define, field

from actors.actor import OUTAGES, REQUEST_WINDOW_MS, CancelNews, DeskFact, Inbox, OrderNews, Writer
from pipaid.engine.quotes import Quotes
from pipaid.engine.session import AUTO_CLOSE
from pipaid.model.ident import order_id_of
from pipaid.model.money import ZERO
from pipaid.model.order import Execution, Fill, Order, OrderFact, OrderStatus
from pipaid.model.position import Position
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.stray import Stray, StrayKind
from pipaid.seams import Clock
from pipaid.storage.store import Reader
from pipaid.venues.venue import Desk, OrderView

log = structlog.get_logger()
ORDERS_EVERY_S: Final = 5.0
FILLS_EVERY_S: Final = 10.0
POSITIONS_EVERY_S: Final = 30.0
LOOKS_MAX: Final = 3
OVER_MAX: Final = 10_000
TICK_S: Final = 0.5
# A fill may show so much later than it happened.
FILLS_MARGIN_MS: Final = 60_000
FILLS_MISSING_MAX: Final = 10_000
FILLS_SEEN_KEPT: Final = 20_000
# What nobody owns may be of an order whose beginning is still on its way: it is tried so often.
TRIES_MAX: Final = 8
AT_ONCE: Final = 500
SAVE_EVERY_MS: Final = 300_000
# However often the stream is interrupted.
SPACING_S: Final = 2.0


class Bucket(Protocol):
    """Where the auditor puts what nobody accounts for."""

    total: int
    found: dict[str, Stray]

    def take(self, stray: Stray) -> None:
        """Keep something that nobody accounts for, unless it is here already."""
        ...

    def settle(self, strays: Iterable[Stray]) -> None:
        """Let go of what is accounted for now."""
        ...

    def seasoned(self) -> list[Stray]:
        """Return what was here already when this was last asked."""
        ...


class DeskMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What must outlive a restart: what the venue holds beyond our lots, and up to when its fills were compared."""

    amounts: dict[str, Decimal] = {}
    fills_to_ms: int = 0


@define
class _Missing:
    """A fill that the venue shows and the journal has not; `tries` counts the comparisons that found it so."""

    fill: Fill
    tries: int = 0


@define
class _Round:
    """A comparison that is made again and again."""

    every_s: float
    compare: Callable[[], Awaitable[None]]
    due_s: float
    made_s: float = float("-inf")


@define(eq=False)
class Auditor:
    """Compare, and change nothing that the venue does not show: every fact derives from its own and is booked once.

    Open orders: one of ours that is not among them twice running is in `doubt`; one that is, although it was to be
    cancelled, is told to its strategy, which asks for the cancellation again; one among them that we believe absent is
    adopted by its strategy, and one that has ended for us is cancelled; what does not bear our mark is a stray and
    is not touched. Fills: one that is in the journal at no second look is delivered. Positions: where the venue's and
    the sum of our lots go on differing, nothing is entered until they agree again; `amounts`
    says by how much, over restarts too. After an interruption of the stream everything is compared at once.

    A desk that cannot tell its fills has them read off its orders: each that shows more than we know, or of whose end
    the stream told, is put in doubt once.
    """

    name: str
    desk: Desk
    quotes: Quotes
    clock: Clock
    writer: Writer
    bucket: Bucket
    working: Callable[[], Iterable[Order]]
    lots: Callable[[], Iterable[Position]]
    carries: Callable[[str], bool]
    doubts: Mapping[str, object]
    doubt: Callable[[Order, int], None]
    deliver: Callable[[str, DeskFact], None]
    pass_on: Callable[[Execution], bool]
    inbox: Callable[[str], Inbox | None]
    owner_of_order: Callable[[str], str | None]
    amounts: dict[str, Decimal] = field(factory=dict[str, Decimal])
    _suspects: dict[str, Decimal] = field(factory=dict[str, Decimal])
    _looks: dict[str, int] = field(factory=dict[str, int])
    _absent: set[str] = field(factory=set[str])
    _ahead: set[str] = field(factory=set[str])
    _kept: set[str] = field(factory=set[str])
    _strange: set[str] = field(factory=set[str])
    _over: set[str] = field(factory=set[str])
    _missing: dict[str, _Missing] = field(factory=dict[str, _Missing])
    _seen: OrderedDict[str, None] = field(factory=OrderedDict[str, None])
    _fills_to_ms: int = 0
    _saved: DeskMemory = field(factory=DeskMemory)
    _strays: int = 0
    _interrupted: bool = False
    _urgent: bool = True

    @property
    def frozen(self) -> frozenset[str]:
        """Return the symbols on which nothing is entered."""
        return self.quotes.frozen.get(self.name, frozenset())

    async def load(self) -> None:
        """Take up what was known before a restart; of a venue seen for the first time, the past is not ours."""
        row = await self.writer.read(lambda reader: reader.get("desk", self.name))
        if row is None:
            return
        self._saved = msgspec.json.decode(row.data, type=DeskMemory)
        self.amounts, self._fills_to_ms = self._saved.amounts, self._saved.fills_to_ms
        self.quotes.frozen[self.name] = frozenset(self.amounts)

    def _save(self) -> None:
        """Make durable what changed; that more fills were compared alone is not worth a commit each time."""
        memory = DeskMemory(amounts=self.amounts, fills_to_ms=self._fills_to_ms)
        late = memory.fills_to_ms - self._saved.fills_to_ms >= SAVE_EVERY_MS
        if late or memory.amounts != self._saved.amounts or not self._saved.fills_to_ms:
            self.writer.submit(Batch(records=[Record("desk", self.name, Kind.PUT, msgspec.json.encode(memory))]))
            self._saved = memory

    def reconnected(self) -> None:
        """Take note that something may have been missed: everything is to be compared at once."""
        self._interrupted = True

    def ended(self, client_id: str) -> None:
        """Take note that the stream told of an order's end; fills may have been lost before it."""
        # One that there is no room for is found again by the comparison of open orders.
        if self.desk.capabilities.tells_fills_by_order and len(self._over) < OVER_MAX:
            self._over.add(client_id)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Compare until cancelled."""
        task_status.started()
        now_s = self.clock.monotonic_s()
        positions = _Round(POSITIONS_EVERY_S, self.compare_positions, now_s + POSITIONS_EVERY_S)
        rounds = (
            _Round(FILLS_EVERY_S, self.compare_fills, now_s + FILLS_EVERY_S),
            _Round(ORDERS_EVERY_S, self.compare_orders, now_s + ORDERS_EVERY_S),
            positions,
        )
        while True:
            await self.clock.sleep(TICK_S)
            now_s = self.clock.monotonic_s()
            if self._interrupted:
                self._interrupted, self._urgent = False, True
                for each in rounds:
                    each.due_s = max(now_s, each.made_s + SPACING_S)
            if self._strays != self.bucket.total or self._suspects.keys() - self.frozen:
                self._strays = self.bucket.total
                positions.due_s = min(positions.due_s, now_s + ORDERS_EVERY_S)
            if self._over:
                await self._attempt(self._ask_about_ended)
            for each in rounds:
                if now_s >= each.due_s:
                    each.due_s, each.made_s = now_s + each.every_s, now_s
                    await self._attempt(each.compare)

    async def reconcile(self, unsettled: frozenset[str], *, patience: Callable[[], object]) -> None:
        """Compare everything before anything else happens, as often as it takes for the venue to answer.

        `unsettled` are the orders that worked before the start: what is not open of them is in doubt at once. To do it
        twice changes nothing. `patience` is called before each attempt.
        """
        for compare in (self.compare_fills, partial(self.compare_orders, unsettled=unsettled), self.compare_positions):
            patience()
            while not await self._attempt(compare):
                await self.clock.sleep(ORDERS_EVERY_S)
                patience()
        while self._suspects.keys() - self.frozen:
            # Either it was a moment, or nothing may be entered from the first moment on.
            await self.clock.sleep(TICK_S)
            patience()
            await self._attempt(self.compare_positions)

    async def agrees(self, symbol: str) -> bool:
        """Tell whether the venue's position of a symbol is the sum of our lots."""
        theirs = await self.desk.positions()
        return theirs.get(symbol, ZERO) == self._ours().get(symbol, ZERO)

    async def unbooked(self, fills: Sequence[Fill]) -> list[Fill]:
        """Return those fills that the journal does not have."""
        if not fills:
            return []
        known = await self.writer.read(partial(_rows_among, "fill", [fill.id for fill in fills]))
        return [fill for fill in fills if fill.id not in known]

    async def _attempt(self, compare: Callable[[], Awaitable[None]]) -> bool:
        try:
            await compare()
        except OUTAGES as outage:
            log.warning("desk.silent", desk=self.name, reason=str(outage))
            return False
        return True

    # Orders.

    async def compare_orders(self, *, unsettled: frozenset[str] = frozenset()) -> None:
        """Hold our working orders against the venue's open ones."""
        views = {view.client_order_id: view for view in await self.desk.open_orders()}
        ours = {order.client_order_id: order for order in self.working()}
        absent: set[str] = set()
        ahead: set[str] = set()
        kept: set[str] = set()
        for number, (client_id, order) in enumerate(ours.items()):
            if number % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            view = views.pop(client_id, None)
            if self.carries(client_id) or client_id in self.doubts:
                continue
            if view is None:
                absent.add(client_id)
                if client_id in self._absent or client_id in unsettled:
                    self._doubt(order)
                continue
            if order.status is not OrderStatus.OPEN:
                self.deliver(order.strategy_id, OrderNews(((client_id, OrderFact.ACK, ""),)))
            if order.cancelling:
                kept.add(client_id)
                if client_id in self._kept:
                    log.warning("cancel.lost", desk=self.name, strategy_id=order.strategy_id, order_id=order.id)
                    self.deliver(order.strategy_id, CancelNews(client_id))
            if not self.desk.capabilities.fills_since and view.filled > order.filled:
                ahead.add(client_id)
                if client_id in self._ahead:
                    self._doubt(order)
        self._absent, self._ahead, self._kept = await self._durable(absent, ours), ahead, kept
        await self._ask_about_ended()
        await self._meet(views)

    async def _durable(self, absent: set[str], ours: Mapping[str, Order]) -> set[str]:
        """Leave out what cannot have come to the venue because its intent still waits for the disk."""
        intents = {ours[each].id: each for each in sorted(absent) if ours[each].status is OrderStatus.INTENDED}
        if not intents:
            return absent
        known = await self.writer.read(partial(_rows_among, "order", list(intents)))
        return absent - {client_id for key, client_id in intents.items() if key not in known}

    def _doubt(self, order: Order) -> None:
        self.doubt(order, self.quotes.now_ms + REQUEST_WINDOW_MS)

    async def _ask_about_ended(self) -> None:
        for client_id in sorted(self._over):
            owner = self.owner_of_order(client_id)
            order = await self._journalled(owner, client_id) if owner is not None else None
            self._over.discard(client_id)
            if order is not None:
                # That it ended is proof that the venue had it, which the journal need not know yet.
                self._doubt(msgspec.structs.replace(order, status=OrderStatus.OPEN) if order.working else order)

    async def _meet(self, views: Mapping[str, OrderView]) -> None:
        """Deal with open orders that none of our working orders accounts for."""
        strange: set[str] = set()
        for client_id, view in views.items():
            if self.carries(client_id):
                continue
            owner = self.owner_of_order(client_id)
            if owner is None:
                self._put_aside(view, "it bears none of our marks", "")
                continue
            order = await self._journalled(owner, client_id)
            employed = self.inbox(owner) is not None
            if order is None:
                self._put_aside(view, "it bears our mark, and the journal does not know it", owner)
            elif order.status is OrderStatus.ABSENT and employed:
                log.error("order.risen", desk=self.name, strategy_id=owner, order_id=order.id)
                risen = Execution(client_order_id=client_id, fact=OrderFact.ACK, time_ms=self.quotes.now_ms)
                self.deliver(owner, risen)
            elif not (order.working and employed):
                # It may have ended just now: once more, and it is no such moment.
                strange.add(client_id)
                if client_id in self._strange:
                    log.error("order.unwanted", desk=self.name, strategy_id=owner, order_id=order.id)
                    await self.desk.cancel(order)
        self._strange = strange
        past = [each for each in self.bucket.found.values() if each.kind is StrayKind.ORDER and each.id not in views]
        self.bucket.settle(past)

    async def _journalled(self, owner: str, client_id: str) -> Order | None:
        key = order_id_of(owner, client_id)
        row = await self.writer.read(lambda reader: reader.get("order", key)) if key is not None else None
        return msgspec.json.decode(row.data, type=Order) if row is not None else None

    def _put_aside(self, view: OrderView, reason: str, strategy_id: str) -> None:
        self.bucket.take(
            Stray(
                id=view.client_order_id,
                desk=self.name,
                kind=StrayKind.ORDER,
                symbol=view.symbol,
                quantity=view.filled,
                time_ms=self.quotes.now_ms,
                reason=reason,
                client_order_id=view.client_order_id,
                strategy_id=strategy_id,
            )
        )

    # Fills.

    async def compare_fills(self) -> None:
        """Hold the venue's fills against the journal's, from where that was done last."""
        if not self.desk.capabilities.fills_since:
            return
        now_ms, urgent = self.quotes.now_ms, self._urgent
        self._fills_to_ms = self._fills_to_ms or now_ms
        for fill in await self.desk.fills_since(max(0, self._fills_to_ms - FILLS_MARGIN_MS)):
            if fill.id not in self._seen and fill.id not in self._missing:
                if len(self._missing) >= FILLS_MISSING_MAX:
                    log.error("fills.postponed", desk=self.name, missing=len(self._missing))
                    now_ms = self._fills_to_ms
                    break
                self._missing[fill.id] = _Missing(fill)
        await self._drop_known()
        # What is not booked yet has to be found again should this life end before it is.
        self._fills_to_ms = min([now_ms, *(missing.fill.time_ms for missing in self._missing.values())])
        self._urgent = False
        self._save()
        for fill_id, missing in list(self._missing.items()):
            missing.tries += 1
            # One that is on its way by stream comes first; what its owner has no time for is not sent over and over.
            due = urgent or (missing.tries > 1 and missing.tries.bit_count() == 1)
            if due and not self._offer(missing.fill) and missing.tries >= TRIES_MAX:
                self._forget(fill_id)

    async def _drop_known(self) -> None:
        ids = list(self._missing)
        for start in range(0, len(ids), AT_ONCE):
            some = ids[start : start + AT_ONCE]
            booked = await self.writer.read(partial(_rows_among, "fill", some))
            strays = await self.writer.read(partial(_rows_among, "stray", some))
            for fill_id in booked:
                stray = self.bucket.found.get(fill_id)
                if stray is not None and not stray.strategy_id:
                    # Its order came after it.
                    self.bucket.settle([stray])
                self._forget(fill_id)
            for fill_id in strays - booked:
                stray = self.bucket.found.get(fill_id)
                if stray is None or stray.strategy_id:
                    # Settled, or given up by its own strategy.
                    self._forget(fill_id)

    def _offer(self, fill: Fill) -> bool:
        client_id = fill.client_order_id
        lot = client_id.removeprefix(AUTO_CLOSE) if client_id.startswith(AUTO_CLOSE) else ""
        log.warning("fill.missed", desk=self.name, id=fill.id, client_order_id=client_id)
        return self.pass_on(
            Execution(client_order_id=client_id, fact=OrderFact.FILL, time_ms=fill.time_ms, fill=fill, position_id=lot)
        )

    def _forget(self, fill_id: str) -> None:
        self._missing.pop(fill_id, None)
        self._seen[fill_id] = None
        while len(self._seen) > FILLS_SEEN_KEPT:
            self._seen.popitem(last=False)

    # Positions.

    def _ours(self) -> dict[str, Decimal]:
        ours: dict[str, Decimal] = {}
        for lot in self.lots():
            ours[lot.symbol] = ours.get(lot.symbol, ZERO) + lot.direction.sign * lot.quantity
        return ours

    async def compare_positions(self) -> None:
        """Hold the venue's position of each symbol against the sum of our lots; freeze what goes on differing.

        What is under way makes them differ for a moment: the same difference at two looks in a row, or any at
        LOOKS_MAX, is no moment. What is frozen stays so while it differs, by whatever amount.
        """
        ours, strays = self._ours(), self.bucket.seasoned()
        theirs = await self.desk.positions()
        differing = {
            symbol: theirs.get(symbol, ZERO) - ours.get(symbol, ZERO)
            for symbol in sorted({*ours, *theirs})
            if theirs.get(symbol, ZERO) != ours.get(symbol, ZERO)
        }
        looks = {symbol: self._looks.get(symbol, 0) + 1 for symbol in differing}
        amounts = {
            symbol: amount
            for symbol, amount in differing.items()
            if symbol in self.frozen or self._suspects.get(symbol) == amount or looks[symbol] >= LOOKS_MAX
        }
        self._suspects, self._looks = differing, looks
        self.bucket.settle(each for each in strays if each.kind is not StrayKind.ORDER and each.symbol not in differing)
        if amounts == self._saved.amounts:
            return
        tell = log.error if amounts.keys() - self.frozen else log.warning
        tell("position.unassigned", desk=self.name, amounts={symbol: str(each) for symbol, each in amounts.items()})
        self.amounts = amounts
        self.quotes.frozen[self.name] = frozenset(amounts)
        self._save()


def _rows_among(entity: str, ids: Sequence[str], reader: Reader) -> set[str]:
    return {key for key in ids if reader.get(entity, key) is not None}
