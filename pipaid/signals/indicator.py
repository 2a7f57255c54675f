"""Incremental indicators over closed candles: one update a candle, constant time on average, floats throughout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate
from math import inf, isfinite, sqrt
from types import MappingProxyType
from typing import Final, Protocol

import msgspec

from pipaid.model.candle import Candle

WINDOW_MAX: Final = 2_000  # Well below one block of a series, so that no window is ever longer than its history.
PERIOD_MS_MAX: Final = 366 * 86_400_000


class Sample(msgspec.Struct, frozen=True, gc=False):
    """A closed candle as indicators see it."""

    open: float
    high: float
    low: float
    close: float
    volume: float
    close_time_ms: int

    @classmethod
    def of(cls, candle: Candle) -> Sample:
        """Return the sample of a candle."""
        return cls(
            float(candle.open),
            float(candle.high),
            float(candle.low),
            float(candle.close),
            float(candle.volume),
            candle.close_time_ms,
        )


class Indicator(Protocol):
    """A number a candle: `value` at the last one, `previous` at the one before, nothing while it warms up."""

    value: float | None
    previous: float | None

    def update(self, sample: Sample) -> None:
        """Take the next closed candle."""
        ...


class Param(msgspec.Struct, frozen=True):
    """One knob of an indicator and its inclusive bounds."""

    name: str
    low: int
    high: int


class Kind(msgspec.Struct, frozen=True):
    """How an indicator is made, and from which whole numbers."""

    make: Callable[..., Indicator]
    params: tuple[Param, ...] = ()


def make_indicator(name: str, params: tuple[int | float, ...]) -> Indicator:
    """Return a fresh indicator; raise ValueError for an unknown name or params outside their bounds."""
    kind = INDICATORS.get(name)
    if kind is None:
        raise ValueError(f"no indicator is called {name!r}; known: {', '.join(sorted(INDICATORS))}")
    if len(params) != len(kind.params):
        wanted = ", ".join(param.name for param in kind.params) or "no params"
        raise ValueError(f"{name} takes {wanted}, got {len(params)} params")
    values: list[int] = []
    for param, value in zip(kind.params, params, strict=True):
        if not isfinite(value) or value != int(value) or not param.low <= value <= param.high:
            reach = f"a whole number from {param.low} to {param.high}"
            raise ValueError(f"{param.name} of {name} must be {reach}, got {value!r}")
        values.append(int(value))
    return kind.make(*values)


class Constant:
    """A number that never changes, to compare with."""

    __slots__ = ("previous", "value")

    def __init__(self, value: float) -> None:
        self.value: float | None = value
        self.previous: float | None = value

    def update(self, sample: Sample) -> None:
        """Stay."""


class Close:
    """The close."""

    __slots__ = ("previous", "value")

    def __init__(self) -> None:
        self.value: float | None = None
        self.previous: float | None = None

    def update(self, sample: Sample) -> None:
        """Take the next closed candle."""
        self.previous = self.value
        self.value = sample.close


class Period:
    """The number of the period, counted from `offset_ms` after the epoch, that a candle's close completes or falls in.

    A candle closing exactly at the end of a period is the first to carry the next number. Weeks that begin on Monday
    have an offset of four days, as the epoch was a Thursday.
    """

    __slots__ = ("_offset_ms", "_period_ms", "previous", "value")

    def __init__(self, period_ms: int, offset_ms: int) -> None:
        self.value: float | None = None
        self.previous: float | None = None
        self._period_ms = period_ms
        self._offset_ms = offset_ms

    def update(self, sample: Sample) -> None:
        """Take the next closed candle."""
        self.previous = self.value
        self.value = float((sample.close_time_ms - self._offset_ms) // self._period_ms)


class TrueRange:
    """The span of a candle together with the close before it; the first candle's is high minus low."""

    __slots__ = ("_close", "previous", "value")

    def __init__(self) -> None:
        self.value: float | None = None
        self.previous: float | None = None
        self._close: float | None = None

    def update(self, sample: Sample) -> None:
        """Take the next closed candle."""
        self.previous = self.value
        high, low, close = sample.high, sample.low, self._close
        if close is not None:
            if close > high:
                high = close
            elif close < low:
                low = close
        self._close = sample.close
        self.value = high - low


