"""Incremental indicators over closed candles: one update a candle, constant time on average, floats throughout."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import sqrt
from types import MappingProxyType
from typing import Final, Protocol

import msgspec

from pipaid.model.candle import Candle
from pipaid.signals.window import WindowMoments, WindowTop

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
    """One knob of an indicator and its inclusive bounds; a whole number unless said otherwise."""

    name: str
    low: float
    high: float
    whole: bool = True


class Kind(msgspec.Struct, frozen=True):
    """How an indicator is made, and from which numbers.

    `reach`, where there is one, says how many candles a value is made of, and that those before them change nothing.
    """

    make: Callable[..., Indicator]
    params: tuple[Param, ...] = ()
    reach: Callable[..., int] | None = None


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

    __slots__ = ("_alpha", "_count", "_range", "_sum", "_window", "previous", "value")

    def __init__(self, window: int) -> None:
        self.value: float | None = None
        self.previous: float | None = None
        self._window = window
        self._alpha = 1.0 / window
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
            alpha = self._alpha
            self.value = (1.0 - alpha) * level + alpha * span
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
            self.value = sqrt(moments.variance)


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
            self.value = moments.score(close)


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


class Rung:
    """How many marks of a ladder lie below the close.

    The ladder has `levels` prices from `lower` to `upper`; a mark stands in each of its intervals, as far above the
    interval's lower price as `shift` says (0 on it, 1 on the upper one).
    """

    __slots__ = ("_marks", "previous", "value")

    def __init__(self, marks: Sequence[float]) -> None:
        self.value: float | None = None
        self.previous: float | None = None
        self._marks = marks

    def update(self, sample: Sample) -> None:
        """Take the next closed candle."""
        self.previous = self.value
        self.value = float(bisect_left(self._marks, sample.close))


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


def _channel_high(window: int) -> Indicator:
    return Before(Highest(window))


def _channel_low(window: int) -> Indicator:
    return Before(Lowest(window))


def rungs_of(name: str, *ladder: float) -> list[float]:
    """Return the marks of an `arithmetic_rung` or a `geometric_rung` from its params."""
    lower, upper, count, shift = ladder
    levels = int(count)
    if name == "arithmetic_rung":
        step = (upper - lower) / (levels - 1)
        prices = [lower + step * rung for rung in range(levels)]
    else:
        ratio = upper / lower
        prices = [lower * ratio ** (rung / (levels - 1)) for rung in range(levels)]
    return [low + shift * (high - low) for low, high in pairwise(prices)]


def _rung(name: str, *ladder: float) -> Indicator:
    return Rung(rungs_of(name, *ladder))


def _window(window: float) -> int:
    return int(window)


def _window_before(window: float) -> int:
    return int(window) + 1


def _one(*_: float) -> int:
    return 1


def _two() -> int:
    return 2


_WINDOW: Final = (Param("window", 1, WINDOW_MAX),)
_LADDER: Final = (
    Param("lower", 1e-18, 1e18, whole=False),
    Param("upper", 1e-18, 1e18, whole=False),
    Param("levels", 2, WINDOW_MAX),
    Param("shift", 0, 1, whole=False),
)

INDICATORS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "close": Kind(Close, reach=_one),
        "true_range": Kind(TrueRange, reach=_two),
        "sma": Kind(SimpleAverage, _WINDOW, _window),
        "ema": Kind(ExponentialAverage, _WINDOW),
        "rsi": Kind(RelativeStrength, _WINDOW),
        "atr": Kind(AverageTrueRange, _WINDOW),
        "stddev": Kind(Deviation, _WINDOW, _window),
        "zscore": Kind(ZScore, _WINDOW, _window),
        "highest": Kind(Highest, _WINDOW, _window),
        "lowest": Kind(Lowest, _WINDOW, _window),
        "channel_high": Kind(_channel_high, _WINDOW, _window_before),
        "channel_low": Kind(_channel_low, _WINDOW, _window_before),
        "arithmetic_rung": Kind(partial(_rung, "arithmetic_rung"), _LADDER, _one),
        "geometric_rung": Kind(partial(_rung, "geometric_rung"), _LADDER, _one),
        "period": Kind(
            Period, (Param("period_ms", 1, PERIOD_MS_MAX), Param("offset_ms", -PERIOD_MS_MAX, PERIOD_MS_MAX)), _one
        ),
    }
)
