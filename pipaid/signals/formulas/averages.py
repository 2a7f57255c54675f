"""Averages of the close: each tells where prices have been, and some try to lag less than others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isqrt
from types import MappingProxyType
from typing import Final

from pipaid.signals.formulas.shared import epma_of
from pipaid.signals.line import (
    AGE,
    CLOSE,
    NOTHING,
    Line,
    bell,
    change,
    ema,
    fold,
    follow,
    mean,
    ramp,
    rma,
    steady,
    total,
    weighted,
    where,
)


def kama(window: int, pow1: int, pow2: int) -> Line:
    """Return Kaufman's average, which follows faster the straighter prices go."""
    path = total(abs(change(CLOSE)), window)
    straight = where(path > 0.0, abs(CLOSE - CLOSE[-window]) / path, 0.0)
    fastest, slowest = 2.0 / (pow1 + 1), 2.0 / (pow2 + 1)
    share = straight * (fastest - slowest) + slowest
    return follow(where(float(window) <= AGE, CLOSE, NOTHING), share * share)


def wma_of(line: Line, window: int) -> Line:
    """Return a line's average with weights that grow by one a candle."""
    return steady(ramp(line, window) / (window * (window + 1) / 2.0), line, window)


def wma(window: int) -> Line:
    """Return the average with weights that grow by one a candle."""
    return wma_of(CLOSE, window)


def dema(window: int) -> Line:
    """Return the double exponential average."""
    once = ema(CLOSE, window)
    return 2.0 * once - ema(once, window)


def tema(window: int) -> Line:
    """Return the triple exponential average."""
    once = ema(CLOSE, window)
    twice = ema(once, window)
    return 3.0 * once - 3.0 * twice + ema(twice, window)


def trima(window: int) -> Line:
    """Return the triangular average: the simple average of a simple average."""
    first = (window + 1) // 2
    once, second = mean(CLOSE, first), window + 1 - first
    return steady(mean(once, second), once, second)


def smma(window: int) -> Line:
    """Return the smoothed average: Wilder's smoothing of the close."""
    return rma(CLOSE, window)


def epma(window: int) -> Line:
    """Return where the straight line that fits the window best ends."""
    return epma_of(CLOSE, window)


def hma(window: int) -> Line:
    """Return Hull's average."""
    ahead = 2.0 * wma(max(1, window // 2)) - wma(window)
    return wma_of(ahead, max(1, isqrt(window)))


def alma(window: int, offset: float, sigma: float) -> Line:
    """Return the average with the weights of a normal curve that is moved towards the newest candle."""
    return steady(weighted(CLOSE, bell(window, offset, sigma)), CLOSE, window)


def t3(window: int, volume_factor: float) -> Line:
    """Return Tillson's average of six exponential ones."""
    levels = [CLOSE]
    for _ in range(6):
        levels.append(ema(levels[-1], window))
    a = volume_factor
    weights = (
        -a * a * a,
        3.0 * a * a + 3.0 * a * a * a,
        -6.0 * a * a - 3.0 * a - 3.0 * a * a * a,
        (1.0 + a) * (1.0 + a) * (1.0 + a),
    )
    return weights[0] * levels[6] + weights[1] * levels[5] + weights[2] * levels[4] + weights[3] * levels[3]


def mama(fast_limit: float, slow_limit: float) -> Line:
    """Return the average that follows faster where the measured cycle turns fast."""
    return fold("mama", CLOSE, params=(fast_limit, slow_limit))


def mama_lead(fast_limit: float, slow_limit: float) -> Line:
    """Return how far that average lies above the one that follows it."""
    return fold("mama_lead", CLOSE, params=(fast_limit, slow_limit))


LINES: Final[Mapping[str, Callable[..., Line]]] = MappingProxyType(
    {
        "kama": kama,
        "wma": wma,
        "dema": dema,
        "tema": tema,
        "trima": trima,
        "smma": smma,
        "epma": epma,
        "hma": hma,
        "alma": alma,
        "t3": t3,
        "mama": mama,
        "mama_lead": mama_lead,
    }
)
