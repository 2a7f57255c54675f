"""Recorded candles as a session sees them in a backtest: up to the one that has been reached, and nothing after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Protocol, cast

import numpy as np
from attrs import define, field

from pipaid.engine.quotes import Quotes
from pipaid.model.candle import Candle
from pipaid.model.columns import Candles, Floats, Integers
from pipaid.model.instrument import Timeframe
from pipaid.model.money import ZERO
from pipaid.signals.columns import Columns, Truths
from pipaid.signals.series import BLOCK, Condition, Feature

# Between these many candles the lowest low and the highest high are kept, so that a search leaps over most of them.
STRIDE: Final = 512
# What is touched soon is found without any leap.
NEAR: Final = 32
# Features are made for so many blocks at a time, over a year of minutes, which bounds the memory they take.
PIECE_BLOCKS: Final = 144
NEVER_MS: Final = 2**62


@define(eq=False)
class Piece:
    """The features and conditions of some of a series' candles, those from `first` on and before `end`.

    `start` is the first candle they are made of: with the block before a piece, its values are those of the whole.
    `borrowed` answers for conditions of larger timeframes.
    """

    first: int
    end: int
    start: int
    columns: Columns
    borrowed: Callable[[Condition, int, int], Truths]
    _truths: dict[Condition, Truths] = field(factory=dict[Condition, Truths])
    _holding: dict[Condition, Integers] = field(factory=dict[Condition, Integers])

    def holds(self, condition: Condition, index: int) -> bool:
        """Tell whether a condition holds at a candle of this piece."""
        if _is_of_time(condition):
            return index >= self.start + self._entering(condition)
        return bool(self.truths(condition)[index - self.start])

    def next_holding(self, condition: Condition, index: int) -> int:
        """Return the first candle from one on at which a condition holds, or `end`."""
        if _is_of_time(condition):
            # Time does not go back: it is found without looking at every candle, and is another one for every lot.
            return max(index, min(self.start + self._entering(condition), self.end))
        found = self._holding.get(condition)
        if found is None:
            found = self._holding[condition] = np.flatnonzero(self.truths(condition))
        at = int(found.searchsorted(index - self.start))
        return self.start + found.item(at) if at < len(found) else self.end

    def truths(self, condition: Condition) -> Truths:
        """Return at which candles from `start` on a condition holds."""
        truths = self._truths.get(condition)
        if truths is None:
            borrows = condition.timeframe not in (None, self.columns.candles.timeframe)
            end = self.start + len(self.columns.candles)
            found = self.borrowed(condition, self.start, end) if borrows else self.columns.holds(condition.bare)
            truths = self._truths[condition] = found
        return truths

    def _entering(self, condition: Condition) -> int:
        """Return how many candles of `columns` close before the first period that is at least the condition's."""
        candles, (period_ms, offset_ms) = self.columns.candles, condition.left.params
        assert isinstance(condition.right, int | float)
        begins_ms = math.ceil(condition.right) * int(period_ms) + int(offset_ms)
        return int(candles.time_ms.searchsorted(begins_ms - candles.timeframe.ms))


def _is_of_time(condition: Condition) -> bool:
    of_period = condition.left.name == "period" and condition.timeframe is None
    return of_period and condition.kind == "at_least" and not condition.edge


_NOTHING: Final = np.empty(0)


class PlayedFeature:
    """A feature as of the candle that its series has reached."""

    __slots__ = ("_befores", "_column", "_end", "_feature", "_first", "_series", "_start")

    def __init__(self, series: PlayedSeries, feature: Feature) -> None:
        self._series = series
        self._feature = feature
        self.forget()

    @property
    def value(self) -> float | None:
        """Return the value at the candle, nothing while it warms up."""
        index = self._series.index
        if not self._first <= index < self._end:
            if index < 0:
                return None
            self._turn(index)
        value = self._column.item(index - self._start)
        return value if value == value else None

    @property
    def previous(self) -> float | None:
        """Return the value one candle earlier."""
        index = self._series.index
        if not self._first <= index < self._end:
            if index < 0:
                return None
            self._turn(index)
        value = self._befores.get(index)
        if value is None:
            value = self._column.item(index - self._start - 1)
        return value if value == value else None

    def forget(self) -> None:
        """Let go of the values, to look them up anew."""
        self._first = self._end = 0
        self._column = _NOTHING
        self._befores: dict[int, float] = {}

    def _turn(self, index: int) -> None:
        piece = self._series.piece(index)
        values = piece.columns.feature(self._feature)
        self._first, self._end, self._start = piece.first, piece.end, piece.start
        self._column = values.value
        self._befores = dict(zip((values.firsts + piece.start).tolist(), values.before.tolist(), strict=True))


