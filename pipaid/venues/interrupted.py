"""A bad line from a simulated market: prices and candles get lost, doubled or mixed up, or nothing is heard at all."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal

from attrs import define, field

from pipaid.errors import ExchangeError
from pipaid.model.candle import Candle, MarketTrade
from pipaid.model.fault import MEANING, QUESTION_FAULTS, REPORT_FAULTS, Fault
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.interval import Interval
from pipaid.model.turnover import Print, Turnover
from pipaid.venues.faults import HELD_MAX, STALL_MS, Faults
from pipaid.venues.venue import Closed, Ended, Market, MarketUpdate


@define(eq=False)
class UnreliableMarket:
    """A simulated market at the end of a bad line.

    Trades and closes are what goes wrong. What is held back comes with a later update, so it never holds up time; as
    the desks match what the feed hears, they stand still for as long as nothing is heard.
    """

    market: Market
    faults: Faults
    name: str = field(init=False)
    listed_ms: int = field(init=False)
    ends_ms: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.name, self.listed_ms, self.ends_ms = self.market.name, self.market.listed_ms, self.market.ends_ms

    async def instruments(self) -> Mapping[str, Instrument]:
        """Return what is listed."""
        return await self.market.instruments()

    async def history(self, symbol: str, timeframe: Timeframe, *, end_ms: int, count: int) -> list[Candle]:
        """Return closed candles, unless the question is not answered."""
        if self.faults.drawn(QUESTION_FAULTS) is not None:
            raise ExchangeError(MEANING[Fault.OUTAGE])
        return await self.market.history(symbol, timeframe, end_ms=end_ms, count=count)

    async def turnover(self, symbol: str, interval: Interval, *, first_ms: int, end_ms: int) -> list[Turnover]:
        """Return what was traded: whoever looks on asks the venue on a line of its own."""
        return await self.market.turnover(symbol, interval, first_ms=first_ms, end_ms=end_ms)

    async def trades(self, symbol: str, *, end_ms: int, count: int) -> list[Print]:
        """Return the last market trades."""
        return await self.market.trades(symbol, end_ms=end_ms, count=count)

    def begins_ms(self, symbol: str) -> int:
        """Return when what is told of a symbol begins."""
        return self.market.begins_ms(symbol)

    async def prices(self) -> Mapping[str, Decimal]:
        """Return the last known prices."""
        return await self.market.prices()

    def now_ms(self) -> int:
        """Return the venue's time."""
        return self.market.now_ms()

    def updates(self) -> MarketLine:
        """Yield what the line lets through."""
        return MarketLine(self.market.updates(), self.faults)


@define(eq=False)
class MarketLine:
    """The stream of one market, as it comes over the line."""

    source: AsyncIterator[MarketUpdate]
    faults: Faults
    _held: list[tuple[int, int, MarketUpdate]] = field(factory=list[tuple[int, int, MarketUpdate]])
    _ready: deque[MarketUpdate] = field(factory=deque[MarketUpdate])
    _silent_ms: int = 0
    _count: int = 0

    def __aiter__(self) -> MarketLine:
        """Return the iterator itself."""
        return self

    async def __anext__(self) -> MarketUpdate:
        """Wait for the next update that comes through."""
        while not self._ready:
            update = await self.source.__anext__()
            if not (self._held or self.faults.rates or self.faults.ordered):
                return update
            self._carry(update)
        return self._ready.popleft()

    def _carry(self, update: MarketUpdate) -> None:
        """Put an update on the line, and let go of what has been held back long enough."""
        now_ms = update.time_ms
        fault = self.faults.drawn(REPORT_FAULTS) if isinstance(update, MarketTrade | Closed) else None
        if fault is Fault.SILENT:
            self._silent_ms = now_ms + STALL_MS
        elif fault is Fault.CUT:
            self._held.clear()
            self._silent_ms = 0
        if fault not in (Fault.DROPPED, Fault.CUT):
            due_ms = max(now_ms, self._silent_ms)
            if fault is Fault.DELAYED:
                due_ms = now_ms + self.faults.lateness_ms(fault)
            if len(self._held) >= HELD_MAX:
                due_ms = now_ms
            for _ in range(2 if fault is Fault.DOUBLED else 1):
                self._count += 1
                heapq.heappush(self._held, (due_ms, self._count, update))
        while self._held and (self._held[0][0] <= now_ms or isinstance(update, Ended)):
            self._ready.append(heapq.heappop(self._held)[2])
