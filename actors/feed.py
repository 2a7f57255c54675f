"""One feed per market, shared by every strategy: prices to the desks, closed candles to the sessions in one sweep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final, Protocol

import msgspec
import structlog
import trio
from attrs import define, field

from actors.actor import OUTAGES, Guard, Occasion, Swept, Writer
from pipaid.engine.alarms import Alarms
from pipaid.engine.effects import Effects, encode
from pipaid.engine.quotes import Quotes
from pipaid.engine.rings import RING, SETTLE_MS, Rings
from pipaid.errors import Unavailable
from pipaid.foretelling import series_at
from pipaid.model.candle import Candle, CandleBuilder, MarketTrade
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.order import market_step
from pipaid.model.record import Batch, Kind, Record
from pipaid.seams import Clock
from pipaid.signals.series import Condition, Series
from pipaid.storage.store import Committed, JournalRefused
from pipaid.venues.venue import Closed, Ended, Funding, Market, MarketUpdate, Opened, Ranged
from pipaid.wire.activity import Activity

log = structlog.get_logger()
CANDLES_LATE_MAX: Final = 3
POSITION_EVERY_MS: Final = 3_600_000
# How often the feed looks at the time, and how much later than that it may be.
TURN_S: Final = 0.5
LOOP_GAP_MAX_S: Final = 1.0
# Histories are big while they are read, and what many of them took at once would hardly be given back.
OPENING_MAX: Final = 2
# It stands behind every symbol where a strategy's turns are put in order.
LAST: Final = "~"


class MarketDesk(Protocol):
    """Whoever is shown what the market tells: a simulated desk matches against it."""

    def on_market(self, update: MarketUpdate) -> None:
        """Take one update, at once."""
        ...


class MarketPosition(msgspec.Struct, frozen=True):
    """How far a market has been followed: venue time of the last close that everything durable includes.

    `listed_ms` is where its history begins: values computed from the first candle known must survive a restart.
    """

    time_ms: int
    listed_ms: int = 0


# Who is to be asked: the strategy's number and the symbol, by which they take turns, its actor, and what about.
Due = tuple[int, str, Swept, Occasion]


@define(eq=False)
class Seat:
    """One strategy's place at one series."""

    actor: Swept
    symbol: str
    series: Series
    conditions: tuple[Condition, ...] = ()