class BorrowedFeature:
    """A feature of a larger timeframe, as of the candle of it that was closed last."""

    __slots__ = ("_feature", "_standing", "_timeframe")

    def __init__(self, standing: Callable[[Timeframe], PlayedSeries], timeframe: Timeframe, feature: Feature) -> None:
        self._standing = standing
        self._timeframe = timeframe
        self._feature = feature

    @property
    def value(self) -> float | None:
        """Return the value at the larger candle, nothing while it warms up."""
        return self._standing(self._timeframe).feature(self._feature).value

    @property
    def previous(self) -> float | None:
        """Return the value one larger candle earlier."""
        return self._standing(self._timeframe).feature(self._feature).previous


class Lender(Protocol):
    """Whoever has the series of larger timeframes."""

    def standing(self, timeframe: Timeframe) -> PlayedSeries:
        """Return the series of a larger timeframe as it stands now."""
        ...

    def lent(self, condition: Condition, start: int, end: int) -> Truths:
        """Return at which of the strategy's own candles a condition of a larger timeframe holds."""
        ...


@define(eq=False)
class PlayedSeries:
    """The candles on which a strategy decides, with their features, as of the one reached last.

    Those of larger timeframes are borrowed.
    """

    candles: Candles
    index: int = -1
    lender: Lender | None = None
    _last: Candle | None = None
    _last_index: int = -1
    _piece: Piece | None = None
    _features: dict[Feature, PlayedFeature] = field(factory=dict[Feature, PlayedFeature])
    _borrowed: dict[Feature, PlayedFeature | BorrowedFeature] = field(factory=dict[Feature, Any])

    @property
    def last(self) -> Candle | None:
        """Return the last closed candle."""
        if self._last_index != self.index:
            self._last = self.candles.candle(self.index) if self.index >= 0 else None
            self._last_index = self.index
        return self._last

    @property
    def closed_ms(self) -> int:
        """Return when the last closed candle ended, zero if none is known yet."""
        return self.candles.time_ms.item(self.index) + self.candles.timeframe.ms if self.index >= 0 else 0

    def feature(self, feature: Feature) -> PlayedFeature | BorrowedFeature:
        """Return a feature as of the last closed candle."""
        played = self._features.get(feature) or self._borrowed.get(feature)
        if played is None:
            timeframe = feature.timeframe
            if timeframe is None:
                played = self._features[feature] = PlayedFeature(self, feature)
            elif timeframe is self.candles.timeframe:
                played = self._borrowed[feature] = self.feature(feature.bare)
            else:
                assert self.lender is not None, "a series of a larger timeframe borrows nothing"
                played = self._borrowed[feature] = BorrowedFeature(self.lender.standing, timeframe, feature.bare)
        return played

    def recent(self, count: int, timeframe: Timeframe | None = None) -> Sequence[Candle]:
        """Return the candles up to the one reached, oldest first."""
        if timeframe is not None and timeframe is not self.candles.timeframe:
            assert self.lender is not None, "a series of a larger timeframe borrows nothing"
            return self.lender.standing(timeframe).recent(count)
        return [self.candles.candle(at) for at in range(max(0, self.index + 1 - count), self.index + 1)]

    def truths(self, condition: Condition, first: int, end: int) -> Truths:
        """Return at which candles from one on and before another a condition of their own timeframe holds."""
        truths: Truths = np.zeros(end - first, dtype=np.bool_)
        at = first
        while at < end:
            piece = self.piece(at)
            stop = min(piece.end, end)
            truths[at - first : stop - first] = piece.truths(condition)[at - piece.start : stop - piece.start]
            at = stop
        return truths

    def piece(self, index: int) -> Piece:
        """Return the piece that a candle lies in, made anew if it is another one than before."""
        piece = self._piece
        if piece is None or not piece.first <= index < piece.end:
            block_ms = BLOCK * self.candles.timeframe.ms
            # Wherever the playing is when it first asks: a year that begins there is of one piece.
            begun_ms = int(self.candles.time_ms[index]) // block_ms * block_ms
            bounds_ms = (begun_ms - block_ms, begun_ms, begun_ms + PIECE_BLOCKS * block_ms)
            start, first, end = (int(each) for each in np.searchsorted(self.candles.time_ms, bounds_ms))
            # Nothing holds on to the columns of the piece before.
            for played in self._features.values():
                played.forget()
            part = self.candles.between(bounds_ms[0], bounds_ms[2])
            borrowed = _nothing_lent if self.lender is None else self.lender.lent
            piece = self._piece = Piece(first, end, start, Columns(part), borrowed)
        return piece

    def holds(self, condition: Condition) -> bool:
        """Tell whether a condition holds at the last candle."""
        return self.index >= 0 and self.piece(self.index).holds(condition, self.index)


