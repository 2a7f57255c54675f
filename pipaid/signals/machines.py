"""State machines that go from candle to candle; one form of each serves live and, lane by lane, whole columns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from math import atan, degrees, nan
from types import MappingProxyType
from typing import Final

Machine = Callable[..., float]

# A divergence is told by one of these: at lows or at highs, and against the trend or, hidden, with it.
BULLISH, BEARISH, HIDDEN_BULLISH, HIDDEN_BEARISH = 1.0, 2.0, 3.0, 4.0
# From this candle on, Ehlers' cycle is measured.
MAMA_FIRST: Final = 7


def _held() -> Machine:
    """Keep the last number where there is none."""
    last = nan

    def step(number: float) -> float:
        nonlocal last
        if number == number:
            last = number
        return last

    return step


def _bulge(high: float, low: float) -> Machine:
    """Tell where a line falls below the lower threshold, once for each time that it was above the higher one."""
    armed = False

    def step(number: float) -> float:
        nonlocal armed
        if number > high:
            armed = True
        elif armed and number < low:
            armed = False
            return 1.0
        return 0.0

    return step


class _Sar:
    """Wilder's parabolic stop and reverse: it trails the price, faster the further that goes, and turns when hit."""

    __slots__ = ("_best", "_high", "_long", "_low", "_max", "_pace", "_seen", "_step", "_stop")

    def __init__(self, step: float, max_step: float) -> None:
        self._step = self._pace = step
        self._max = max_step
        self._seen = 0
        self._long = True
        self._stop = self._best = self._high = self._low = nan

    def __call__(self, high: float, low: float) -> float:
        """Take the next candle; return the stop shown at it."""
        self._seen += 1
        if self._seen == 1:
            self._high, self._low = high, low
            return nan
        if self._seen == 2:
            fallen = self._low - low
            self._long = not (fallen > 0.0 and fallen > high - self._high)
            self._stop, self._best = (self._low, high) if self._long else (self._high, low)
        shown = self._of_long(high, low) if self._long else self._of_short(high, low)
        self._high, self._low = high, low
        return shown

    def _of_long(self, high: float, low: float) -> float:
        stop = self._stop
        if low <= stop:
            self._long, self._pace = False, self._step
            stop = max(self._best, self._high, high)
            self._best = low
            self._stop = max(stop + self._pace * (low - stop), self._high, high)
            return stop
        if high > self._best:
            self._best, self._pace = high, min(self._pace + self._step, self._max)
        self._stop = min(stop + self._pace * (self._best - stop), self._low, low)
        return stop

    def _of_short(self, high: float, low: float) -> float:
        stop = self._stop
        if high >= stop:
            self._long, self._pace = True, self._step
            stop = min(self._best, self._low, low)
            self._best = high
            self._stop = min(stop + self._pace * (high - stop), self._low, low)
            return stop
        if low < self._best:
            self._best, self._pace = low, min(self._pace + self._step, self._max)
        self._stop = max(stop + self._pace * (self._best - stop), self._high, high)
        return stop


def _supertrend() -> Machine:
    """Return the direction that turns when the close leaves the bands of the candle before."""
    direction, bottom, top = 1.0, nan, nan

    def step(close: float, middle: float, gap: float) -> float:
        nonlocal direction, bottom, top
        if gap != gap:
            return nan
        low, high, begins = middle - gap, middle + gap, bottom != bottom
        if close > top:
            direction = 1.0
        elif close < bottom:
            direction = -1.0
        elif direction > 0.0:
            low = low if low >= bottom or begins else bottom
        else:
            high = high if high <= top else top
        bottom, top = low, high
        return nan if begins else direction

    return step


def _trailing() -> Machine:
    """Return 1 while long and -1 while short: the stop trails the close by a gap, and turns when closed through."""
    side, stop, before = 0.0, nan, nan

    def step(close: float, gap: float) -> float:
        nonlocal side, stop, before
        if gap != gap:
            return nan
        if before != before:
            before = close
            return nan
        if not side:
            side = 1.0 if close >= before else -1.0
            stop = close - side * gap
        elif side > 0.0:
            if close < stop:
                side, stop = -1.0, close + gap
            else:
                stop = max(stop, close - gap)
        elif close > stop:
            side, stop = 1.0, close - gap
        else:
            stop = min(stop, close + gap)
        return side

    return step