class AverageTrueRange:
    """Wilder's smoothing of the true range, seeded with the plain mean of the first `window` true ranges."""

    __slots__ = ("_count", "_range", "_sum", "_window", "previous", "value")

    def __init__(self, window: int) -> None:
        self.value: float | None = None
        self.previous: float | None = None
        self._window = window
        self._count = 0
        self._sum = 0.0
        self._range = TrueRange()

    def update(self, sample: Sample) -> None:
        """Take the next closed candle."""
        true_range = self._range
        true_range.update(sample)
        span = true_range.value
        assert span is not None
        level = self.value
        self.previous = level
        if level is not None:
            self.value = level + (span - level) / self._window
            return
        self._sum += span
        self._count += 1
        if self._count == self._window:
            self.value = self._sum / self._window


class ExponentialAverage:
    """The exponential average of the close: seeded with the first close, shown from the `window`-th on."""

    __slots__ = ("_alpha", "_count", "_level", "_window", "previous", "value")

    def __init__(self, window: int) -> None:
        self.value: float | None = None
        self.previous: float | None = None
        self._window = window
        self._alpha = 2.0 / (window + 1)
        self._count = 0
        self._level = 0.0

    def update(self, sample: Sample) -> None:
        """Take the next closed candle."""
        level = self.value
        self.previous = level
        alpha = self._alpha
        if level is not None:
            self.value = (1.0 - alpha) * level + alpha * sample.close
            return
        self._level = (1.0 - alpha) * self._level + alpha * sample.close if self._count else sample.close
        self._count += 1
        if self._count == self._window:
            self.value = self._level


class RelativeStrength:
    """Wilder's relative strength index; the change into the first candle is zero, and no change at all gives 50."""

    __slots__ = ("_close", "_count", "_gain", "_loss", "_window", "previous", "value")

    def __init__(self, window: int) -> None:
        self.value: float | None = None
        self.previous: float | None = None
        self._window = window
        self._count = 0
        self._close = 0.0
        self._gain = 0.0
        self._loss = 0.0

    def update(self, sample: Sample) -> None:
        """Take the next closed candle."""
        self.previous = self.value
        close = sample.close
        count = self._count
        if count:
            change = close - self._close
            alpha = 1.0 / self._window
            gain = (1.0 - alpha) * self._gain
            loss = (1.0 - alpha) * self._loss
            if change > 0.0:
                gain += alpha * change
            else:
                loss -= alpha * change
            self._gain = gain
            self._loss = loss
        self._close = close
        if count < self._window:
            count += 1
            self._count = count
        if count == self._window:
            total = self._gain + self._loss
            self.value = 100.0 * self._gain / total if total else 50.0


class SimpleAverage:
    """The mean of the close over the window."""

    __slots__ = ("_moments", "previous", "value")

    def __init__(self, window: int) -> None:
        self.value: float | None = None
        self.previous: float | None = None
        self._moments = WindowMoments(window)

    def update(self, sample: Sample) -> None:
        """Take the next closed candle."""
        self.previous = self.value
        if self._moments.push(sample.close):
            self.value = self._moments.mean


class Deviation:
    """The population standard deviation of the close over the window (divisor n, as in Bollinger bands)."""

    __slots__ = ("_moments", "previous", "value")

    def __init__(self, window: int) -> None:
        self.value: float | None = None
        self.previous: float | None = None
        self._moments = WindowMoments(window)

    def update(self, sample: Sample) -> None:
        """Take the next closed candle."""
        self.previous = self.value
        moments = self._moments
        if moments.push(sample.close):
            self.value = sqrt(moments.squares / moments.window)


class ZScore:
    """How many population standard deviations the close lies above its mean; undefined over a flat window."""

    __slots__ = ("_moments", "previous", "value")

    def __init__(self, window: int) -> None:
        self.value: float | None = None
        self.previous: float | None = None
        self._moments = WindowMoments(window)

    def update(self, sample: Sample) -> None:
        """Take the next closed candle."""
        self.previous = self.value
        moments = self._moments
        close = sample.close
        if moments.push(close):
            squares = moments.squares
            self.value = (close - moments.mean) / sqrt(squares / moments.window) if squares > 0.0 else None


class Highest:
    """The highest high of the last `window` candles, this one included."""

    __slots__ = ("_top", "previous", "value")

    def __init__(self, window: int) -> None:
        self.value: float | None = None
        self.previous: float | None = None
        self._top = WindowTop(window)

    def update(self, sample: Sample) -> None:
        """Take the next closed candle."""
        self.previous = self.value
        self.value = self._top.push(sample.high)