@define(eq=False)
class Track:
    """The recorded candles of one symbol, and where the playing of them has come to.

    `begin` and `end` bound the candles that are played, as places in the columns; those before `begin` are history.
    `reached` is the place of the candle that is being played, `price` the last price. `closes` tells for each candle
    the last one of the strategy's own that is closed when it is, which are the same ones if `same`. Candles of larger
    timeframes are made when they are first asked for.
    """

    symbol: str
    candles: Candles
    series: PlayedSeries
    begin: int
    end: int
    reached: int = -1
    _opened: bool = False
    _price: Decimal = ZERO
    _priced: tuple[int, bool] = (-1, False)
    closes: Sequence[int] = field(init=False)
    same: bool = field(init=False)
    _lows: Integers = field(init=False)
    _highs: Integers = field(init=False)
    _larger: dict[Timeframe, tuple[PlayedSeries, Sequence[int]]] = field(factory=dict[Timeframe, Any], init=False)

    def __attrs_post_init__(self) -> None:
        self.series.lender = self
        starts = np.arange(0, max(1, len(self.candles)), STRIDE)
        self._lows = np.minimum.reduceat(self.candles.low, starts)
        self._highs = np.maximum.reduceat(self.candles.high, starts)
        self.same = self.series.candles is self.candles
        self.closes = range(len(self.candles)) if self.same else _closes(self.candles, self.series.candles)

    @classmethod
    def of(cls, candles: Candles, timeframe: Timeframe, begin_ms: int, end_ms: int) -> Track:
        """Return a track of candles of which the strategy's own are made; those between the moments are played."""
        begin, end = (int(each) for each in np.searchsorted(candles.time_ms, (begin_ms, end_ms)))
        return cls(candles.symbol, candles, PlayedSeries(candles.larger(timeframe)), begin, max(begin, end))

    @property
    def closed_ms(self) -> int:
        """Return until when the candles have closed that have been reached."""
        place = self.reached - 1 if self._opened else self.reached
        return self.candles.time_ms.item(place) + self.candles.timeframe.ms if place >= 0 else 0

    def at(self, time_ms: int) -> int:
        """Return the place of the candle that opens at a moment, or -1 if there is none."""
        place = self.first_from(time_ms)
        return place if place < self.end and self.candles.time_ms.item(place) == time_ms else -1

    def first_from(self, time_ms: int) -> int:
        """Return the place of the first candle that opens at a moment or later, `end` if there is none."""
        opens, reached = self.candles.time_ms, self.reached
        if self.begin <= reached:
            # Without a gap in between it lies as far away as the time says.
            place = reached + (time_ms - opens.item(reached)) // self.candles.timeframe.ms
            if reached <= place < self.end and opens.item(place) == time_ms:
                return place
        return max(self.begin, int(np.searchsorted(opens[: self.end], time_ms)))

    def mark_at(self, time_ms: int) -> Decimal | None:
        """Return the last close before a moment, if there is one."""
        place = int(np.searchsorted(self.candles.time_ms, time_ms - self.candles.timeframe.ms, side="right")) - 1
        return self.candles.price(int(self.candles.close[place])) if place >= 0 else None

    def closes_at(self, times: Integers) -> Floats:
        """Return the last close at each of some moments, the first close before there is any."""
        opens: Integers = times - self.candles.timeframe.ms
        first = int(np.searchsorted(self.candles.time_ms, opens.item(0)))
        alike = slice(first, first + len(times))
        if np.array_equal(self.candles.time_ms[alike], opens):
            found = self.candles.close[alike]
        else:
            places = np.searchsorted(self.candles.time_ms, opens, side="right") - 1
            found = self.candles.close[np.maximum(places, 0)]
        closes: Floats = found / 10.0**self.candles.price_decimals
        return closes

    def standing(self, timeframe: Timeframe) -> PlayedSeries:
        """Return the series of a larger timeframe, as it stands at the last candle that has closed."""
        series, known = self._lending(timeframe)
        place = self.reached - 1 if self._opened else self.reached
        series.index = known[place] if place >= 0 else -1
        return series

    def lent(self, condition: Condition, start: int, end: int) -> Truths:
        """Return at which of the strategy's own candles from `start` on a condition of a larger timeframe holds."""
        assert condition.timeframe is not None
        series, known = self._lending(condition.timeframe)
        own = self.series.candles
        closes_ms = own.time_ms[start:end] + own.timeframe.ms
        places = np.searchsorted(self.candles.time_ms, closes_ms - self.candles.timeframe.ms)
        held = np.asarray(known)[np.minimum(places, len(self.candles) - 1)]
        truths: Truths = np.zeros(end - start, dtype=np.bool_)
        first, last = int(held.min()), int(held.max())
        if last >= 0:
            of_larger = series.truths(condition.bare, max(first, 0), last + 1)
            truths = (held >= 0) & of_larger[np.maximum(held - max(first, 0), 0)]
        return truths

    def _lending(self, timeframe: Timeframe) -> tuple[PlayedSeries, Sequence[int]]:
        found = self._larger.get(timeframe)
        if found is None:
            candles = self.candles.larger(timeframe)
            found = self._larger[timeframe] = PlayedSeries(candles), _closes(self.candles, candles)
        return found

    def opens_at(self, place: int) -> int:
        """Return when a candle opens, never if it lies at the end or beyond."""
        return self.candles.time_ms.item(place) if place < self.end else NEVER_MS

    def enter(self, place: int) -> None:
        """Begin the candle at a place: its first price is known, and the series stands at what had closed before."""
        self.reached, self._opened = place, True
        if place:
            self.series.index = self.closes[place - 1]

    def close(self) -> bool:
        """Close the candle that is being played; tell whether the strategy has a new candle of its own by that."""
        self._opened = False
        before, self.series.index = self.series.index, self.closes[self.reached]
        return self.series.index != before

    @property
    def price(self) -> Decimal:
        """Return the last price, zero if none is known yet."""
        at = self.reached, self._opened
        if at != self._priced:
            column = self.candles.open if self._opened else self.candles.close
            self._price = self.candles.price(column.item(self.reached)) if self.reached >= 0 else ZERO
            self._priced = at
        return self._price

    def stand(self, place: int) -> None:
        """Stand right after a candle, as if all before had been played."""
        self.reached = place
        self.series.index = self.closes[place] if place >= 0 else -1

    def next_holding(self, conditions: Sequence[Condition], place: int) -> int:
        """Return the first place after one at whose close a condition holds, or a place to look again from, or `end`.

        It looks no further than to the end of the piece that comes next, so that there is never more than one piece.
        """
        if not conditions or place + 1 >= self.end:
            return self.end
        index = self.closes[place] + 1 if place >= 0 else 0
        if index >= len(self.series.candles):
            return self.end
        piece = self.series.piece(index)
        return min(self._closing(min(piece.next_holding(condition, index) for condition in conditions)), self.end)

    def _closing(self, index: int) -> int:
        """Return the place of the candle that closes one of the strategy's own."""
        if self.same:
            return index
        own = self.series.candles
        if index >= len(own):
            return self.end
        closes_ms = own.time_ms.item(index) + own.timeframe.ms
        return int(np.searchsorted(self.candles.time_ms, closes_ms - self.candles.timeframe.ms))

    def next_touching(self, below: Decimal, above: Decimal, place: int) -> int:
        """Return the first place after one whose low is at most `below` or whose high is at least `above`, or `end`."""
        low = units(below, self.candles.price_decimals, up=False)
        high = units(above, self.candles.price_decimals, up=True)
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


