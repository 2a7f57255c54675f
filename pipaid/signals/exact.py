"""Means and variances of windows over columns of prices: whole numbers, whose sums have no error, and one rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from pipaid.model.columns import Candles, Floats, Integers

# A float holds every whole number up to this.
WHOLE_MAX: Final = 2**53
# Where window times spread is below this, the window's variance times its length squared is below 2 to the power of 62.
SPREAD_MAX: Final = 2**32


def prices(candles: Candles, units: Integers) -> Floats:
    """Return prices as the floats nearest to them, as live ones are."""
    floats: Floats = units / 10.0**candles.price_decimals
    return floats


def mean(candles: Candles, rows: slice, window: float) -> Floats:
    """Return the mean close of each whole window within some rows."""
    count = int(window)
    return _quotients(_sums(candles.close[rows], count), count * 10**candles.price_decimals)


def variance(candles: Candles, rows: slice, window: float) -> Floats:
    """Return the variance of the closes, divisor n, of each whole window within some rows."""
    closes, count = candles.close[rows], int(window)
    # If 64 bits hold the result, it is true: what the sums lost on the way comes back in their differences.
    if count * (int(closes.max()) - int(closes.min())) >= SPREAD_MAX:
        closes = closes.astype(object)
    total = _sums(closes, count)
    squares = count * _sums(closes * closes, count) - total * total
    return _quotients(squares, (count * 10**candles.price_decimals) ** 2)


def deviation(candles: Candles, rows: slice, window: float) -> Floats:
    """Return the standard deviation of the closes of each whole window within some rows."""
    return np.sqrt(variance(candles, rows, window))


def most(of_two: Callable[[Any, Any], Any], numbers: Any, window: int) -> Any:
    """Return the extreme of each window, from those of windows half as long."""
    width = 1
    while 2 * width <= window:
        numbers = of_two(numbers[:-width], numbers[width:])
        width *= 2
    rest = window - width
    return of_two(numbers[: len(numbers) - rest], numbers[rest:])


def _sums(numbers: Integers, window: int) -> Integers:
    upto = numbers.cumsum()
    sums = upto[window - 1 :]
    return np.append(sums[:1], sums[1:] - upto[:-window])


def _quotients(numbers: Integers, divisor: int) -> Floats:
    """Return the floats nearest to the quotients."""
    if numbers.dtype == np.int64 and int(numbers.max()) <= WHOLE_MAX and int(float(divisor)) == divisor:
        rounded: Floats = numbers / float(divisor)
        return rounded
    return np.array([number / divisor for number in numbers.tolist()])
