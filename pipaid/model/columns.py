"""Candles as columns: exact integers in the finest step that their prices need, and floats for those who compute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact
from typing import Final

import numpy as np
from attrs import Factory, field, frozen
from numpy.typing import ArrayLike, NDArray

from pipaid.errors import InvalidParameter
from pipaid.model.candle import Candle
from pipaid.model.instrument import Timeframe
from pipaid.model.moment import iso_seconds

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PRICE_DECIMALS_MAX: Final = 12
# More decimals in a recorded volume are noise of the recorder's floating point, not a step of the venue.
VOLUME_DECIMALS_MAX: Final = 8
# Below this a decimal number survives its way through a float and back to the last digit.
EXACT_MAX: Final = 2**51
FAULTS_MAX: Final = 10
GOES_BACK: Final = "the time goes back"
# Wide enough for any number that is told in text, so that none is rounded on its way.
_EXACT: Final = Context(prec=1_000, traps=[Inexact])


@frozen(eq=False)
class Fault:
    """Something about a candle that cannot be true, or is missing: at which index, at what time, and what."""

    index: int
    time_ms: int
    kind: str
    what: str

    def __str__(self) -> str:
        return f"candle {self.index} at {iso_seconds(self.time_ms)}: {self.what}"


@frozen(eq=False)
class Candles:
    """The candles of one symbol and timeframe in the order of time, as columns of equal length.

    Times are open times in UTC milliseconds. Prices are whole numbers of 10 to the power of minus `price_decimals`
    quote units, volumes of minus `volume_decimals` base units. Make them with `from_rows`, which takes floats.
    """

    symbol: str
    timeframe: Timeframe
    time_ms: Integers
    open: Integers
    high: Integers
    low: Integers
    close: Integers
    volume: Integers
    price_decimals: int = 0
    volume_decimals: int = 0
    _floats: dict[str, Floats] = field(factory=dict[str, Floats], init=False, repr=False)
    _unit: Decimal = field(
        default=Factory(lambda self: Decimal(1).scaleb(-self.price_decimals), takes_self=True), init=False, repr=False
    )

    def __len__(self) -> int:
        """Return the number of candles."""
        return len(self.time_ms)

    @classmethod
    def from_rows(
        cls,
        symbol: str,
        timeframe: Timeframe | None,
        *,
        time_ms: ArrayLike,
        open: ArrayLike,
        high: ArrayLike,
        low: ArrayLike,
        close: ArrayLike,
        volume: ArrayLike | None = None,
    ) -> Candles:
        """Make candles of columns of numbers; without a timeframe the smallest distance tells it.

        Raise InvalidParameter, naming the first candles, for what cannot be true of any: see `faults`.
        """
        times = _whole(symbol, time_ms)
        columns = [np.asarray(column, dtype=np.float64) for column in (open, high, low, close)]
        volumes = np.zeros(len(times)) if volume is None else np.asarray(volume, dtype=np.float64)
        lengths = {len(times), len(volumes), *map(len, columns)}
        if len(lengths) > 1:
            raise InvalidParameter(f"{symbol}: columns of different lengths: {', '.join(map(str, sorted(lengths)))}")
        if not len(times):
            raise InvalidParameter(f"{symbol}: no candles")
        for name, column in zip(("open", "high", "low", "close", "volume"), (*columns, volumes), strict=True):
            wrong = np.flatnonzero(~np.isfinite(column))
            if len(wrong):
                raise InvalidParameter(f"{symbol}: candle {wrong[0]}: {name} is {column[wrong[0]]}, not a number")
        price_decimals = decimals_of(symbol, np.stack(columns), PRICE_DECIMALS_MAX)
        volume_decimals = decimals_of(symbol, volumes, VOLUME_DECIMALS_MAX, rounds=True)
        made = cls.of(
            symbol,
            timeframe or told_timeframe(symbol, times),
            [times, *(_scaled(column, price_decimals) for column in columns), _scaled(volumes, volume_decimals)],
            price_decimals=price_decimals,
            volume_decimals=volume_decimals,
        )
        faults = [fault for fault in made.faults() if fault.kind != "gap"]
        if faults:
            told = "; ".join(map(str, faults[:FAULTS_MAX]))
            more = f"; and {len(faults) - FAULTS_MAX} more" if len(faults) > FAULTS_MAX else ""
            raise InvalidParameter(f"{symbol}: {told}{more}")
        return made

    @classmethod
    def of(
        cls,
        symbol: str,
        timeframe: Timeframe,
        columns: Sequence[Integers],
        *,
        price_decimals: int,
        volume_decimals: int,
    ) -> Candles:
        """Put columns together that are known to be true, in the order of `COLUMNS`."""
        time_ms, first, high, low, last, volume = columns
        return cls(symbol, timeframe, time_ms, first, high, low, last, volume, price_decimals, volume_decimals)

    @classmethod
    def from_candles(cls, candles: Sequence[Candle]) -> Candles:
        """Make columns of at least one candle, all of one symbol and timeframe and known to be true."""
        first = candles[0]
        told = [price for each in candles for price in (each.open, each.high, each.low, each.close)]
        prices, price_decimals = exact_units(first.symbol, told, PRICE_DECIMALS_MAX)
        volumes = [each.volume for each in candles]
        volume, volume_decimals = exact_units(first.symbol, volumes, VOLUME_DECIMALS_MAX, rounds=True)
        times = np.array([each.open_time_ms for each in candles], dtype=np.int64)
        return cls.of(
            first.symbol,
            first.timeframe,
            [times, *np.ascontiguousarray(prices.reshape(-1, 4).T), volume],
            price_decimals=price_decimals,
            volume_decimals=volume_decimals,
        )

    def faults(self) -> list[Fault]:
        """Return every gap, disorder and impossible candle, in order."""
        times, step_ms = self.time_ms, self.timeframe.ms
        apart = np.diff(times)
        checks = (
            ("order", np.flatnonzero(apart < 0) + 1, GOES_BACK),
            ("duplicate", np.flatnonzero(apart == 0) + 1, "a second candle of this time"),
            ("align", np.flatnonzero(times % step_ms), f"the open time is not a multiple of {self.timeframe}"),
            ("price", np.flatnonzero(np.minimum.reduce((self.open, self.high, self.low, self.close)) <= 0),
             "a price is not above zero"),
            ("range", np.flatnonzero((self.high < np.maximum(self.open, self.close))
                                     | (self.low > np.minimum(self.open, self.close))),
             "high and low do not enclose open and close"),
            ("volume", np.flatnonzero(self.volume < 0), "the volume is below zero"),
        )  # fmt: skip
        faults = [Fault(int(index), int(times[index]), kind, what) for kind, found, what in checks for index in found]
        for index in np.flatnonzero(apart > step_ms) + 1:
            missing = int(apart[index - 1]) // step_ms - 1
            told = "1 candle is" if missing == 1 else f"{missing} candles are"
            before = iso_seconds(int(times[index - 1]))
            faults.append(Fault(int(index), int(times[index]), "gap", f"{told} missing since {before}"))
        return sorted(faults, key=lambda fault: (fault.index, fault.kind))

    def price(self, units: int) -> Decimal:
        """Return a price of so many units as an exact decimal."""
        return Decimal(int(units)) * self._unit

    def floats(self, name: str) -> Floats:
        """Return a column of prices or volumes as the floats nearest to the exact values, as live sessions see them."""
        column = self._floats.get(name)
        if column is None:
            decimals = self.volume_decimals if name == "volume" else self.price_decimals
            # Both are exact floats, so that the quotient is rounded once: to the float nearest to the decimal.
            column = self._floats[name] = getattr(self, name) / 10.0**decimals
            column.flags.writeable = False
        return column

    def candle(self, index: int) -> Candle:
        """Return one candle with exact decimals."""
        unit = self._unit
        return Candle(
            self.symbol,
            self.timeframe,
            self.time_ms.item(index),
            Decimal(self.open.item(index)) * unit,
            Decimal(self.high.item(index)) * unit,
            Decimal(self.low.item(index)) * unit,
            Decimal(self.close.item(index)) * unit,
            Decimal(self.volume.item(index)).scaleb(-self.volume_decimals),
        )

    def __iter__(self) -> Iterator[Candle]:
        """Yield the candles one by one."""
        return map(self.candle, range(len(self)))

    def between(self, start_ms: int, end_ms: int) -> Candles:
        """Return those that open from the one moment on and before the other; the columns are shared."""
        first, last = (int(each) for each in np.searchsorted(self.time_ms, (start_ms, end_ms)))
        return self._picked(slice(first, max(first, last)))

    def larger(self, timeframe: Timeframe) -> Candles:
        """Return candles of a larger timeframe, made of what there is within each interval."""
        if timeframe.ms % self.timeframe.ms or timeframe.ms < self.timeframe.ms:
            raise InvalidParameter(f"{self.symbol}: {timeframe} candles cannot be made of {self.timeframe} ones")
        if timeframe is self.timeframe or not len(self):
            return self
        intervals = self.time_ms // timeframe.ms
        starts = np.flatnonzero(np.diff(intervals, prepend=intervals[0] - 1))
        return Candles(
            self.symbol,
            timeframe,
            intervals[starts] * timeframe.ms,
            self.open[starts],
            np.maximum.reduceat(self.high, starts),
            np.minimum.reduceat(self.low, starts),
            self.close[np.append(starts[1:], len(self)) - 1],
            np.add.reduceat(self.volume, starts),
            self.price_decimals,
            self.volume_decimals,
        )

    def joined(self, other: Candles, *, replace: bool = False) -> Candles:
        """Return these and others of the same symbol and timeframe; of the same time they agree, or the others win."""
        if (self.symbol, self.timeframe) != (other.symbol, other.timeframe):
            raise InvalidParameter(f"{other.symbol} {other.timeframe} does not go into {self.symbol} {self.timeframe}")
        price, volume = self._common_decimals(other)
        old, new = self._in_steps(price, volume), other._in_steps(price, volume)
        if len(old) and len(new) and old.time_ms[-1] < new.time_ms[0]:
            # Most are added at the end: there is nothing to compare and nothing to sort, of what may be millions.
            columns = [np.concatenate((getattr(old, name), getattr(new, name))) for name in COLUMNS]
            return Candles.of(self.symbol, self.timeframe, columns, price_decimals=price, volume_decimals=volume)
        _, ours, theirs = np.intersect1d(old.time_ms, new.time_ms, assume_unique=True, return_indices=True)
        if not replace:
            differ = np.zeros(len(ours), dtype=bool)
            for name in _VALUES:
                differ |= getattr(old, name)[ours] != getattr(new, name)[theirs]
            wrong = np.flatnonzero(differ)
            if len(wrong):
                index = int(theirs[wrong[0]])
                raise InvalidParameter(
                    f"{self.symbol}: {len(wrong)} candles differ from those already there, the first is candle "
                    f"{index} at {iso_seconds(int(new.time_ms[index]))}: {_prices(new.candle(index))} instead of "
                    f"{_prices(old.candle(int(ours[wrong[0]])))}; import with --replace to take the new ones"
                )
        kept = np.ones(len(old), dtype=bool)
        kept[ours] = False
        times = np.concatenate((old.time_ms[kept], new.time_ms))
        order = np.argsort(times, kind="stable")
        columns = [np.concatenate((getattr(old, name)[kept], getattr(new, name)))[order] for name in _VALUES]
        return Candles.of(
            self.symbol, self.timeframe, [times[order], *columns], price_decimals=price, volume_decimals=volume
        )

    def _common_decimals(self, other: Candles) -> tuple[int, int]:
        """Return the decimals in which both are kept: all those of prices, of volumes those for which there is room."""
        price = max(self.price_decimals, other.price_decimals)
        volume = max(self.volume_decimals, other.volume_decimals)
        for each in (self, other):
            if _largest(each.high) * 10 ** (price - each.price_decimals) >= EXACT_MAX:
                raise InvalidParameter(
                    f"{self.symbol}: prices up to {each.price(_largest(each.high))} and prices of {price} decimals "
                    "do not go into one file; are they of the same symbol?"
                )
            while volume > each.volume_decimals and (
                _largest(each.volume) * 10 ** (volume - each.volume_decimals) >= EXACT_MAX
            ):
                volume -= 1
        return price, volume

    def _in_steps(self, price_decimals: int, volume_decimals: int) -> Candles:
        if (price_decimals, volume_decimals) == (self.price_decimals, self.volume_decimals):
            return self
        price, finer = 10 ** (price_decimals - self.price_decimals), volume_decimals - self.volume_decimals
        volume = self.volume * 10**finer if finer >= 0 else np.rint(self.volume / 10.0**-finer).astype(np.int64)
        columns = [self.time_ms, *(getattr(self, name) * price for name in _VALUES[:4]), volume]
        return Candles.of(
            self.symbol, self.timeframe, columns, price_decimals=price_decimals, volume_decimals=volume_decimals
        )

    def _picked(self, rows: slice) -> Candles:
        columns = [getattr(self, name)[rows] for name in COLUMNS]
        return Candles.of(
            self.symbol,
            self.timeframe,
            columns,
            price_decimals=self.price_decimals,
            volume_decimals=self.volume_decimals,
        )


COLUMNS: Final = ("time_ms", "open", "high", "low", "close", "volume")
_VALUES: Final = COLUMNS[1:]


def decimals_of(symbol: str, values: Floats, most: int, *, rounds: bool = False) -> int:
    """Return how many decimals the numbers have, of which these floats are the nearest.

    A decimal number of up to 15 significant digits is told by its float. With `rounds`, further decimals are given up.
    """
    for decimals in range(most + 1):
        units = np.rint(values * 10.0**decimals)
        if np.array_equal(units / 10.0**decimals, values) or (rounds and decimals == most):
            largest = float(np.abs(units).max(initial=0.0))
            if largest < EXACT_MAX:
                return decimals
            if rounds and decimals:
                return max(0, decimals - int(np.ceil(np.log10(largest / EXACT_MAX))))
            break
    raise InvalidParameter(f"{symbol}: a price has more than {most} decimals, or more than 15 digits; round the prices")


def exact_units(symbol: str, values: Sequence[Decimal], most: int, *, rounds: bool = False) -> tuple[Integers, int]:
    """Return the numbers as whole units of a decimal step, and the decimals of that step: the fewest that they need.

    With `rounds`, decimals beyond the most, or for which there is no room, are given up.
    """
    largest = max((each.copy_abs() for each in values), default=Decimal(0))
    decimals = most
    while decimals and largest.scaleb(decimals, _EXACT) >= EXACT_MAX:
        decimals -= 1
    scaled = [each.scaleb(decimals, _EXACT) for each in values]
    whole = [each.to_integral_value(ROUND_HALF_EVEN) for each in scaled]
    if largest.scaleb(decimals, _EXACT) >= EXACT_MAX or (not rounds and whole != scaled):
        raise InvalidParameter(f"{symbol}: a number has more than {most} decimals, or more than 15 digits")
    units = np.array([int(each) for each in whole], dtype=np.int64)
    while decimals and not np.any(units % 10):
        units, decimals = units // 10, decimals - 1
    return units, decimals


def told_timeframe(symbol: str, times: Integers) -> Timeframe:
    """Return the timeframe of which these are open times, by the smallest distance of two."""
    apart = np.diff(times)
    back = np.flatnonzero(apart < 0) + 1
    if len(back):
        # What is out of order tells nothing about the length.
        raise InvalidParameter(f"{symbol}: {Fault(int(back[0]), int(times[back[0]]), 'order', GOES_BACK)}")
    ahead = apart[apart > 0]
    smallest = int(ahead.min()) if len(ahead) else Timeframe.M1.ms
    for timeframe in Timeframe:
        if timeframe.ms == smallest:
            return timeframe
    known = ", ".join(Timeframe)
    index = int(np.flatnonzero(apart == smallest)[0]) + 1
    what = f"it and the one before are {smallest / 1000:g} s apart, which is none of {known}"
    raise InvalidParameter(f"{symbol}: {Fault(index, int(times[index]), 'align', what)}")


def _whole(symbol: str, time_ms: ArrayLike) -> Integers:
    times = np.asarray(time_ms)
    if times.dtype.kind == "M":
        return times.astype("datetime64[ms]").astype(np.int64)
    if times.dtype.kind == "f":
        wrong = np.flatnonzero(~np.isfinite(times) | (times != np.rint(times)))
        if len(wrong):
            raise InvalidParameter(f"{symbol}: candle {wrong[0]}: the time {times[wrong[0]]} is no whole number of ms")
    elif times.dtype.kind not in "iu" and len(times):
        raise InvalidParameter(f"{symbol}: times are whole numbers of UTC milliseconds, or datetime64")
    return times.astype(np.int64)


def _scaled(values: Floats, decimals: int) -> Integers:
    return np.rint(values * 10.0**decimals).astype(np.int64)


def _largest(column: Integers) -> int:
    return int(column.max(initial=0))


def _prices(candle: Candle) -> str:
    shown: Sequence[Decimal] = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    return "/".join(str(each) for each in shown)
