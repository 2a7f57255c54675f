"""A bad line to a simulated desk: requests and reports get lost, late, doubled or garbled, by seed or by demand."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec
import trio
from attrs import define, field

from pipaid.errors import ExchangeError
from pipaid.model.fault import MEANING, QUESTION_FAULTS, REPORT_FAULTS, REQUEST_FAULTS, Fault
from pipaid.model.order import Fill, Order
from pipaid.model.position import Position
from pipaid.seams import Random
from pipaid.venues.simulated import DeskUpdates, SimulatedDesk
from pipaid.venues.venue import (
    Capabilities,
    DeskUpdate,
    MarketUpdate,
    OrderView,
    Outcome,
    Reconnected,
    Refused,
    Unknown,
)

ARRIVALS_MAX: Final = 10_000
# What is held back beyond this comes at once.
HELD_MAX: Final = 10_000
LATE_MS_MAX: Final = 30_000
BAN_MS: Final = 15_000
STALL_MS: Final = 20_000


@define(eq=False)
class Faults:
    """Draw what goes wrong: `rates` are probabilities by kind, `ordered` faults happen next, as often as ordered."""

    random: Random
    rates: dict[Fault, float] = field(factory=dict[Fault, float])
    ordered: dict[Fault, int] = field(factory=dict[Fault, int])
    happened: dict[Fault, int] = field(factory=dict[Fault, int])

    def may(self, kind: Fault) -> bool:
        """Tell whether a fault may still happen."""
        return bool(self.rates.get(kind)) or kind in self.ordered

    def order(self, kind: Fault, times: int = 1) -> None:
        """Let a fault happen to the next things it may happen to."""
        self.ordered[kind] = self.ordered.get(kind, 0) + times

    def calm(self) -> None:
        """Let nothing go wrong any more; what is under way takes its course."""
        self.rates.clear()
        self.ordered.clear()

    def drawn(self, kinds: Iterable[Fault]) -> Fault | None:
        """Return what happens to the next thing that any of these may happen to."""
        if not self.rates and not self.ordered:
            return None
        chosen = self._ordered_one(kinds) or self._chosen(kinds)
        if chosen is not None:
            self.happened[chosen] = self.happened.get(chosen, 0) + 1
        return chosen

    def lateness_ms(self, kind: Fault) -> int:
        """Return how late something comes that comes late: a request (LATE) or a report (DELAYED)."""
        return 1 + int(self.random.uniform(0, LATE_MS_MAX))

    def _ordered_one(self, kinds: Iterable[Fault]) -> Fault | None:
        kind = next((kind for kind in kinds if kind in self.ordered), None)
        if kind is not None:
            self.ordered[kind] -= 1
            if not self.ordered[kind]:
                del self.ordered[kind]
        return kind

    def _chosen(self, kinds: Iterable[Fault]) -> Fault | None:
        if not self.rates:
            return None
        drawn = self.random.uniform(0, 1)
        for kind in kinds:
            drawn -= self.rates.get(kind, 0.0)
            if drawn < 0:
                return kind
        return None


@define(eq=False)
class UnreliableDesk:
    """A simulated desk at the end of a bad line; it moves with the market that it is shown.

    What is late or held back comes with a later step of the market, so it never holds that up. A request that arrives
    late is taken unless it has expired by then and the venue knows expiry. What is unknown is told after `timeout_s`.
    """

    venue: SimulatedDesk
    faults: Faults
    sleep: Callable[[float], Awaitable[None]]
    timeout_s: float = 0.0
    # When it arrives, a number of its own, the order, and until when it may be taken; nothing for its cancellation.
    _arrivals: list[tuple[int, int, Order, int | None]] = field(factory=list[tuple[int, int, Order, int | None]])
    _held: list[tuple[int, int, DeskUpdate]] = field(factory=list[tuple[int, int, DeskUpdate]])
    _outbox: deque[DeskUpdate] = field(factory=deque[DeskUpdate])
    _readers: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    _count: int = 0
    _banned_ms: int = 0
    _silent_ms: int = 0

    @property
    def capabilities(self) -> Capabilities:
        """Return what the venue can do through this line: requests may be late, and answers may stay away."""
        able = self.venue.capabilities
        if able.acts_in_call and (self._arrivals or self.faults.may(Fault.LATE)):
            able = msgspec.structs.replace(able, acts_in_call=False)
        if able.answers_at_once and self.timeout_s and any(map(self.faults.may, REQUEST_FAULTS)):
            able = msgspec.structs.replace(able, answers_at_once=False)
        return able

    # What the venue shows and is shown.

    def restore(
        self, orders: Iterable[Order], positions: Iterable[Position], prices: Mapping[str, Decimal], now_ms: int
    ) -> None:
        """Hand the venue what the journal knows."""
        self.venue.restore(orders, positions, prices, now_ms)
        self._carry_reports()

    def forget_lots(self, ids: Iterable[str]) -> None:
        """Drop paper lots that their owner gave up."""
        self.venue.forget_lots(ids)

    def on_market(self, update: MarketUpdate) -> None:
        """Match against one update of the market, then let late requests arrive."""
        self.venue.on_market(update)
        while self._arrivals and self._arrivals[0][0] <= self.venue.now_ms:
            _, _, order, expires_at_ms = heapq.heappop(self._arrivals)
            self._arrive(order, expires_at_ms)
        self._carry_reports()

    def reconnect(self) -> None:
        """Begin a new stream: what the old one had not told is lost."""
        self._held.clear()
        self.venue.activity.end(len(self._outbox))
        self._outbox.clear()
        self._silent_ms = 0

    # Requests.

    async def place(self, order: Order, *, expires_at_ms: int) -> Outcome:
        """Send one order over the line."""
        fault = self._fault()
        if fault is None:
            outcome = await self.venue.place(order, expires_at_ms=expires_at_ms)
            self._carry_reports()
            return outcome
        return await self._spoiled(fault, order, expires_at_ms)

    async def cancel(self, order: Order) -> Outcome:
        """Ask for a cancellation over the line."""
        fault = self._fault()
        if fault is None:
            outcome = await self.venue.cancel(order)
            self._carry_reports()
            return outcome
        return await self._spoiled(fault, order, None)

    # Questions.

    async def lookup(self, order: Order) -> OrderView | None:
        """Ask for an order over the line."""
        await self._asked()
        return await self.venue.lookup(order)

    async def open_orders(self) -> Sequence[OrderView]:
        """Ask for the working orders over the line."""
        await self._asked()
        return await self.venue.open_orders()

    async def fills_since(self, time_ms: int) -> Sequence[Fill]:
        """Ask for fills over the line."""
        await self._asked()
        return await self.venue.fills_since(time_ms)

    async def positions(self) -> Mapping[str, Decimal]:
        """Ask for positions over the line."""
        await self._asked()
        return await self.venue.positions()

    def updates(self) -> DeskUpdates:
        """Yield what the line lets through."""
        return DeskUpdates(self._outbox, self._readers)

    # The line.

    def _fault(self) -> Fault | None:
        if self.venue.now_ms < self._banned_ms:
            return Fault.BANNED
        fault = self.faults.drawn(REQUEST_FAULTS)
        if fault is Fault.BANNED:
            self._banned_ms = self.venue.now_ms + BAN_MS
        return fault

    async def _spoiled(self, fault: Fault, order: Order, expires_at_ms: int | None) -> Outcome:
        """Let a request go wrong: one for an order, or for its cancellation if there is nothing that expires."""
        if fault in (Fault.BANNED, Fault.REFUSED):
            await trio.lowlevel.checkpoint()
            if fault is Fault.BANNED:
                return Refused("429: too many requests, none was carried out")
            return Refused("-2011: unknown order" if expires_at_ms is None else "-2019: margin is insufficient")
        if fault is Fault.LATE and len(self._arrivals) < ARRIVALS_MAX:
            due_ms = self.venue.now_ms + self.faults.lateness_ms(fault)
            heapq.heappush(self._arrivals, (due_ms, self._number(), order, expires_at_ms))
        elif self._goes_through(fault):
            self._arrive(order, expires_at_ms)
            self._carry_reports()
        await self._wait_in_vain()
        return Unknown(MEANING[fault])

    def _goes_through(self, fault: Fault) -> bool:
        if fault is Fault.BROKEN:
            return self.faults.random.uniform(0, 1) < 0.5
        return fault in (Fault.UNANSWERED, Fault.GARBLED)

    async def _asked(self) -> None:
        if self.venue.now_ms < self._banned_ms:
            await trio.lowlevel.checkpoint()
            raise ExchangeError("429: too many requests")
        if self.faults.drawn(QUESTION_FAULTS) is not None:
            await self._wait_in_vain()
            raise ExchangeError(MEANING[Fault.OUTAGE])

    async def _wait_in_vain(self) -> None:
        if self.timeout_s:
            await self.sleep(self.timeout_s)
        else:
            await trio.lowlevel.checkpoint()

    def _arrive(self, order: Order, expires_at_ms: int | None) -> None:
        """Let a request reach the venue; nobody hears the answer."""
        if expires_at_ms is None:
            self.venue.withdraw(order)
        else:
            self.venue.take(order, expires_at_ms=expires_at_ms)

    def _carry_reports(self) -> None:
        """Put what the venue reports on the line, and let go of what has been held back long enough."""
        if not self.venue.waiting and not self._held:
            return
        now_ms, carried = self.venue.now_ms, 0
        reports = self.venue.reports()
        for update in reports:
            self._put_on_line(update, now_ms)
        while self._held and self._held[0][0] <= now_ms:
            self._outbox.append(heapq.heappop(self._held)[2])
            carried += 1
        # In this order, for what comes through without delay has been under way all the time.
        self.venue.activity.begin(carried)
        self.venue.activity.end(len(reports))
        if carried:
            self._readers.unpark_all()

    def _put_on_line(self, update: DeskUpdate, now_ms: int) -> None:
        fault = self.faults.drawn(REPORT_FAULTS)
        if fault is Fault.CUT:
            self._cut(now_ms)
        if fault in (Fault.DROPPED, Fault.CUT):
            return
        if fault is Fault.SILENT:
            self._silent_ms = max(self._silent_ms, now_ms + STALL_MS)
        due_ms = self._silent_ms
        if fault is Fault.DELAYED:
            due_ms = now_ms + self.faults.lateness_ms(fault)
        if len(self._held) >= HELD_MAX:
            due_ms = now_ms
        for _ in range(2 if fault is Fault.DOUBLED else 1):
            heapq.heappush(self._held, (due_ms, self._number(), update))

    def _cut(self, now_ms: int) -> None:
        self._held.clear()
        self._silent_ms = 0
        heapq.heappush(self._held, (now_ms, self._number(), Reconnected(MEANING[Fault.CUT])))

    def _number(self) -> int:
        self._count += 1
        return self._count
