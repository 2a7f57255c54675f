"""How far prices move, and the channels drawn by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from pipaid.signals.formulas.shared import atr, steady_mean
from pipaid.signals.line import CLOSE, HIGH, LOW, Line, deviation, ema, fold, highest_yet, mean, root, total


def bb_upper(window: int, window_dev: float) -> Line:
    """Return the upper Bollinger band."""
    return mean(CLOSE, window) + window_dev * deviation(window)


def bb_lower(window: int, window_dev: float) -> Line:
    """Return the lower Bollinger band."""
    return mean(CLOSE, window) - window_dev * deviation(window)


def bb_width(window: int, window_dev: float) -> Line:
    """Return how far apart the Bollinger bands are, in percent of their middle."""
    return 100.0 * (2.0 * window_dev * deviation(window)) / mean(CLOSE, window)


def kc_upper(window: int, window_atr: int, multiplier: float, original_version: bool) -> Line:
    """Return the upper line of the Keltner channel, in its original version or by the average true range."""
    if original_version:
        return steady_mean((4.0 * HIGH - 2.0 * LOW + CLOSE) / 3.0, window)
    return ema(CLOSE, window) + multiplier * atr(window_atr)


def kc_lower(window: int, window_atr: int, multiplier: float, original_version: bool) -> Line:
    """Return the lower line of the Keltner channel, in its original version or by the average true range."""
    if original_version:
        return steady_mean((-2.0 * HIGH + 4.0 * LOW + CLOSE) / 3.0, window)
    return ema(CLOSE, window) - multiplier * atr(window_atr)


def trailing_stop(window: int, multiplier: float) -> Line:
    """Return on which side the stop is that trails the close by average true ranges: 1 for long, -1 for short."""
    return fold("trailing", CLOSE, multiplier * atr(window))


def natr(window: int) -> Line:
    """Return the average true range in percent of the close."""
    return 100.0 * atr(window) / CLOSE


def ulcer(window: int) -> Line:
    """Return the ulcer index: how deep below its highest close the close was, in percent."""
    fallen = 100.0 * (CLOSE / highest_yet(CLOSE, window) - 1.0)
    return root(steady_mean(fallen * fallen, window))


def starc_upper(window: int, window_atr: int, multiplier: float) -> Line:
    """Return the upper STARC band: a simple average and average true ranges."""
    return mean(CLOSE, window) + multiplier * atr(window_atr)


def starc_lower(window: int, window_atr: int, multiplier: float) -> Line:
    """Return the lower STARC band."""
    return mean(CLOSE, window) - multiplier * atr(window_atr)


def _returned() -> Line:
    return CLOSE / CLOSE[-1] - 1.0


def _usual(window: int) -> Line:
    """Return the standard deviation of the returns over a window, divisor n - 1."""
    returned = _returned()
    whole = total(returned, window)
    return root((total(returned * returned, window) - whole * whole / float(window)) / (window - 1.0))


def return_above(window: int, multiplier: float) -> Line:
    """Return how far the last return lies above so many usual deviations."""
    return _returned() - multiplier * _usual(window)


def return_below(window: int, multiplier: float) -> Line:
    """Return how far the last return lies above so many usual deviations below zero."""
    return _returned() + multiplier * _usual(window)


LINES: Final[Mapping[str, Callable[..., Line]]] = MappingProxyType(
    {
        "bb_upper": bb_upper,
        "bb_lower": bb_lower,
        "bb_width": bb_width,
        "kc_upper": kc_upper,
        "kc_lower": kc_lower,
        "trailing_stop": trailing_stop,
        "natr": natr,
        "ulcer": ulcer,
        "starc_upper": starc_upper,
        "starc_lower": starc_lower,
        "return_above": return_above,
        "return_below": return_below,
    }
)
