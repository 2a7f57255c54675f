"""How fast and how far prices move."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from pipaid.signals.formulas.shared import MEDIAN, MOVED, RANGE, TRUE_RANGE, macd, rsi, steady_mean
from pipaid.signals.line import (
    CLOSE,
    HIGH,
    LOW,
    NOTHING,
    OPEN,
    VOLUME,
    Line,
    change,
    ema,
    highest,
    larger,
    lowest,
    mean,
    otherwise,
    smaller,
    total,
    where,
)

# A range of relative strength at most this share of its top is none: what rounding leaves of equal values.
FLAT_STRENGTH: Final = 1e-9


def roc(window: int) -> Line:
    """Return the rate of change in percent."""
    return 100.0 * (CLOSE / CLOSE[-window] - 1.0)


def mom(window: int) -> Line:
    """Return by how much the close differs from so many candles ago."""
    return CLOSE - CLOSE[-window]


def ao(window_fast: int, window_slow: int) -> Line:
    """Return the awesome oscillator: a fast average of median prices less a slow one."""
    return steady_mean(MEDIAN, window_fast) - steady_mean(MEDIAN, window_slow)


def ppo_histogram(window_slow: int, window_fast: int, window_sign: int) -> Line:
    """Return how far the percentage price oscillator lies above its signal line."""
    return _above_signal(CLOSE, window_slow, window_fast, window_sign)


def pvo_histogram(window_slow: int, window_fast: int, window_sign: int) -> Line:
    """Return how far the percentage volume oscillator lies above its signal line."""
    return _above_signal(VOLUME, window_slow, window_fast, window_sign)


def _above_signal(line: Line, window_slow: int, window_fast: int, window_sign: int) -> Line:
    slow = ema(line, window_slow)
    percentage = 100.0 * (ema(line, window_fast) - slow) / slow
    return percentage - ema(percentage, window_sign)


def bop() -> Line:
    """Return the balance of power: how much of a candle's range lies between its open and its close."""
    return (CLOSE - OPEN) / RANGE


def cmo(window: int) -> Line:
    """Return Chande's momentum oscillator."""
    gains = total(larger(MOVED, 0.0), window)
    losses = total(larger(0.0 - MOVED, 0.0), window)
    return 100.0 * (gains - losses) / (gains + losses)


def stoch(window: int, smooth_window: int) -> Line:
    """Return the stochastic oscillator: where the close lies within the range of a window, smoothed."""
    top, bottom = highest(HIGH, window), lowest(LOW, window)
    return mean(100.0 * (CLOSE - bottom) / (top - bottom), smooth_window)


def williams_r(window: int) -> Line:
    """Return Williams' percent range, from -100 at the bottom to 0 at the top."""
    top, bottom = highest(HIGH, window), lowest(LOW, window)
    return -100.0 * (top - CLOSE) / (top - bottom)


def tsi(window_slow: int, window_fast: int) -> Line:
    """Return the true strength index."""
    moved = change(CLOSE)
    return (100.0 * ema(ema(moved, window_slow), window_fast)) / ema(ema(abs(moved), window_slow), window_fast)


def uo(window_short: int, window_medium: int, window_long: int) -> Line:
    """Return the ultimate oscillator."""
    pressure = otherwise(CLOSE - smaller(LOW, CLOSE[-1]), CLOSE - LOW)
    parts = [
        total(pressure, window) / total(TRUE_RANGE, window) for window in (window_short, window_medium, window_long)
    ]
    return 100.0 * (4.0 * parts[0] + 2.0 * parts[1] + parts[2]) / 7.0


def stochrsi(window: int, smooth1: int) -> Line:
    """Return where the relative strength index lies within its own range, from 0 to 1, smoothed."""
    strength = rsi(window)
    top, bottom = highest(strength, window), lowest(strength, window)
    spread = top - bottom
    return mean(where(spread > FLAT_STRENGTH * top, (strength - bottom) / spread, NOTHING), smooth1)


LINES: Final[Mapping[str, Callable[..., Line]]] = MappingProxyType(
    {
        "roc": roc,
        "mom": mom,
        "ao": ao,
        "ppo_histogram": ppo_histogram,
        "pvo_histogram": pvo_histogram,
        "apo": macd,
        "bop": bop,
        "cmo": cmo,
        "stoch": stoch,
        "williams_r": williams_r,
        "tsi": tsi,
        "uo": uo,
        "stochrsi": stochrsi,
    }
)
