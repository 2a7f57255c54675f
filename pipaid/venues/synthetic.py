"""The synthetic market: five perpetuals, or any symbols, whose prices follow from a seed and the time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import count, islice
from typing import Final

import numpy as np
import trio
from attrs import define, field

from pipaid.errors import UnknownSymbol
from pipaid.model.candle import Candle, MarketTrade
from pipaid.model.instrument import MINUTE_MS, Instrument, Timeframe
from pipaid.model.interval import Interval
from pipaid.model.turnover import Print, Turnover
from pipaid.seams import Clock
from pipaid.venues.past import Past
from pipaid.venues.path import CHUNK_MINUTES, MINUTE_S, Flags, Integers, Minutes, Nature, PricePath, minutes_of
from pipaid.venues.playback import Playback
from pipaid.venues.symbols import NOTIONAL_MIN, base_and_quote
from pipaid.venues.venue import Closed, Ended, MarketUpdate, Opened, Ranged
from pipaid.wire.activity import Activity

# Steps of tick and lot are those of the real perpetuals in 2026; quantities are what a second sees on average.
_LISTED: Final[dict[str, tuple[str, str, Nature]]] = {
    "BTCUSDT": ("0.1", "0.001", Nature(950_000, 0.017, 400)),
    "ETHUSDT": ("0.01", "0.001", Nature(330_000, 0.022, 7_000)),
    "SOLUSDT": ("0.01", "0.01", Nature(18_500, 0.026, 6_000)),
    "BNBUSDT": ("0.01", "0.01", Nature(88_000, 0.019, 900)),
    "XRPUSDT": ("0.0001", "0.1", Nature(24_500, 0.025, 80_000)),
}
MAX_SPEED: Final = "max"
CANDLES_AHEAD_MINUTES: Final = 240
TRADES_AHEAD_MINUTES: Final = 10


@define(eq=False)
class _Listing:
    """One symbol: its instrument, and its path in ticks and lots."""

    instrument: Instrument
    path: PricePath

    def candles(self, first: int, columns: Minutes, timeframe: Timeframe = Timeframe.M1) -> Iterator[Candle]:
        """Turn columns into candles; the first one opens `first` times its length after the epoch."""
        instrument, length_ms = self.instrument, timeframe.ms
        symbol, tick, lot = instrument.symbol, instrument.tick_size, instrument.lot_size
        rows = zip(*(column.tolist() for column in _fields(columns)), strict=True)
        for index, (begun, high, low, last, volume) in enumerate(rows, first):
            prices = (begun * tick, high * tick, low * tick, last * tick)
            yield Candle(symbol, timeframe, index * length_ms, *prices, volume * lot)

    def seconds(self, start_s: int, count: int) -> tuple[Integers, Integers, Flags]:
        """Return prices, volumes, and whether who bought was resting: that is so where the price has just fallen."""
        ticks, lots = self.path.seconds(start_s - 1, count + 1)
        return ticks[1:], lots[1:], np.diff(ticks) < 0

    def trades(self, start_s: int, ticks: Integers, lots: Integers, sold: Flags) -> Iterator[MarketTrade]:
        """Turn the columns of consecutive seconds into market trades."""
        instrument = self.instrument
        symbol, tick, lot = instrument.symbol, instrument.tick_size, instrument.lot_size
        rows = zip(count(start_s), ticks.tolist(), lots.tolist(), sold.tolist(), strict=False)
        for second, price, quantity, rested in rows:
            yield MarketTrade(symbol, second * 1000, price * tick, quantity * lot, rested)

    def turnover(self, first: int, length: int) -> list[Turnover]:
        """Return what the seconds of some minutes come to."""
        tick, lot = self.instrument.tick_size, self.instrument.lot_size
        ticks, lots, sold = self.seconds(first * MINUTE_S, length * MINUTE_S)
        worth, taken = tick * lot, np.where(sold, 0, lots)
        prices = (column.tolist() for column in _fields(minutes_of(ticks, lots)))
        sums = (column.reshape(-1, MINUTE_S).sum(axis=1).tolist() for column in (ticks * lots, taken, ticks * taken))
        return [
            Turnover(
                minute * MINUTE_MS, begun * tick, high * tick, low * tick, last * tick, volume * lot, value * worth,
                MINUTE_S, bought * lot, paid * worth,
            )
            for minute, begun, high, low, last, volume, value, bought, paid in zip(
                count(first), *prices, *sums, strict=False
            )
        ]  # fmt: skip


@define(eq=False)
class SyntheticMarket:
    """Play made-up prices from `start_ms` on, or from `resume_ms` if the market has been followed that far.

    At speed "max" it yields candles in lockstep with what they cause (opened, ranged, closed); at a number, that many
    venue seconds a second, a market trade of each symbol every venue second and closed candles. Candles of history are
    those that the trades make. With `end_ms` the market ends there. What came before `listed_ms` is not told: the past
    of made-up prices is endless, and a thousand days of it would be long in the making.
    """

    symbols: Sequence[str]
    seed: int
    clock: Clock
    activity: Activity
    start_ms: int
    resume_ms: int | None = None
    end_ms: int | None = None
    listed_ms: int = 0
    speed: float | str = 1.0
    name: str = "synthetic"
    ends_ms: int = 0
    _listings: dict[str, _Listing] = field(init=False)
    _playback: Playback = field(init=False)
    _past: Past = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._past = Past(lambda symbol, first, length: self._listings[symbol].turnover(first, length))
        self._listings = {symbol: _listing(self.seed, symbol) for symbol in self.symbols}
        begin_ms = self.start_ms if self.resume_ms is None else max(self.start_ms, self.resume_ms)
        lockstep = self.speed == MAX_SPEED
        self._playback = Playback(
            steps=self._candle_steps(begin_ms) if lockstep else self._trade_steps(begin_ms),
            clock=self.clock,
            activity=self.activity,
            speed=None if lockstep else float(self.speed),
            lockstep=lockstep,
            now_ms=begin_ms,
        )

    async def instruments(self) -> Mapping[str, Instrument]:
        """Return what is listed."""
        return {symbol: listing.instrument for symbol, listing in self._listings.items()}

    async def prices(self) -> Mapping[str, Decimal]:
        """Return the last price of each symbol before now."""
        second = (self.now_ms() - 1) // 1000
        return {
            symbol: int(listing.path.seconds(second, 1)[0][0]) * listing.instrument.tick_size
            for symbol, listing in self._listings.items()
        }

    async def history(self, symbol: str, timeframe: Timeframe, *, end_ms: int, count: int) -> list[Candle]:
        """Return up to `count` closed candles that end at or before `end_ms` and now, oldest first."""
        listing = self._listed(symbol)
        minutes = timeframe.ms // MINUTE_MS
        last = min(end_ms, self.now_ms()) // timeframe.ms
        first = max(-(-self.listed_ms // timeframe.ms), last - count)
        stride = max(1, CHUNK_MINUTES // minutes)
        candles: list[Candle] = []
        for start in range(first, last, stride):
            await trio.lowlevel.checkpoint()
            length = min(stride, last - start)
            columns = listing.path.minutes(start * minutes, length * minutes)
            candles.extend(listing.candles(start, widened(columns, minutes), timeframe))
        return candles

    async def turnover(self, symbol: str, interval: Interval, *, first_ms: int, end_ms: int) -> list[Turnover]:
        """Return what was traded from a moment on and before another, cut into intervals: nothing that is to come."""
        first_ms, end_ms = max(first_ms, self.begins_ms(symbol)), min(end_ms, self.now_ms())
        return await self._past.turnover(symbol, interval, first_ms=first_ms, end_ms=end_ms)

    async def trades(self, symbol: str, *, end_ms: int, count: int) -> list[Print]:
        """Return the last market trades before a moment, oldest first; each second has one and lends it its number."""
        listing = self._listed(symbol)
        end_s = -(-min(end_ms, self.now_ms() + 1) // 1000)
        first_s = max(-(-self.listed_ms // 1000), end_s - count)
        trades = listing.trades(first_s, *listing.seconds(first_s, max(0, end_s - first_s)))
        return [Print(trade.time_ms // 1000, trade) for trade in trades]

    def begins_ms(self, symbol: str) -> int:
        """Return when what is told of a symbol begins."""
        self._listed(symbol)
        return self.listed_ms

    def now_ms(self) -> int:
        """Return the venue's time: that of the last update."""
        return self._playback.now_ms

    def updates(self) -> Playback:
        """Yield what happens, in order; a market is followed once."""
        return self._playback

    def _listed(self, symbol: str) -> _Listing:
        listing = self._listings.get(symbol)
        if listing is None:
            raise UnknownSymbol(f"{symbol} is not listed; listed: {', '.join(self._listings)}")
        return listing

    def _candle_steps(self, begin_ms: int) -> Iterator[MarketUpdate]:
        for first, length in self._spans(begin_ms // MINUTE_MS, CANDLES_AHEAD_MINUTES):
            rows = [listing.candles(first, listing.path.minutes(first, length)) for listing in self._listings.values()]
            for candles in zip(*rows, strict=True):
                opened_ms = candles[0].open_time_ms
                yield Opened(opened_ms, {candle.symbol: candle.open for candle in candles})
                yield Ranged(opened_ms, candles)
                yield Closed(candles[0].close_time_ms, candles)
        yield Ended(self.now_ms())

    def _trade_steps(self, begin_ms: int) -> Iterator[MarketUpdate]:
        for first, length in self._spans(begin_ms // MINUTE_MS, TRADES_AHEAD_MINUTES):
            listings = self._listings.values()
            columns = [listing.seconds(first * MINUTE_S, length * MINUTE_S) for listing in listings]
            trades = zip(
                *(listing.trades(first * MINUTE_S, *each) for listing, each in zip(listings, columns, strict=True)),
                strict=True,
            )
            candles = zip(
                *(
                    listing.candles(first, minutes_of(ticks, lots))
                    for listing, (ticks, lots, _) in zip(listings, columns, strict=True)
                ),
                strict=True,
            )
            for closed in candles:
                for second in islice(trades, MINUTE_S):
                    if second[0].time_ms >= begin_ms:
                        yield from second
                yield Closed(closed[0].close_time_ms, closed)
        yield Ended(self.now_ms())

    def _spans(self, first: int, ahead: int) -> Iterator[tuple[int, int]]:
        """Yield stretches of minutes up to the end, if there is one."""
        end = None if self.end_ms is None else self.end_ms // MINUTE_MS
        while end is None or first < end:
            length = ahead if end is None else min(ahead, end - first)
            yield first, length
            first += length


def _fields(columns: Minutes) -> Iterator[Integers]:
    return (getattr(columns, name) for name in Minutes.__struct_fields__)


def widened(columns: Minutes, factor: int) -> Minutes:
    """Aggregate each `factor` candles to one; their number is a multiple of it."""
    if factor == 1:
        return columns
    opens, highs, lows, closes, volumes = (column.reshape(-1, factor) for column in _fields(columns))
    return Minutes(opens[:, 0], highs.max(axis=1), lows.min(axis=1), closes[:, -1], volumes.sum(axis=1))


def _listing(seed: int, symbol: str) -> _Listing:
    tick, lot, nature = _LISTED.get(symbol) or _invented(symbol)
    base, quote = base_and_quote(symbol)
    instrument = Instrument(
        symbol=symbol,
        base=base,
        quote=quote,
        tick_size=Decimal(tick),
        lot_size=Decimal(lot),
        quantity_min=Decimal(lot),
        notional_min=NOTIONAL_MIN,
    )
    return _Listing(instrument, PricePath(seed, symbol, nature))


def _invented(symbol: str) -> tuple[str, str, Nature]:
    """Return tick, lot and nature of a symbol that is not in the table: they follow from its name."""
    drawn = hashlib.blake2b(symbol.encode(), digest_size=2).digest()
    return "0.001", "0.01", Nature(5_000 + 500 * drawn[0], 0.018 + drawn[1] / 20_000, 100_000 // (1 + drawn[0]))
