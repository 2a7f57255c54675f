"""Sliding windows over numbers: constant time on average, and nothing carried from one window into the next."""

from __future__ import annotations

from collections import deque
from decimal import Context, Decimal
from itertools import accumulate
from math import inf, sqrt
from typing import Final

# Floats hold every whole number up to twice this, and the powers of ten as far as the other.
WHOLE_MAX: Final = 2**52
DECIMALS_MAX: Final = 22
_EXACT: Final = Context(prec=1_000)


class WindowMoments:
    """Mean and variance of the last `window` numbers, each the float nearest to the exact one.

    A number is taken for the shortest decimal that its float tells, which is the price it was made of, and kept as a
    whole number of the smallest decimal step seen so far. Sums of whole numbers have no error, so that what left the
    window leaves no trace, and neither the order nor the size of the step shows in any result.
    """

    __slots__ = ("_decimals", "_divisor", "_kept", "_missing", "_scale", "_squares", "_sum", "_weight", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self._kept = deque([0] * window, window)
        self._missing = window
        self._sum = 0
        self._squares = 0
        self._decimals = 0
        self._scale = 1.0
        self._divisor = window
        self._weight = window * window

    def push(self, number: float) -> bool:
        """Take the next number; tell whether the window is full."""
        units = int(number * self._scale + 0.5)
        # Of so few digits, no two decimals have the same float: if the float comes out again, it is the decimal.
        if units >= WHOLE_MAX or units / self._scale != number:
            units = self._exact(number)
        kept = self._kept
        gone = kept[0]
        kept.append(units)
        step = units - gone
        self._sum += step
        self._squares += step * (units + gone)
        if self._missing:
            self._missing -= 1
            return not self._missing
        return True

    @property
    def mean(self) -> float:
        """Return the mean of a full window."""
        return self._sum / self._divisor

    @property
    def variance(self) -> float:
        """Return the mean of the squared deviations from the mean of a full window; a flat one has exactly none."""
        total = self._sum
        return (self.window * self._squares - total * total) / self._weight

    def score(self, number: float) -> float | None:
        """Return how many standard deviations a number lies above the mean of a full window, unless that is flat."""
        total = self._sum
        squares = self.window * self._squares - total * total
        return (number - total / self._divisor) / sqrt(squares / self._weight) if squares else None

    def _exact(self, number: float) -> int:
        """Return a number in units, after making them as small as it takes."""
        decimal = Decimal(repr(number))
        exponent = decimal.as_tuple().exponent
        assert isinstance(exponent, int), f"{number} is no number"
        finer = min(-exponent, DECIMALS_MAX) - self._decimals
        if finer > 0:
            factor = 10**finer
            self._decimals += finer
            self._scale = 10.0**self._decimals
            self._divisor *= factor
            self._weight *= factor * factor
            self._sum *= factor
            self._squares *= factor * factor
            self._kept = deque((units * factor for units in self._kept), self.window)
        return round(decimal.scaleb(self._decimals, _EXACT))


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
