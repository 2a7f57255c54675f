"""Candles as bare arrays, and comparisons that know which rows are ties of rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import frozen

from pipaid.model.candle import Candle

Row = Any

# Rows in which two sides are this close, relatively, prove nothing.
SLACK = 1e-9


@frozen(eq=False)
class Tape:
    """Columns of floats, oldest first, and the moments at which the candles close."""

    o: Row
    h: Row
    l: Row  # noqa: E741  # The letters are those of the definitions.
    c: Row
    v: Row
    closed_ms: Row

    @classmethod
    def of(cls, candles: Sequence[Candle]) -> Tape:
        """Make a tape of candles."""
        rows = [
            [float(each) for each in (candle.open, candle.high, candle.low, candle.close, candle.volume)]
            for candle in candles
        ]
        o, h, low, c, v = np.array(rows).T
        return cls(o, h, low, c, v, np.array([candle.close_time_ms for candle in candles]))

    def __len__(self) -> int:
        """Return how many candles there are."""
        return len(self.c)


@frozen
class Judge:
    """Comparisons that hold a little earlier than they should, or, with a negative slack, a little later."""

    slack: float

    def gt(self, a: Row, b: Row, scale: Row = None) -> Row:
        """Tell where a > b."""
        return np.asarray(a) > np.asarray(b) - self._give(a, b, scale)

    def ge(self, a: Row, b: Row, scale: Row = None) -> Row:
        """Tell where a >= b."""
        return np.asarray(a) >= np.asarray(b) - self._give(a, b, scale)

    def lt(self, a: Row, b: Row, scale: Row = None) -> Row:
        """Tell where a < b."""
        return self.gt(b, a, scale)

    def le(self, a: Row, b: Row, scale: Row = None) -> Row:
        """Tell where a <= b."""
        return self.ge(b, a, scale)

    def up(self, a: Row, b: Row, scale: Row = None) -> Row:
        """Tell where a crosses b upwards."""
        return was(self.le(a, b, scale)) & self.gt(a, b, scale)

    def down(self, a: Row, b: Row, scale: Row = None) -> Row:
        """Tell where a crosses b downwards."""
        return was(self.ge(a, b, scale)) & self.lt(a, b, scale)

    def flip(self, a: Row, b: Row, scale: Row = None, *, direction: str) -> Row:
        """Tell where a crosses b in a direction."""
        return self.up(a, b, scale) if direction == "bullish" else self.down(a, b, scale)

    def _give(self, a: Row, b: Row, scale: Row) -> Row:
        return self.slack * (np.maximum(np.abs(a), np.abs(b)) if scale is None else np.abs(scale))


def was(truths: Row, candles: int = 1) -> Row:
    """Tell where something was true some candles ago."""
    return np.concatenate((np.zeros(candles, dtype=bool), truths[:-candles]))[: len(truths)]


def ago(x: Row, candles: int) -> Row:
    """Return numbers as they were some candles ago."""
    return np.concatenate((np.full(candles, np.nan), x))[: len(x)]
