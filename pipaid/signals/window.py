"""Sliding windows over numbers: constant time on average, and nothing carried from one window into the next."""

from __future__ import annotations

from itertools import accumulate
from math import inf


class WindowMoments:
    """Mean and sum of squared deviations over the last `window` numbers, with nothing ever subtracted.

    The numbers come in blocks as long as the window; a window is a tail of the block before joined to the head of this
    one. Heads grow by Welford's step, tails are made once a block, and the two are joined by Chan's formula, so that no
    error is carried from window to window and a flat one has exactly zero deviation.
    """

    __slots__ = ("_fresh", "_mean", "_squares", "_tail_means", "_tail_squares", "mean", "squares", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.mean = 0.0
        self.squares = 0.0
        self._mean = 0.0
        self._squares = 0.0
        self._fresh: list[float] = []
        self._tail_means: list[float] = []
        self._tail_squares: list[float] = []

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
        tail_means = self._tail_means
        if not tail_means:
            return False
        apart = tail_means[count] - mean
        rest = window - count
        self.mean = mean + apart * rest / window
        self.squares = squares + self._tail_squares[count] + apart * apart * count * rest / window
        return True

    def _turn(self) -> None:
        means: list[float] = []
        sums: list[float] = []
        mean = squares = 0.0
        for count, number in enumerate(reversed(self._fresh), 1):
            step = number - mean
            mean += step / count
            squares += step * (number - mean)
            means.append(mean)
            sums.append(squares)
        means.reverse()
        sums.reverse()
        self._tail_means, self._tail_squares = means, sums
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
