"""The venue of a simulated world: it outlives every daemon and keeps a ledger; a bad line leads to it."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Any, TypeVar

import msgspec
import trio
from attrs import define, field

from pipaid.engine.matching import MatchingBook, Terms
from pipaid.engine.standing import Lot
from pipaid.errors import ExchangeError
from pipaid.model.candle import Candle, MarketTrade
from pipaid.model.fault import REPORT_FAULTS, Fault
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.interval import Interval
from pipaid.model.money import ZERO
from pipaid.model.order import Execution, Fill, Order, OrderFact
from pipaid.model.position import Position
from pipaid.model.turnover import Print, Turnover, grouped, guessed
from pipaid.venues.faults import Faults, UnreliableDesk
from pipaid.venues.simulated import CAPABILITIES, SimulatedDesk
from pipaid.venues.venue import (
    Capabilities,
    Closed,
    Confirmed,
    DeskUpdate,
    MarketUpdate,
    OrderView,
    Outcome,
)
from pipaid.wire.activity import Activity
from tests.simulation.seams import START_MS, Crossings

T = TypeVar("T")
MINUTE_MS = 60_000
SILENT_MS = 40_000
TIMEOUT_S = 10.0
# How late a request is that nobody counts on any more.
LONG_S = (62.0, 110.0)


@define(eq=False)
class Ledger(SimulatedDesk):
    """A simulated desk that writes down what it took and what it filled."""

    taken: list[tuple[int, Order]] = field(factory=list[tuple[int, Order]])
    filled: list[Fill] = field(factory=list[Fill])
    partials: int = 0
    foreign: dict[str, Decimal] = field(factory=dict[str, Decimal])
    on_taken: Callable[[Order], None] = field(default=lambda _: None)

    def take(self, order: Order, *, expires_at_ms: int) -> Outcome:
        outcome = super().take(order, expires_at_ms=expires_at_ms)
        if isinstance(outcome, Confirmed):
            self.taken.append((self.now_ms, order))
            self.on_taken(order)
        return outcome

    async def positions(self) -> Mapping[str, Decimal]:
        """Return what is held of each symbol, by whomever."""
        held = dict(await super().positions())
        for symbol, quantity in self.foreign.items():
            held[symbol] = held.get(symbol, ZERO) + quantity
        return held

    def lots(self) -> list[Lot]:
        """Return what is open."""
        return [lot for book in self.book._books.values() for lot in book.lots.values()]

    def openings(self, known: Collection[str]) -> dict[str, list[int]]:
        """Return when known positions were opened on each symbol, in order."""
        entries = {order.client_order_id: order for _, order in self.taken if not order.reduce_only}
        first: dict[str, Fill] = {}
        for fill in self.filled:
            entry = entries.get(fill.client_order_id)
            if entry is not None and entry.position_id in known:
                first.setdefault(entry.position_id, fill)
        opened: dict[str, list[int]] = {}
        for fill in first.values():
            opened.setdefault(fill.symbol, []).append(fill.time_ms)
        return {symbol: sorted(times) for symbol, times in opened.items()}

    def _report(self, reports: Sequence[DeskUpdate]) -> None:
        for report in reports:
            if isinstance(report, Execution) and report.fill is not None:
                self.filled.append(report.fill)
                self.partials += report.fact is OrderFact.FILL
        super()._report(reports)


@define(eq=False)
class LongLine(Faults):
    """Faults of a line on which a request may stay away for longer than anybody waits for it, up to a moment."""

    until_s: float = 0.0

    def lateness_ms(self, kind: Fault) -> int:
        """Return how late something comes that comes late."""
        room_s = self.until_s - trio.current_time()
        if kind is Fault.LATE and room_s > LONG_S[0]:
            return int(self.random.uniform(LONG_S[0], min(LONG_S[1], room_s)) * 1_000)
        return Faults.lateness_ms(self, kind)


def open_ledger(
    instruments: Mapping[str, Instrument], faults: Faults, capabilities: Capabilities, depth: Decimal
) -> UnreliableDesk:
    """Return a venue with nothing on it, at the end of a line; `depth` is the share of a trade that one order gets."""
    ledger = Ledger(MatchingBook(instruments, Terms(fill_ratio_max=depth)), Activity(), capabilities)
    return UnreliableDesk(ledger, faults, trio.sleep, TIMEOUT_S)


def capabilities_of(chance: Random) -> Capabilities:
    """Draw what a venue can do: it shows its orders by id or tells its fills, or both."""
    lookup = chance.random() < 0.75
    return msgspec.structs.replace(
        CAPABILITIES,
        lookup_by_client_id=lookup,
        fills_since=not lookup or chance.random() < 0.75,
        id_unique=chance.choice(("forever", "open", "none")),
        request_expiry=chance.random() < 0.7,
        acts_in_call=False,
        answers_at_once=False,
    )


@define(eq=False)
class LifeDesk:
    """One daemon's way to the venue. A request that has left goes on by itself, whatever becomes of its sender."""

    line: UnreliableDesk
    activity: Activity
    crossings: Crossings
    chance: Random
    nursery: trio.Nursery
    on_sent: Callable[[Order], None]
    on_restored: Callable[[], Iterable[str]]
    on_told: Callable[[str], None]
    on_positions: Callable[[Mapping[str, Decimal]], None]

    @property
    def capabilities(self) -> Capabilities:
        return self.line.capabilities

    def restore(self, orders: Iterable[Order], positions: Iterable[Position], prices: Any, now_ms: int) -> None:
        """Take off what ended strategies left: who died before that was said gives them up now."""
        self.forget_lots(self.on_restored())

    def on_market(self, update: MarketUpdate) -> None:
        """The venue has a market of its own."""

    def forget_lots(self, ids: Iterable[str]) -> None:
        self.line.forget_lots(ids)

    async def place(self, order: Order, *, expires_at_ms: int) -> Outcome:
        self.crossings.cross("send")
        self.on_sent(order)
        return await self._carried(lambda: self.line.place(order, expires_at_ms=expires_at_ms), "sent")

    async def cancel(self, order: Order) -> Outcome:
        self.crossings.cross("cancel")
        return await self._carried(lambda: self.line.cancel(order), "cancelled")

    async def lookup(self, order: Order) -> OrderView | None:
        return await self._asked(lambda: self.line.lookup(order))

    async def open_orders(self) -> Sequence[OrderView]:
        orders = await self._asked(self.line.open_orders)
        self.on_told("orders")
        return orders

    async def fills_since(self, time_ms: int) -> Sequence[Fill]:
        return await self._asked(lambda: self.line.fills_since(time_ms))

    async def positions(self) -> Mapping[str, Decimal]:
        held = await self._asked(self.line.positions)
        self.on_told("positions")
        self.on_positions(held)
        return held

    async def updates(self) -> AsyncIterator[DeskUpdate]:
        async for update in self.line.updates():
            self.line.venue.activity.end()
            self.crossings.cross("report")
            self.activity.begin()
            yield update

    async def _carried(self, carry: Callable[[], Awaitable[T]], then: str) -> T:
        """Let a request travel there and back on its own."""
        answers: list[T] = []
        arrived = trio.Event()

        async def travel() -> None:
            await trio.sleep(self._travel_s())
            answers.append(await carry())
            await trio.sleep(self._travel_s())
            arrived.set()

        self.nursery.start_soon(travel)
        await arrived.wait()
        self.crossings.cross(then)
        return answers[0]

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        self.crossings.cross("question")
        await trio.sleep(self._travel_s())
        answer = await ask()
        await trio.sleep(self._travel_s())
        self.crossings.cross("told")
        return answer

    def _travel_s(self) -> float:
        return self.chance.choice((0.0, 0.01, 0.05, 0.2))


