"""The replay market: what was recorded, played again in the order of time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

import trio
from attrs import define, field

from pipaid.errors import InvalidParameter, UnknownSymbol
from pipaid.model.candle import Candle
from pipaid.model.instrument import MINUTE_MS, Instrument, Timeframe
from pipaid.model.interval import Interval
from pipaid.model.turnover import Print, Turnover
from pipaid.seams import Clock
from pipaid.venues.past import Past
from pipaid.venues.playback import Playback
from pipaid.venues.recorded import Recorded
from pipaid.venues.tape import Tape
from pipaid.venues.venue import Closed, Ended, Funding, MarketUpdate, Opened, Ranged
from pipaid.wire.activity import Activity

CANDLES_PER_TURN_MAX: Final = 1_000


@define(eq=False)
class ReplayMarket:
    """Play recorded candles (opened, ranged, closed) or market trades (each, and the candles they make) in lockstep.

    It begins with what lies at or after `start_ms` (or the first row), or after the close at `resume_ms`; what was
    recorded before serves as history. Symbols are merged: an update carries all that have that minute, and a gap simply
    has no candle. `speed` is venue seconds per second, nothing for as fast as what it causes is dealt with.
    """

    recorded: Recorded
    clock: Clock
    activity: Activity
    start_ms: int | None = None
    resume_ms: int | None = None
    end_ms: int | None = None
    speed: float | None = None
    name: str = "replay"
    listed_ms: int = 0
    ends_ms: int = field(init=False)
    _playback: Playback = field(init=False)
    _past: Past = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._past = Past(self._minutes_of)
        tapes = self.recorded.candles.values()
        first_ms = min(tape.time_ms(0) for tape in tapes)
        last_ms = max(tape.time_ms(len(tape) - 1) for tape in tapes) + MINUTE_MS
        self.ends_ms = last_ms
        begin_ms = max(first_ms, self.start_ms or 0, self.resume_ms or 0)
        if self.resume_ms is None and begin_ms >= last_ms:
            raise InvalidParameter(
                f"the replay is to begin at {begin_ms} ms, but what was recorded ends at {last_ms} ms"
            )
        self._playback = Playback(
            steps=self._steps(begin_ms),
            clock=self.clock,
            activity=self.activity,
            speed=self.speed,
            lockstep=True,
            now_ms=begin_ms,
        )

    async def instruments(self) -> Mapping[str, Instrument]:
        """Return what is listed."""
        return self.recorded.instruments

    async def prices(self) -> Mapping[str, Decimal]:
        """Return the last close of each symbol that has one."""
        marks = {symbol: self._mark(tape, self.now_ms()) for symbol, tape in self.recorded.candles.items()}
        return {symbol: mark for symbol, mark in marks.items() if mark is not None}

    async def history(self, symbol: str, timeframe: Timeframe, *, end_ms: int, count: int) -> list[Candle]:
        """Return up to `count` candles that end at or before `end_ms` and now, oldest first: never what is to come."""
        tape = self._tape(symbol)
        candles: list[Candle] = []
        read = 0
        for candle in tape.history(timeframe, min(end_ms, self.now_ms()), count):
            candles.append(candle)
            read += timeframe.ms // MINUTE_MS
            if read >= CANDLES_PER_TURN_MAX:
                read = 0
                await trio.lowlevel.checkpoint()
        return candles

    async def turnover(self, symbol: str, interval: Interval, *, first_ms: int, end_ms: int) -> list[Turnover]:
        """Return what was traded from a moment on and before another, cut into intervals: nothing that is to come."""
        first_ms, end_ms = max(first_ms, self.begins_ms(symbol)), min(end_ms, self.now_ms())
        return await self._past.turnover(symbol, interval, first_ms=first_ms, end_ms=end_ms)

    async def trades(self, symbol: str, *, end_ms: int, count: int) -> list[Print]:
        """Return the last market trades before a moment, oldest first; none where candles were recorded."""
        tape = self.recorded.trades.get(symbol)
        if tape is None:
            return []
        end = tape.after(min(end_ms, self.now_ms() + 1))
        return [Print(index + 1, tape.trade(index)) for index in range(max(0, end - count), end)]

    def begins_ms(self, symbol: str) -> int:
        """Return when what is told of a symbol begins."""
        return self._tape(symbol).time_ms(0)

    def now_ms(self) -> int:
        """Return the venue's time: that of the last update."""
        return self._playback.now_ms

    def updates(self) -> Playback:
        """Yield what was recorded, in order; a market is followed once."""
        return self._playback

    def _tape(self, symbol: str) -> Tape:
        tape = self.recorded.candles.get(symbol)
        if tape is None:
            raise UnknownSymbol(f"{symbol} was not recorded; recorded: {', '.join(self.recorded.candles)}")
        return tape

    def _minutes_of(self, symbol: str, first: int, count: int) -> list[Turnover]:
        tape = self.recorded.candles[symbol]
        begin, end = tape.after(first * MINUTE_MS), tape.after((first + count) * MINUTE_MS)
        return [tape.turnover(index) for index in range(begin, end)]

    def _steps(self, begin_ms: int) -> Iterator[MarketUpdate]:
        rates = self._rates(begin_ms)
        rate = next(rates, None)
        played = self._trade_steps(begin_ms) if self.recorded.trades else self._candle_steps(begin_ms)
        for update in played:
            while rate is not None and rate.time_ms <= update.time_ms and not isinstance(update, Closed):
                yield rate
                rate = next(rates, None)
            yield update
        yield Ended(self.now_ms())

    def _candle_steps(self, begin_ms: int) -> Iterator[MarketUpdate]:
        for opened_ms, candles in self._minutes(begin_ms):
            yield Opened(opened_ms, {candle.symbol: candle.open for candle in candles})
            yield Ranged(opened_ms, candles)
            yield Closed(opened_ms + MINUTE_MS, candles)

    def _trade_steps(self, begin_ms: int) -> Iterator[MarketUpdate]:
        rows = [_moments(tape, order, begin_ms) for order, tape in enumerate(self.recorded.trades.values())]
        tapes = list(self.recorded.trades.values())
        trades = heapq.merge(*rows)
        waiting = next(trades, None)
        for opened_ms, candles in self._minutes(begin_ms - begin_ms % MINUTE_MS):
            while waiting is not None and waiting[0] < opened_ms + MINUTE_MS:
                _, order, index = waiting
                yield tapes[order].trade(index)
                waiting = next(trades, None)
            yield Closed(opened_ms + MINUTE_MS, candles)

    def _minutes(self, begin_ms: int) -> Iterator[tuple[int, tuple[Candle, ...]]]:
        """Yield each minute that any symbol has, with the candles of all that have it."""
        tapes = list(self.recorded.candles.values())
        rows = heapq.merge(*(_moments(tape, order, begin_ms) for order, tape in enumerate(tapes)))
        minute_ms, candles = begin_ms, list[Candle]()
        for time_ms, order, index in rows:
            if time_ms != minute_ms and candles:
                yield minute_ms, tuple(candles)
                candles = []
            if self.end_ms is not None and time_ms >= self.end_ms:
                return
            minute_ms = time_ms
            candles.append(tapes[order].candle(index))
        if candles:
            yield minute_ms, tuple(candles)

    def _rates(self, begin_ms: int) -> Iterator[Funding]:
        """Yield funding from a moment on, at the last price known then; without one, nobody can hold anything."""
        due = sorted(
            (time_ms, symbol, rate)
            for symbol, rates in self.recorded.funding.items()
            for time_ms, rate in rates
            if time_ms >= begin_ms
        )
        for time_ms, symbol, rate in due:
            mark = self._mark(self.recorded.candles[symbol], time_ms)
            if mark is not None:
                yield Funding(time_ms, symbol, rate, mark)

    def _mark(self, tape: Tape, time_ms: int) -> Decimal | None:
        index = tape.after(time_ms - MINUTE_MS + 1) - 1
        return tape.candle(index).close if index >= 0 else None


def _moments(tape: Tape, order: int, begin_ms: int) -> Iterator[tuple[int, int, int]]:
    for index in range(tape.after(begin_ms), len(tape)):
        yield tape.time_ms(index), order, index
