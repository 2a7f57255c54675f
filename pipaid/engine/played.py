"""Recorded candles as a session sees them in a backtest: up to the one that has been reached, and nothing after it."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import numpy as np
from attrs import define, field

from pipaid.engine.quotes import Quotes
from pipaid.model.candle import Candle
from pipaid.model.columns import Candles, Floats, Integers
from pipaid.model.instrument import Timeframe
from pipaid.model.money import ZERO
from pipaid.signals.columns import Columns, Truths, Values
from pipaid.signals.series import Condition, Feature

# Between these many candles the lowest low and the highest high are kept, so that a search leaps over most of them.
STRIDE: Final = 512
# What is touched soon is found without any leap.
NEAR: Final = 32
NAN: Final = float("nan")


class PlayedFeature:
    """A feature as of the candle that its series has reached."""

    __slots__ = ("_befores", "_column", "_series")

    def __init__(self, series: PlayedSeries, values: Values) -> None:
        self._series = series
        self._column = values.value
        self._befores = dict(zip(values.firsts.tolist(), values.before.tolist(), strict=True))

    @property
    def value(self) -> float | None:
        """Return the value at the candle, nothing while it warms up."""
        index = self._series.index
        value = self._column.item(index) if index >= 0 else NAN
        return value if value == value else None

    @property
    def previous(self) -> float | None:
        """Return the value one candle earlier."""
        index = self._series.index
        value = self._befores.get(index)
        if value is None:
            value = self._column.item(index - 1) if index > 0 else NAN
        return value if value == value else None


@define(eq=False)
class PlayedSeries:
    """The candles on which a strategy decides, with their features, as of the one reached last."""

    columns: Columns
    index: int = -1
    _last: Candle | None = None
    _last_index: int = -1
    _features: dict[Feature, PlayedFeature] = field(factory=dict[Feature, PlayedFeature])

    @property
    def last(self) -> Candle | None:
        """Return the last closed candle."""
        if self._last_index != self.index:
            self._last = self.columns.candles.candle(self.index) if self.index >= 0 else None
            self._last_index = self.index
        return self._last

    def feature(self, feature: Feature) -> PlayedFeature:
        """Return a feature as of the last closed candle."""
        played = self._features.get(feature)
        if played is None:
            played = self._features[feature] = PlayedFeature(self, self.columns.feature(feature))
        return played


@define(eq=False)
class Track:
    """The recorded candles of one symbol, and where the playing of them has come to.

    `begin` and `end` bound the candles that are played, as places in the columns; those before `begin` are history.
    `reached` is the place of the candle that is being played, `price` the last price.
    """

    symbol: str
    candles: Candles
    series: PlayedSeries
    begin: int
    end: int
    reached: int = -1
    _opened: bool = False
    closes: Integers = field(init=False)
    _lows: Integers = field(init=False)
    _highs: Integers = field(init=False)
    _asked: dict[Condition, Truths] = field(factory=dict[Condition, Truths])
    _found: dict[Condition, Integers] = field(factory=dict[Condition, Integers])

    def __attrs_post_init__(self) -> None:
        starts = np.arange(0, max(1, len(self.candles)), STRIDE)
        self._lows = np.minimum.reduceat(self.candles.low, starts)
        self._highs = np.maximum.reduceat(self.candles.high, starts)
        self.closes = _closes(self.candles, self.series.columns.candles)

    @classmethod
    def of(cls, candles: Candles, timeframe: Timeframe, begin_ms: int, end_ms: int) -> Track:
        """Return a track of candles of which the strategy's own are made; those between the moments are played."""
        begin, end = (int(each) for each in np.searchsorted(candles.time_ms, (begin_ms, end_ms)))
        return cls(candles.symbol, candles, PlayedSeries(Columns(candles.larger(timeframe))), begin, max(begin, end))

    def at(self, time_ms: int) -> int:
        """Return the place of the candle that opens at a moment, or -1 if there is none."""
        place = int(np.searchsorted(self.candles.time_ms, time_ms))
        return place if place < self.end and int(self.candles.time_ms[place]) == time_ms else -1

    def before(self, time_ms: int) -> int:
        """Return the place of the last candle that opened before a moment, or the one before `begin`."""
        return max(self.begin, int(np.searchsorted(self.candles.time_ms[: self.end], time_ms))) - 1

    def mark_at(self, time_ms: int) -> Decimal | None:
        """Return the last close before a moment, if there is one."""
        place = int(np.searchsorted(self.candles.time_ms, time_ms - self.candles.timeframe.ms, side="right")) - 1
        return self.candles.price(int(self.candles.close[place])) if place >= 0 else None

    def closes_at(self, times: Integers) -> Floats:
        """Return the last close at each of some moments, the first open before there is any."""
        step_ms = self.candles.timeframe.ms
        places = np.searchsorted(self.candles.time_ms, times - step_ms, side="right") - 1
        return self.candles.floats("close")[np.maximum(places, 0)]

    def reach(self, place: int) -> Candle:
        """Begin the candle at a place: its first price is known, and the series stands at what had closed before."""
        self.reached, self._opened = place, True
        if place:
            self.series.index = int(self.closes[place - 1])
        return self.candles.candle(place)

    def close(self) -> bool:
        """Close the candle that is being played; tell whether the strategy has a new candle of its own by that."""
        self._opened = False
        before, self.series.index = self.series.index, int(self.closes[self.reached])
        return self.series.index != before

    @property
    def price(self) -> Decimal:
        """Return the last price, zero if none is known yet."""
        if self.reached < 0:
            return ZERO
        column = self.candles.open if self._opened else self.candles.close
        return self.candles.price(int(column[self.reached]))

    def stand(self, place: int) -> None:
        """Stand right after a candle, as if all before had been played."""
        self.reached = place
        self.series.index = int(self.closes[place]) if place >= 0 else -1

    def holds(self, condition: Condition) -> bool:
        """Tell whether a condition holds at the series' last candle."""
        return self.series.index >= 0 and bool(self._truths(condition)[self.series.index])

    def next_holding(self, condition: Condition, place: int) -> int:
        """Return the first place after one at whose close a condition holds, or `end`."""
        found = self._found.get(condition)
        if found is None:
            own = np.flatnonzero(self._truths(condition))
            # The close of a larger candle is that of the small one that completes it.
            found = self._found[condition] = np.searchsorted(self.closes, own)
        at = int(np.searchsorted(found, place, side="right"))
        return min(int(found[at]), self.end) if at < len(found) else self.end

    def next_touching(self, below: Decimal, above: Decimal, place: int) -> int:
        """Return the first place after one whose low is at most `below` or whose high is at least `above`, or `end`."""
        low = _units(below, self.candles.price_decimals, up=False)
        high = _units(above, self.candles.price_decimals, up=True)
        if low <= 0 and high == _NEVER:
            return self.end
        at, near = place + 1, min(place + 1 + NEAR, self.end)
        if at >= self.end:
            return self.end
        found = _first(self.candles, (low, high), at, near)
        if found >= 0 or near == self.end:
            return found if found >= 0 else self.end
        while near < self.end:
            stride = near // STRIDE
            if near % STRIDE == 0:
                # From a stride's beginning on, whole strides are looked through at once.
                met = np.flatnonzero((self._lows[stride:] <= low) | (self._highs[stride:] >= high))
                if not len(met):
                    return self.end
                stride += int(met[0])
                near = stride * STRIDE
            until = min((stride + 1) * STRIDE, self.end)
            if near >= until:
                return self.end
            found = _first(self.candles, (low, high), near, until)
            if found >= 0:
                return found
            near = until
        return self.end

    def _truths(self, condition: Condition) -> Truths:
        truths = self._asked.get(condition)
        if truths is None:
            truths = self._asked[condition] = self.series.columns.holds(condition)
        return truths