@define(eq=False)
class Prices:
    """What a symbol did: made of a seed, a trade at a time."""

    symbol: str
    chance: Random
    price: Decimal = Decimal(100)
    minute: list[Decimal] = field(factory=list[Decimal])
    candles: list[Candle] = field(factory=list[Candle])

    def trade(self, time_ms: int) -> MarketTrade:
        """Let one more trade happen."""
        self.price = max(Decimal(50), min(Decimal(200), self.price + Decimal(self.chance.randrange(-15, 16)) / 100))
        self.minute.append(self.price)
        return MarketTrade(self.symbol, time_ms, self.price, Decimal(self.chance.randrange(1, 200)) / 10)

    def close(self, time_ms: int) -> Candle:
        """Close the minute that ends now."""
        told = self.minute or [self.price]
        candle = Candle(
            self.symbol,
            Timeframe.M1,
            time_ms - MINUTE_MS,
            told[0],
            max(told),
            min(told),
            told[-1],
            Decimal(len(told)),
        )
        self.minute = []
        self.candles.append(candle)
        return candle


@define(eq=False)
class LifeMarket:
    """One daemon's connection to the market data."""

    prices_of: Mapping[str, Prices]
    instruments_of: Mapping[str, Instrument]
    crossings: Crossings
    faults: Faults
    begun_ms: int
    name: str = "world"
    listed_ms: int = START_MS
    ends_ms: int = 0
    delivered_ms: dict[str, int] = field(factory=dict[str, int])
    heard_s: dict[str, float] = field(factory=dict[str, float])
    _held: list[tuple[int, int, MarketUpdate]] = field(factory=list[tuple[int, int, MarketUpdate]])
    _count: int = 0
    _silent_ms: int = 0
    _send: trio.MemorySendChannel[MarketUpdate] = field(init=False)
    _receive: trio.MemoryReceiveChannel[MarketUpdate] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[MarketUpdate](100_000)

    async def instruments(self) -> Mapping[str, Instrument]:
        await trio.lowlevel.checkpoint()
        return self.instruments_of

    async def history(self, symbol: str, timeframe: Timeframe, *, end_ms: int, count: int) -> list[Candle]:
        await trio.lowlevel.checkpoint()
        if self.faults.drawn((Fault.OUTAGE,)) is not None:
            raise ExchangeError("the venue does not answer")
        past = [each for each in self.prices_of[symbol].candles if each.close_time_ms <= end_ms]
        return past[-count:]

    async def turnover(self, symbol: str, interval: Interval, *, first_ms: int, end_ms: int) -> list[Turnover]:
        await trio.lowlevel.checkpoint()
        past = [each for each in self.prices_of[symbol].candles if first_ms <= each.open_time_ms < end_ms]
        return grouped(map(guessed, past), interval)

    async def trades(self, symbol: str, *, end_ms: int, count: int) -> list[Print]:
        await trio.lowlevel.checkpoint()
        return []

    def begins_ms(self, symbol: str) -> int:
        return self.listed_ms

    async def prices(self) -> Mapping[str, Decimal]:
        await trio.lowlevel.checkpoint()
        return {symbol: each.price for symbol, each in self.prices_of.items()}

    def now_ms(self) -> int:
        return START_MS + int(trio.current_time() * 1000)

    async def updates(self) -> AsyncIterator[MarketUpdate]:
        async for update in self._receive:
            self.crossings.cross("market")
            self._note_delivery(update)
            yield update

    def tell(self, update: MarketUpdate) -> None:
        """Send something over a stream that may lose, double, delay or mix it up, or fall silent."""
        now_ms = self.now_ms()
        fault = self.faults.drawn(REPORT_FAULTS)
        if fault is Fault.SILENT:
            self._silent_ms = now_ms + SILENT_MS
        if fault is Fault.CUT:
            self._held.clear()
        if fault not in (Fault.DROPPED, Fault.CUT):
            late_ms = self.faults.lateness_ms(fault) if fault is Fault.DELAYED else 0
            for _ in range(2 if fault is Fault.DOUBLED else 1):
                self._count += 1
                heapq.heappush(self._held, (max(now_ms + late_ms, self._silent_ms), self._count, update))
        while self._held and self._held[0][0] <= now_ms:
            self._send.send_nowait(heapq.heappop(self._held)[2])

    def _note_delivery(self, update: MarketUpdate) -> None:
        """Remember how new the newest is that the daemon knows of a symbol."""
        if isinstance(update, MarketTrade):
            symbols, time_ms = [update.symbol], update.time_ms
        else:
            assert isinstance(update, Closed)
            symbols, time_ms = [candle.symbol for candle in update.candles], update.time_ms
        for symbol in symbols:
            self.delivered_ms[symbol] = max(self.delivered_ms.get(symbol, 0), time_ms)
            self.heard_s[symbol] = trio.current_time()