@define(eq=False)
class Feed:
    """Follow a market: keep quotes and series, let simulated desks match, and sweep the sessions that are due.

    In a sweep the sessions are called one after the other without an await; what they decide is one batch for the
    recorder. Each candle is appended to its series before any session sees it, and each price is shown to the desks
    before it is held against the alarms. A stream may repeat itself and mix things up: what is older than what was told
    before changes nothing, and candles that are missing are fetched before the next one is shown to anybody. No entry
    is based on what is older than `stale_after_s`, judged by the venue's time; nought means that data cannot age. After
    the first close the feed waits for `gate`: strategies that are declared in files start on it, whatever time it takes
    to deploy them.
    """

    market: Market
    quotes: Quotes
    writer: Writer
    guard: Guard
    clock: Clock
    activity: Activity
    stale_after_s: float
    desks: list[MarketDesk] = field(factory=list[MarketDesk])
    instruments: Mapping[str, Instrument] = field(factory=dict[str, Instrument])
    candles: int = 0
    swept: int = 0
    ignored: int = 0
    mended: int = 0
    first_close: trio.Event = field(factory=trio.Event)
    gate: trio.Event = field(factory=trio.Event)
    ended: trio.Event = field(factory=trio.Event)
    _series: dict[str, dict[Timeframe, Series]] = field(factory=dict[str, dict[Timeframe, Series]])
    _builders: dict[str, dict[Timeframe, CandleBuilder]] = field(factory=dict[str, dict[Timeframe, CandleBuilder]])
    _seats: dict[str, dict[str, Seat]] = field(factory=dict[str, dict[str, Seat]])
    _alarms: Alarms[Swept] = field(factory=Alarms[Swept])
    _rings: Rings[Swept] = field(factory=Rings[Swept])
    _opening: dict[tuple[str, Timeframe], trio.Event] = field(factory=dict[tuple[str, Timeframe], trio.Event])
    _reading: trio.Semaphore = field(factory=lambda: trio.Semaphore(OPENING_MAX))
    _position_ms: int = 0
    _turned_s: float = math.inf
    _heard_s: dict[str, float] = field(factory=dict[str, float])
    _told_ms: dict[str, int] = field(factory=dict[str, int])
    _closed_ms: dict[str, int] = field(factory=dict[str, int])

    async def prepare(self) -> None:
        """Learn what is listed and what it costs now, before any strategy is loaded."""
        self.instruments = await self.market.instruments()
        self.quotes.now_ms = self.market.now_ms()
        self.quotes.step = market_step(self.quotes.now_ms, 2)
        self._position_ms = self.quotes.now_ms
        self.quotes.prices.update(await self.market.prices())
        closed_ms = self.quotes.now_ms - self.quotes.now_ms % Timeframe.M1.ms
        self._closed_ms = dict.fromkeys(self.instruments, closed_ms)
        self._heard_s = dict.fromkeys(self.instruments, self.clock.monotonic_s())
        self.quotes.is_aged = self._is_aged

    @property
    def over(self) -> bool:
        """Tell whether the market has no more data."""
        return self.ended.is_set()

    @property
    def computed(self) -> int:
        """Return how many features of all series are brought up to date at each of their candles."""
        return sum(series.computed for timeframes in self._series.values() for series in timeframes.values())

    # Series and seats.

    async def series(self, symbol: str, timeframe: Timeframe) -> Series:
        """Return the shared series, opened with all the history that its values depend on."""
        key, series = (symbol, timeframe), self._series.setdefault(symbol, {})
        while timeframe not in series:
            if key in self._opening:
                await self._opening[key].wait()
                continue
            self._opening[key] = trio.Event()
            try:
                async with self._reading:
                    series[timeframe] = await self._opened(symbol, timeframe)
            finally:
                self._opening.pop(key).set()
        return series[timeframe]

    async def _opened(self, symbol: str, timeframe: Timeframe) -> Series:
        past: list[Candle] = []
        reached_ms = 0
        while True:
            # A market at speed moves on while the past is read: each further turn reads only what has closed since.
            now_ms = self.quotes.now_ms
            anchor_ms = Series.anchor_ms(now_ms, timeframe)
            count = (now_ms - max(anchor_ms, reached_ms)) // timeframe.ms
            if count:
                past += await self.market.history(symbol, timeframe, end_ms=now_ms, count=count)
            reached_ms = now_ms - now_ms % timeframe.ms
            forming = await self._forming(symbol, timeframe, now_ms)
            # Candles close at whole minutes only.
            if self.quotes.now_ms // Timeframe.M1.ms == now_ms // Timeframe.M1.ms:
                break
        series = Series(symbol, timeframe, larger=self._series[symbol])
        for candle in past:
            if candle.open_time_ms >= anchor_ms:
                series.append(candle)
        if timeframe is not Timeframe.M1:
            builder = CandleBuilder(symbol, timeframe)
            for candle in forming:
                builder.add(candle)
            self._builders.setdefault(symbol, {})[timeframe] = builder
        return series

    async def past(self, symbol: str, timeframe: Timeframe, at_ms: int) -> Series:
        """Return a series of its own as it stood at a moment of the past, for looking back."""
        return await series_at(self.market, symbol, timeframe, at_ms)

    async def _forming(self, symbol: str, timeframe: Timeframe, now_ms: int) -> list[Candle]:
        begun_ms = now_ms - now_ms % timeframe.ms
        count = (now_ms - begun_ms) // Timeframe.M1.ms
        if timeframe is Timeframe.M1 or not count:
            return []
        small = await self.market.history(symbol, Timeframe.M1, end_ms=now_ms, count=count)
        return [candle for candle in small if candle.open_time_ms >= begun_ms]

    def seat(self, actor: Swept, symbol: str, timeframe: Timeframe) -> None:
        """Bring an actor's place at a series, its alarm and its time in line with what it wants to be asked about."""
        self._rings.keep(actor, actor.call())
        self._alarms.keep(actor, symbol, actor.alarm(symbol))
        seats = self._seats.setdefault(actor.id, {})
        seat = seats.get(symbol)
        if seat is not None and seat.series is not self._series[symbol][timeframe]:
            self._vacate(seats.pop(symbol))
            seat = None
        wanted = actor.interest(symbol)
        if seat is None:
            if not wanted:
                return
            seat = seats[symbol] = Seat(actor, symbol, self._series[symbol][timeframe])
        for condition in wanted:
            seat.series.watch(condition, seat)
        for condition in seat.conditions:
            if condition not in wanted:
                seat.series.unwatch(condition, seat)
        seat.conditions = wanted
        if not wanted:
            del seats[symbol]

    def unseat(self, actor_id: str) -> None:
        """Take all of an actor's places and alarms away, and call it no more."""
        self._rings.forget(actor_id)
        self._alarms.forget(actor_id)
        for seat in self._seats.pop(actor_id, {}).values():
            self._vacate(seat)

    def _vacate(self, seat: Seat) -> None:
        for condition in seat.conditions:
            seat.series.unwatch(condition, seat)
        seat.conditions = ()

    # The market.

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the market until it ends or the feed is cancelled."""
        await self._note_begin()
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_age)
            async for update in self.market.updates():
                if isinstance(update, Closed):
                    update = await self._whole(update)
                self._take(update)
                if isinstance(update, Ended):
                    break
                if isinstance(update, Closed) and not self.gate.is_set():
                    await self.gate.wait()
            await self.activity.idle()
            await self._note_end()
            nursery.cancel_scope.cancel()

    async def _whole(self, update: Closed) -> Closed:
        """Return the candles that are news, after fetching those that are missing before them.

        A candle whose predecessors cannot be had now is left out: it will be missing, and fetched, at the next close.
        """
        news: list[Candle] = []
        for candle in update.candles:
            known_ms = self._closed_ms.get(candle.symbol, candle.open_time_ms)
            if candle.close_time_ms <= known_ms:
                self.ignored += 1
                continue
            if candle.open_time_ms > known_ms and not await self._mend(candle, known_ms):
                continue
            self._closed_ms[candle.symbol] = candle.close_time_ms
            news.append(candle)
        return update if len(news) == len(update.candles) else Closed(update.time_ms, tuple(news))

    async def _mend(self, candle: Candle, known_ms: int) -> bool:
        """Append the candles between those known and this one to the series; nobody is asked about what is past."""
        count = (candle.open_time_ms - known_ms) // candle.timeframe.ms
        try:
            missing = await self.market.history(
                candle.symbol, candle.timeframe, end_ms=candle.open_time_ms, count=count
            )
        except OUTAGES as outage:
            log.warning("feed.gap", symbol=candle.symbol, candles=count, reason=str(outage))
            return False
        missing = [past for past in missing if past.open_time_ms >= known_ms]
        for past in missing:
            self._append(past)
        if missing:
            self.mended += len(missing)
            log.warning("feed.mended", symbol=candle.symbol, candles=len(missing))
        return True

    def _append(self, candle: Candle) -> list[Series]:
        """Add a base candle, and the larger ones it closes, to the series; return those that went on."""
        self.candles += 1
        grown: list[Series] = []
        for closed in self._closed(candle):
            series = self._series.get(closed.symbol, {}).get(closed.timeframe)
            if series is not None and closed.open_time_ms // closed.timeframe.ms > series.index:
                series.append(closed)
                grown.append(series)
        return grown

    def _mind_gap(self) -> None:
        """Call every price stale if the loop stood still: before anything is done about what came meanwhile."""
        before_s, self._turned_s = self._turned_s, self.clock.monotonic_s()
        if self.stale_after_s and self._turned_s - before_s > TURN_S + LOOP_GAP_MAX_S:
            log.warning("feed.doubted", pause_s=round(self._turned_s - before_s, 3), symbols=len(self._heard_s))
            self.quotes.stale.update(self._heard_s)

    def _take(self, update: MarketUpdate) -> None:
        self._mind_gap()
        quotes = self.quotes
        match update:
            case MarketTrade():
                if update.time_ms < self._told_ms.get(update.symbol, 0):
                    self.ignored += 1
                    return
                self._told_ms[update.symbol] = update.time_ms
                self._move(update.time_ms)
                quotes.prices[update.symbol] = update.price
                self._hear(update.symbol, update.time_ms)
                self._show(update)
                self._rouse([(update.symbol, update.price, update.price)])
            case Opened():
                quotes.now_ms, quotes.step = update.time_ms, market_step(update.time_ms, 0)
                quotes.prices.update(update.prices)
                for symbol in update.prices:
                    self._hear(symbol, update.time_ms)
                self._show(update)
                self._rouse((symbol, price, price) for symbol, price in update.prices.items())
            case Ranged():
                quotes.step = market_step(update.time_ms, 1)
                self._show(update)
                self._rouse((candle.symbol, candle.low, candle.high) for candle in update.candles)
            case Funding():
                quotes.now_ms = max(quotes.now_ms, update.time_ms)
                self._show(update)
            case Closed():
                self._move(update.time_ms)
                for candle in update.candles:
                    if candle.close_time_ms >= self._told_ms.get(candle.symbol, 0):
                        quotes.prices[candle.symbol] = candle.close
                self._show(update)
                self._sweep(update)
                self.first_close.set()
            case Ended():
                log.info("market.ended", market=self.market.name, venue_time_ms=update.time_ms)

    def _show(self, update: MarketUpdate) -> None:
        for desk in self.desks:
            desk.on_market(update)

    def _move(self, time_ms: int) -> None:
        """Let venue time go on; it never goes back, whatever comes late."""
        if time_ms >= self.quotes.now_ms:
            self.quotes.now_ms, self.quotes.step = time_ms, market_step(time_ms, 2)

    def _hear(self, symbol: str, time_ms: int) -> None:
        if not self._too_old(time_ms):
            self._heard_s[symbol] = self.clock.monotonic_s() - self._age_s(time_ms)
            self.quotes.stale.discard(symbol)

    def _too_old(self, time_ms: int) -> bool:
        return bool(self.stale_after_s) and self._age_s(time_ms) > self.stale_after_s

    def _age_s(self, time_ms: int) -> float:
        return max(0.0, (self.market.now_ms() - time_ms) / 1_000)

    def _rouse(self, ranges: Iterable[tuple[str, Decimal, Decimal]]) -> None:
        """Ask the sessions whose alarms this step touched; each symbol ran from a lowest to a highest price."""
        step = self.quotes.step
        due: list[Due] = [
            (actor.number, symbol, actor, touch)
            for symbol, low, high in ranges
            for actor, touch in self._alarms.take(symbol, low, high, step=step)
        ]
        if self._rings.next_ms + SETTLE_MS <= self.quotes.now_ms:
            due += self._ring()
        if due:
            self._ask(due, None)

    def _ring(self) -> list[Due]:
        """Return those whose time has come; each is asked after all else that it is to be asked about."""
        called = self._rings.take(self.quotes.now_ms, self._closed_ms)
        return [(actor.number, LAST, actor, RING) for actor in called]

    def _sweep(self, update: Closed) -> None:
        if self._too_old(update.time_ms):
            # It came late, and whoever decides on it may only leave; the next trade lifts this.
            self.quotes.stale.update(candle.symbol for candle in update.candles)
        due: list[Due] = []
        for candle in update.candles:
            for series in self._append(candle):
                seats = (seat for seat in series.due() if isinstance(seat, Seat))
                due.extend((seat.actor.number, seat.symbol, seat.actor, seat.symbol) for seat in seats)
        if self._rings.next_ms <= self.quotes.now_ms:
            due += self._ring()
        if due:
            self._ask(due, update.time_ms)
        elif update.time_ms - self._position_ms >= POSITION_EVERY_MS and not self.activity.count:
            self._commit(Batch(records=[self._position(update.time_ms)]), {})

    def _closed(self, candle: Candle) -> list[Candle]:
        closed = [candle]
        for builder in self._builders.get(candle.symbol, {}).values():
            closed.extend(builder.add(candle))
        return closed

    def _ask(self, due: list[Due], closed_ms: int | None) -> None:
        """Ask one after the other; only at a close is everything known that the market's position stands for."""
        decided: dict[Swept, list[Effects]] = {}
        due.sort(key=_place)
        for _, _, actor, occasion in due:
            self.swept += 1
            effects = actor.go_on(occasion) if actor in decided else actor.on_market(occasion)
            if occasion is RING:
                self._rings.keep(actor, actor.call())
            if effects is not None:
                decided.setdefault(actor, []).append(effects)
        self.guard.rest()
        if not decided:
            return
        batch = Batch(records=[] if closed_ms is None else [self._position(closed_ms)])
        for actor, each in list(decided.items()):
            try:
                parts = [effects.batch() for effects in each]
            except Exception as trouble:  # noqa: BLE001 - what a template remembers may be impossible to store
                del decided[actor]
                actor.settled([], trouble)
                continue
            for part in parts:
                batch.records.extend(part.records)
                batch.events.extend(part.events)
        self._commit(batch, decided)

    def _position(self, time_ms: int) -> Record:
        self._position_ms = time_ms
        return Record("market", self.market.name, Kind.PUT, encode(MarketPosition(time_ms, self.market.listed_ms)))

    def _commit(self, batch: Batch, decided: dict[Swept, list[Effects]]) -> None:
        def then(outcome: Committed | JournalRefused | BaseException) -> None:
            for actor, effects in decided.items():
                actor.settled(effects, outcome)

        try:
            self.writer.submit(batch, then)
        except Unavailable as refused:
            # Nobody else tells them, and they would wait for ever.
            then(refused)

    async def _note_begin(self) -> None:
        """Note where the market was met first: its history begins at the same moment after any restart."""
        name = self.market.name
        if await self.writer.read(lambda reader: reader.get("market", name)) is None:
            await self.writer.commit(Batch(records=[self._position(self.quotes.now_ms)]))

    async def _note_end(self) -> None:
        if self.ended.is_set():
            return
        await self.writer.commit(Batch(records=[self._position(self.quotes.now_ms)]))
        self.ended.set()

    async def _watch_age(self) -> None:
        self._turned_s = self.clock.monotonic_s()
        while True:
            await self.clock.sleep(TURN_S)
            self._mind_gap()
            for symbol in self._heard_s:
                self.quotes.is_stale(symbol)
            # Where no market trade tells the time, the venue's clock does.
            now_ms = self.market.now_ms()
            if self.quotes.now_ms < now_ms and self._rings.next_ms + SETTLE_MS <= now_ms:
                self._move(now_ms)
                self._rouse(())

    def _is_aged(self, symbol: str) -> bool:
        """Tell whether a symbol has been silent too long, or the loop itself stood still."""
        if not self.stale_after_s:
            return False
        self._mind_gap()
        return self.clock.monotonic_s() - self._heard_s[symbol] > self.stale_after_s


def _place(entry: Due) -> tuple[int, str]:
    return entry[0], entry[1]