@define
class PlayedQuotes(Quotes):
    """The prices of what is played, read where they are asked for."""

    tracks: dict[str, Track] = field(factory=dict[str, Track])

    def price(self, symbol: str) -> Decimal:
        """Return the last price, zero if none is known."""
        track = self.tracks.get(symbol)
        return ZERO if track is None else track.price


_NEVER: Final = 2**62


def _units(price: Decimal, decimals: int, *, up: bool) -> int:
    """Return a price in whole units: the least that is not below it, or the greatest that is not above it."""
    if not price.is_finite():
        return _NEVER
    scaled = price.scaleb(decimals)
    whole = int(scaled)
    if whole == scaled:
        return whole
    return whole + 1 if up else whole


def _first(candles: Candles, bounds: tuple[int, int], start: int, stop: int) -> int:
    low, high = bounds
    met = np.flatnonzero((candles.low[start:stop] <= low) | (candles.high[start:stop] >= high))
    return start + int(met[0]) if len(met) else -1


def _closes(small: Candles, large: Candles) -> Integers:
    """Return for each small candle the place of the last large one that is closed when the small one is.

    A large candle is closed by the first small one that ends at or after its own end, and so is known only then.
    """
    if small is large:
        return np.arange(len(small))
    ends = large.time_ms + large.timeframe.ms
    return np.searchsorted(ends, small.time_ms + small.timeframe.ms, side="right") - 1