class Lowest:
    """The lowest low of the last `window` candles, this one included."""

    __slots__ = ("_top", "previous", "value")

    def __init__(self, window: int) -> None:
        self.value: float | None = None
        self.previous: float | None = None
        self._top = WindowTop(window)

    def update(self, sample: Sample) -> None:
        """Take the next closed candle."""
        self.previous = self.value
        top = self._top.push(-sample.low)
        self.value = -top if top is not None else None


class Before:
    """Another indicator's value one candle earlier: the Donchian channel is that of the candles before this one."""

    __slots__ = ("_of", "previous", "value")

    def __init__(self, of: Indicator) -> None:
        self.value: float | None = None
        self.previous: float | None = None
        self._of = of

    def update(self, sample: Sample) -> None:
        """Take the next closed candle."""
        of = self._of
        self.previous = self.value
        self.value = of.value
        of.update(sample)


class WindowMoments:
    """Mean and sum of squared deviations over the last `window` numbers, with nothing ever subtracted.

    The numbers come in blocks as long as the window; a window is a tail of the block before joined to the head of this
    one. Heads grow by Welford's step, tails are made once a block, and the two are joined by Chan's formula, so that no
    error is carried from window to window and a flat one has exactly zero deviation.
    """

    __slots__ = ("_fresh", "_mean", "_squares", "_tails", "mean", "squares", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.mean = 0.0
        self.squares = 0.0
        self._mean = 0.0
        self._squares = 0.0
        self._fresh: list[float] = []
        self._tails: list[tuple[float, float]] = []

    def push(self, number: float) -> bool:
        """Take the next number; tell whether the window is full."""
        fresh = self._fresh
        fresh.append(number)
        count = len(fresh)
        step = number - self._mean
        mean = self._mean + step / count
        squares = self._squares + step * (number - mean)
        window = self.window
        if count == window:
            self.mean, self.squares = mean, squares
            self._turn()
            return True
        self._mean, self._squares = mean, squares
        if not self._tails:
            return False
        tail_mean, tail_squares = self._tails[count]
        apart = tail_mean - mean
        rest = window - count
        self.mean = mean + apart * rest / window
        self.squares = squares + tail_squares + apart * apart * count * rest / window
        return True

    def _turn(self) -> None:
        tails: list[tuple[float, float]] = []
        mean = squares = 0.0
        for count, number in enumerate(reversed(self._fresh), 1):
            step = number - mean
            mean += step / count
            squares += step * (number - mean)
            tails.append((mean, squares))
        tails.reverse()
        self._tails = tails
        self._fresh.clear()
        self._mean = self._squares = 0.0


class WindowTop:
    """The largest of the last `window` numbers, by the same blocks of heads and tails."""

    __slots__ = ("_fresh", "_head", "_tails", "_window")

    def __init__(self, window: int) -> None:
        self._window = window
        self._head = -inf
        self._fresh: list[float] = []
        self._tails: list[float] = []

    def push(self, number: float) -> float | None:
        """Take the next number; return the largest, or nothing before the window is full."""
        fresh = self._fresh
        fresh.append(number)
        count = len(fresh)
        head = self._head
        if number > head:
            head = number
        if count == self._window:
            self._tails = list(accumulate(reversed(fresh), max))[::-1]
            fresh.clear()
            self._head = -inf
            return head
        self._head = head
        if not self._tails:
            return None
        tail = self._tails[count]
        return tail if tail > head else head


def _channel_high(window: int) -> Indicator:
    return Before(Highest(window))


def _channel_low(window: int) -> Indicator:
    return Before(Lowest(window))


_WINDOW: Final = (Param("window", 1, WINDOW_MAX),)

INDICATORS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "close": Kind(Close),
        "true_range": Kind(TrueRange),
        "sma": Kind(SimpleAverage, _WINDOW),
        "ema": Kind(ExponentialAverage, _WINDOW),
        "rsi": Kind(RelativeStrength, _WINDOW),
        "atr": Kind(AverageTrueRange, _WINDOW),
        "stddev": Kind(Deviation, _WINDOW),
        "zscore": Kind(ZScore, _WINDOW),
        "highest": Kind(Highest, _WINDOW),
        "lowest": Kind(Lowest, _WINDOW),
        "channel_high": Kind(_channel_high, _WINDOW),
        "channel_low": Kind(_channel_low, _WINDOW),
        "period": Kind(
            Period, (Param("period_ms", 1, PERIOD_MS_MAX), Param("offset_ms", -PERIOD_MS_MAX, PERIOD_MS_MAX))
        ),
    }
)