class Priced(Protocol):
    """What is played of a symbol."""

    @property
    def price(self) -> Decimal:
        """Return the last price, zero if none is known yet."""
        ...


@define
class PlayedQuotes(Quotes):
    """The prices of what is played, read where they are asked for."""

    prices_of: Mapping[str, Priced] = field(factory=dict[str, Any])

    def price(self, symbol: str) -> Decimal:
        """Return the last price, zero if none is known."""
        played = self.prices_of.get(symbol)
        return ZERO if played is None else played.price


_NEVER: Final = 2**62


def _nothing_lent(condition: Condition, start: int, end: int) -> Truths:
    raise AssertionError(f"{condition} is of another timeframe than its series")


def units(price: Decimal, decimals: int, *, up: bool) -> int:
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
    met = (candles.low[start:stop] <= low) | (candles.high[start:stop] >= high)
    at = int(met.argmax())
    return start + at if met[at] else -1


def _closes(small: Candles, large: Candles) -> Sequence[int]:
    """Return for each small candle the place of the last large one that is closed when the small one is.

    A large candle is closed by the first small one that ends at or after its own end, and so is known only then.
    """
    ends = large.time_ms + large.timeframe.ms
    places = np.searchsorted(ends, small.time_ms + small.timeframe.ms, side="right") - 1
    return cast("Sequence[int]", places.astype(np.int32).data)
