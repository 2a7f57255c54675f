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
    larger,
    number,
    otherwise,
    rma,
    smaller,
    where,
    wilder,
)

# Typical and median price.
TYPICAL: Final = (HIGH + LOW + CLOSE) / 3.0
MEDIAN: Final = (HIGH + LOW) / 2.0
# The span of a candle together with the close before it; the first candle's is high minus low.
TRUE_RANGE: Final = otherwise(larger(HIGH, CLOSE[-1]) - smaller(LOW, CLOSE[-1]), HIGH - LOW)


def atr(window: int) -> Line:
    """Return the average true range."""
    return wilder(TRUE_RANGE, window)


def rsi(window: int) -> Line:
    """Return the relative strength index; no change at all gives 50."""
    moved = otherwise(change(CLOSE), number(0.0))
    gain = rma(larger(moved, 0.0), window)
    whole = gain + rma(larger(0.0 - moved, 0.0), window)
    return where(whole > 0.0, 100.0 * gain / whole, where(whole >= 0.0, 50.0, whole))


def macd(window_fast: int, window_slow: int) -> Line:
    """Return how far the fast exponential average of the close lies above the slow one."""
    return ema(CLOSE, window_fast) - ema(CLOSE, window_slow)
