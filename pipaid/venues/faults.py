"""A bad line to a simulated desk: requests and reports get lost, late, doubled or garbled, by seed or by demand."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Final

import trio
from attrs import define, field

from pipaid.errors import ExchangeError
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
LATE_MS_MAX: Final = 30_000
BAN_MS: Final = 15_000
STALL_MS: Final = 20_000


class Fault(StrEnum):
    """What may go wrong between a daemon and its venue."""

    LOST = "lost"
    UNANSWERED = "unanswered"
    LATE = "late"
    BROKEN = "broken"
    GARBLED = "garbled"
    BANNED = "banned"
    REFUSED = "refused"
    DROPPED = "dropped"
    DOUBLED = "doubled"
    DELAYED = "delayed"
    SILENT = "silent"
    CUT = "cut"
    OUTAGE = "outage"


REQUEST_FAULTS: Final = (
    Fault.LOST,
    Fault.UNANSWERED,
    Fault.LATE,
    Fault.BROKEN,
    Fault.GARBLED,
    Fault.BANNED,
    Fault.REFUSED,
)
REPORT_FAULTS: Final = (Fault.DROPPED, Fault.DOUBLED, Fault.DELAYED, Fault.SILENT, Fault.CUT)
MEANING: Final[Mapping[Fault, str]] = {
    Fault.LOST: "a request never reaches the venue, and no answer comes",
    Fault.UNANSWERED: "a request is carried out, but its answer gets lost",
    Fault.LATE: "a request reaches the venue up to 30 s later, long after it was given up",
    Fault.BROKEN: "the venue answers 503; every other such request was carried out all the same",
    Fault.GARBLED: "a request is carried out, and the answer is cut off, malformed or huge",
    Fault.BANNED: "too many requests: the venue refuses everything for 15 s",
    Fault.REFUSED: "the venue refuses a request with a reason",
    Fault.DROPPED: "a report is lost on the stream",
    Fault.DOUBLED: "a report comes twice",
    Fault.DELAYED: "a report comes up to 30 s later, after others that it preceded",
    Fault.SILENT: "the stream says nothing for 20 s, then everything at once",
    Fault.CUT: "the stream breaks: what is on its way is lost, and it is opened anew",
    Fault.OUTAGE: "a question to the venue is not answered",
}


@define(eq=False)
class Faults:
    """Draw what goes wrong: `rates` are probabilities by kind, `ordered` faults happen next, as often as ordered."""

    random: Random
    rates: dict[Fault, float] = field(factory=dict[Fault, float])
    ordered: dict[Fault, int] = field(factory=dict[Fault, int])
    happened: dict[Fault, int] = field(factory=dict[Fault, int])

    def drawn(self, kinds: Iterable[Fault]) -> Fault | None:
        """Return what happens to the next thing that any of these may happen to."""
        chosen = self._chosen(kinds)
        if chosen is not None:
            self.happened[chosen] = self.happened.get(chosen, 0) + 1
        return chosen

    def lateness_ms(self) -> int:
        """Return how late something comes that comes late."""
        return 1 + int(self.random.uniform(0, LATE_MS_MAX))

    def _chosen(self, kinds: Iterable[Fault]) -> Fault | None:
        for kind in kinds:
            if self.ordered.get(kind):
                self.ordered[kind] -= 1
                return kind
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

    A request that is late arrives with a later step of the market, and the venue takes it unless it has expired by then
    and the venue knows expiry. What is unknown is told after `timeout_s`.
    """

    venue: SimulatedDesk
    faults: Faults
    sleep: Callable[[float], Awaitable[None]]
    timeout_s: float = 0.0
    _arrivals: list[tuple[int, int, Order, int]] = field(factory=list[tuple[int, int, Order, int]])
    _held: list[tuple[int, int, DeskUpdate]] = field(factory=list[tuple[int, int, DeskUpdate]])
    _outbox: deque[DeskUpdate] = field(factory=deque[DeskUpdate])
    _readers: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    _count: int = 0
    _banned_ms: int = 0
    _silent_ms: int = 0

    @property
    def capabilities(self) -> Capabilities:
        """Return what the venue can do."""
        return self.venue.capabilities

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
        """Let late requests arrive, then match against one update of the market."""
        while self._arrivals and self._arrivals[0][0] <= update.time_ms:
            _, _, order, expires_at_ms = heapq.heappop(self._arrivals)
            self._arrive(order, expires_at_ms)
        self.venue.on_market(update)
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
        if fault is Fault.BANNED:
            return Refused("429: too many requests, none was carried out")
        if fault is Fault.REFUSED:
            return Refused("-2019: margin is insufficient")
        if fault is Fault.LATE and len(self._arrivals) < ARRIVALS_MAX:
            due_ms = self.venue.now_ms + self.faults.lateness_ms()
            heapq.heappush(self._arrivals, (due_ms, self._number(), order, expires_at_ms))
        elif self._goes_through(fault):
            self._arrive(order, expires_at_ms)
        await self.sleep(self.timeout_s)
        return Unknown(MEANING[fault])

    async def cancel(self, order: Order) -> Outcome:
        """Ask for a cancellation over the line; one that is late is lost."""
        fault = self._fault()
        if fault is None:
            outcome = await self.venue.cancel(order)
            self._carry_reports()
            return outcome
        if fault in (Fault.BANNED, Fault.REFUSED):
            return Refused("429: too many requests" if fault is Fault.BANNED else "-2011: unknown order")
        if self._goes_through(fault):
            await self.venue.cancel(order)
            self._carry_reports()
        await self.sleep(self.timeout_s)
        return Unknown(MEANING[fault])

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

    def _goes_through(self, fault: Fault) -> bool:
        if fault is Fault.BROKEN:
            return self.faults.random.uniform(0, 1) < 0.5
        return fault in (Fault.UNANSWERED, Fault.GARBLED)

    async def _asked(self) -> None:
        if self.venue.now_ms < self._banned_ms:
            raise ExchangeError("429: too many requests")
        if self.faults.drawn((Fault.OUTAGE,)) is not None:
            await self.sleep(self.timeout_s)
            raise ExchangeError(MEANING[Fault.OUTAGE])

    def _arrive(self, order: Order, expires_at_ms: int) -> None:
        """Let a request reach the venue; nobody hears the answer."""
        self.venue.take(order, expires_at_ms=expires_at_ms)
        self._carry_reports()

    def _carry_reports(self) -> None:
        """Put what the venue reports on the line, and let go of what has been held back long enough."""
        now_ms = self.venue.now_ms
        for update in self.venue.reports():
            fault = self.faults.drawn(REPORT_FAULTS)
            if fault is Fault.CUT:
                self._cut()
            elif fault is Fault.SILENT:
                self._silent_ms = max(self._silent_ms, now_ms + STALL_MS)
            if fault in (Fault.DROPPED, Fault.CUT):
                continue
            due_ms = self._silent_ms
            if fault is Fault.DELAYED:
                due_ms = now_ms + self.faults.lateness_ms()
            for _ in range(2 if fault is Fault.DOUBLED else 1):
                heapq.heappush(self._held, (due_ms, self._number(), update))
        let_go = False
        while self._held and self._held[0][0] <= now_ms:
            self._outbox.append(heapq.heappop(self._held)[2])
            self.venue.activity.begin()
            let_go = True
        if let_go:
            self._readers.unpark_all()

    def _cut(self) -> None:
        self._held.clear()
        heapq.heappush(self._held, (self.venue.now_ms, self._number(), Reconnected()))

    def _number(self) -> int:
        self._count += 1
        return self._count
