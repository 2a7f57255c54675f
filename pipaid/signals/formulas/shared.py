"""Lines that many formulas are made of."""

from __future__ import annotations

from typing import Final

from pipaid.signals.line import (
    CLOSE,
    HIGH,
    LOW,
    Line,
    change,
    ema,
    highest,
    larger,
    lowest,
    mean,
    number,
    otherwise,
    ramp,
    rma,
    smaller,
    steady,
    total,
    where,
    wilder,
)

# Typical and median price.
TYPICAL: Final = (HIGH + LOW + CLOSE) / 3.0
MEDIAN: Final = (HIGH + LOW) / 2.0
RANGE: Final = HIGH - LOW
# The span of a candle together with the close before it; the first candle's is its own.
SPAN_AFTER_CLOSE: Final = larger(HIGH, CLOSE[-1]) - smaller(LOW, CLOSE[-1])
TRUE_RANGE: Final = otherwise(SPAN_AFTER_CLOSE, RANGE)
MOVED: Final = otherwise(change(CLOSE), number(0.0))


def atr(window: int) -> Line:
    """Return the average true range."""
    return wilder(TRUE_RANGE, window)


def rsi(window: int) -> Line:
    """Return the relative strength index; no change at all gives 50."""
    gain = rma(larger(MOVED, 0.0), window)
    whole = gain + rma(larger(0.0 - MOVED, 0.0), window)
    return where(whole > 0.0, 100.0 * gain / whole, where(whole >= 0.0, 50.0, whole))


def macd(window_fast: int, window_slow: int) -> Line:
    """Return how far the fast exponential average of the close lies above the slow one."""
    return ema(CLOSE, window_fast) - ema(CLOSE, window_slow)


def steady_mean(line: Line, window: int) -> Line:
    """Return the mean over a window, which is what the line is where that is flat."""
    return steady(mean(line, window), line, window)


def middle(window: int) -> Line:
    """Return the middle between the highest high and the lowest low."""
    return (highest(HIGH, window) + lowest(LOW, window)) / 2.0


def epma_of(line: Line, window: int) -> Line:
    """Return where the straight line that fits a window of a line best ends."""
    # The ramp's weights begin with 1 for the oldest, those of the fit are counted from 0.
    slope, level = ramp(line, window) - total(line, window), (4.0 - 2.0 * window) * total(line, window)
    return steady((6.0 * slope + level) / (window * (window + 1.0)), line, window)