class _Mama:
    """Ehlers' adaptive average and the one that follows it, both led by the phase of the measured cycle."""

    __slots__ = (
        "_closes",
        "_detrended",
        "_fama",
        "_fast",
        "_im",
        "_in_phase",
        "_lead",
        "_mama",
        "_period",
        "_phase",
        "_quadrature",
        "_re",
        "_slow",
        "_smooth",
        "_vector",
    )

    def __init__(self, fast: float, slow: float, *, lead: bool) -> None:
        self._fast, self._slow, self._lead = fast, slow, lead
        self._closes = deque[float](maxlen=MAMA_FIRST)
        self._smooth, self._detrended, self._quadrature, self._in_phase = (
            deque([0.0] * MAMA_FIRST, MAMA_FIRST) for _ in range(4)
        )
        self._period = self._phase = self._re = self._im = self._mama = self._fama = 0.0
        self._vector = 0.0, 0.0

    def __call__(self, close: float) -> float:
        """Take the next close; return the average, or how far it lies above the one that follows it."""
        closes = self._closes
        closes.append(close)
        if len(closes) < MAMA_FIRST:
            self._mama = self._fama = close
        else:
            share = self._share()
            self._mama += share * (close - self._mama)
            self._fama += share / 2.0 * (self._mama - self._fama)
        return self._mama - self._fama if self._lead else self._mama

    def _share(self) -> float:
        gain = 0.075 * self._period + 0.54
        closes = self._closes
        self._smooth.append((4.0 * closes[-1] + 3.0 * closes[-2] + 2.0 * closes[-3] + closes[-4]) / 10.0)
        self._detrended.append(gain * _hilbert(self._smooth))
        self._quadrature.append(gain * _hilbert(self._detrended))
        self._in_phase.append(self._detrended[-4])
        quadrature, in_phase = self._quadrature[-1], self._in_phase[-1]
        i_before, q_before = self._vector
        i_now = 0.2 * (in_phase - gain * _hilbert(self._quadrature)) + 0.8 * i_before
        q_now = 0.2 * (quadrature + gain * _hilbert(self._in_phase)) + 0.8 * q_before
        self._vector = i_now, q_now
        self._re = 0.2 * (i_now * i_before + q_now * q_before) + 0.8 * self._re
        self._im = 0.2 * (i_now * q_before - q_now * i_before) + 0.8 * self._im
        self._measure()
        phase = degrees(atan(quadrature / in_phase)) if in_phase else self._phase
        turned = max(self._phase - phase, 1.0)
        self._phase = phase
        return max(min(self._fast / turned, self._fast), self._slow)

    def _measure(self) -> None:
        before = self._period
        period = 360.0 / degrees(atan(self._im / self._re)) if self._re and self._im else before
        period = max(min(period, 1.5 * before), 0.67 * before)
        self._period = 0.2 * max(6.0, min(period, 50.0)) + 0.8 * before


def _hilbert(numbers: deque[float]) -> float:
    return 0.0962 * numbers[-1] + 0.5769 * numbers[-3] - 0.5769 * numbers[-5] - 0.0962 * numbers[-7]


def _mama(fast: float, slow: float) -> Machine:
    return _Mama(fast, slow, lead=False)


def _mama_lead(fast: float, slow: float) -> Machine:
    return _Mama(fast, slow, lead=True)


class _Swings:
    """Confirmed swings of the close, each held against the one of its kind before, and against relative strength."""

    __slots__ = ("_apart", "_candles", "_closes", "_peak", "_strengths", "_trough", "_window")

    def __init__(self, swing_window: float, min_swing_distance: float) -> None:
        self._window = int(swing_window)
        self._apart = int(min_swing_distance)
        span = 2 * self._window + 1
        self._closes, self._strengths = deque[float](maxlen=span), deque[float](maxlen=span)
        self._candles = 0
        # The candle, close and strength of the last swing of each kind.
        self._trough: tuple[int, float, float] | None = None
        self._peak: tuple[int, float, float] | None = None

    def __call__(self, close: float, strength: float) -> float:
        """Take the next candle; return which divergence it confirms, zero for none."""
        closes, window = self._closes, self._window
        closes.append(close)
        self._strengths.append(strength)
        self._candles += 1
        if self._candles <= 2 * window:
            return 0.0
        middle = closes[window]
        # Of equal ones, none is a swing.
        if middle == min(closes) and closes.count(middle) == 1:
            swing = self._candles - window, middle, self._strengths[window]
            before, self._trough = self._trough, swing
            return self._told(before, swing, 1.0)
        if middle == max(closes) and closes.count(middle) == 1:
            swing = self._candles - window, middle, self._strengths[window]
            before, self._peak = self._peak, swing
            return self._told(before, swing, -1.0)
        return 0.0

    def _told(self, before: tuple[int, float, float] | None, swing: tuple[int, float, float], way: float) -> float:
        if before is None or swing[0] - before[0] < self._apart:
            return 0.0
        price, strength = way * (swing[1] - before[1]), way * (swing[2] - before[2])
        if price < 0.0 < strength:
            return BULLISH if way > 0.0 else BEARISH
        if strength < 0.0 < price:
            return HIDDEN_BULLISH if way > 0.0 else HIDDEN_BEARISH
        return 0.0


class _PeriodTrend:
    """The slope of the exponential average of the closes of longer periods, by its usual height.

    A period's close counts once its last candle is closed, or a candle of a later one, should the last be missing.
    """

    __slots__ = (
        "_alpha",
        "_close",
        "_count",
        "_current",
        "_heights",
        "_level",
        "_offset",
        "_period",
        "_slope",
        "_window",
    )

    def __init__(self, period_ms: float, offset_ms: float, window: float) -> None:
        self._period, self._offset, self._window = period_ms, offset_ms, int(window)
        self._alpha = 2.0 / (self._window + 1)
        self._heights = deque[float](maxlen=self._window)
        self._current: float | None = None
        self._count = 0
        self._close = self._level = self._slope = nan

    def __call__(self, close: float, closed_ms: float) -> float:
        """Take the next candle; return the slope as of the last period that is complete."""
        at = closed_ms - self._offset
        number, rest = divmod(at, self._period)
        period = number if rest else number - 1.0
        if self._current is not None and period > self._current:
            self._complete()
        self._close = close
        self._current = period
        if not rest:
            self._complete()
            self._current = None
        return self._slope

    def _complete(self) -> None:
        before = self._level
        self._level = (1.0 - self._alpha) * before + self._alpha * self._close if self._count else self._close
        self._count += 1
        if self._count < self._window:
            return
        self._heights.append(abs(self._level))
        if self._count > self._window:
            height = 0.0
            for each in self._heights:
                height += each
            height /= len(self._heights)
            self._slope = (self._level - before) / height if height else nan


MACHINES: Final[Mapping[str, Callable[..., Machine]]] = MappingProxyType(
    {
        "held": _held,
        "bulge": _bulge,
        "psar": _Sar,
        "supertrend": _supertrend,
        "trailing": _trailing,
        "mama": _mama,
        "mama_lead": _mama_lead,
        "swings": _Swings,
        "period_trend": _PeriodTrend,
    }
)
