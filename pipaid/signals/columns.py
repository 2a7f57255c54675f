"""Indicators and conditions over whole columns of candles, equal to the live ones to the last bit.

A live value is a pure function of the candles since its anchor, and every block of a series has an anchor of its own
(`pipaid.signals.series`). So the blocks are computed side by side, each as a lane that begins at its anchor: a step
takes one candle of every lane, and does with them just what a live update does with one. What a live indicator has no
value for is not a number here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np
from attrs import define, field, frozen
from numpy.typing import NDArray

from pipaid.model.columns import Candles, Floats
from pipaid.signals.indicator import INDICATORS, make_indicator, rungs_of
from pipaid.signals.series import BLOCK, Condition, Feature

Truths = NDArray[np.bool_]
# So many lanes are computed at a time, which bounds the memory that a feature takes while it is made.
LANES_MAX: Final = 160


@frozen(eq=False)
class Values:
    """A feature at every candle: its value there, and the value one candle before as of the same anchor."""

    value: Floats
    previous: Floats


@frozen(eq=False)
class Lanes:
    """Candles of some blocks, each from its anchor on: arrays of steps by lanes, shorter lanes filled up at the end."""

    high: Floats
    low: Floats
    close: Floats
    close_time_ms: NDArray[np.int64]


@define(eq=False)
class Columns:
    """The features and conditions of one column of candles; each is computed once, when it is first asked for."""

    candles: Candles
    block: int = BLOCK
    _made: dict[Feature, Values] = field(factory=dict[Feature, Values])

    def feature(self, feature: Feature) -> Values:
        """Return a feature at every candle; raise ValueError for one that there is none of."""
        made = self._made.get(feature)
        if made is None:
            make_indicator(feature.name, feature.params)
            made = self._made[feature] = self._computed(_COLUMNS[feature.name], feature.params)
        return made

    def holds(self, condition: Condition) -> Truths:
        """Return at which candles a condition holds."""
        left, right = self._side(condition.left), self._side(condition.right)
        # What is not a number compares as false, as it should.
        return _RULES[condition.kind](left, right)

    def _side(self, side: Feature | float) -> Values:
        if isinstance(side, Feature):
            return self.feature(side)
        constant = np.broadcast_to(np.float64(side), len(self.candles))
        return Values(constant, constant)

    def _computed(self, make: Callable[..., Floats], params: tuple[int | float, ...]) -> Values:
        count = len(self.candles)
        made = Values(np.full(count, np.nan), np.full(count, np.nan))
        for lanes, own, target in self._lanes():
            value = make(lanes, *params)
            before = np.full_like(value, np.nan)
            before[1:] = value[:-1]
            # Lane by lane, in the order of the candles.
            made.value[target] = value.T[own]
            made.previous[target] = before.T[own]
        return made

    def _lanes(self) -> Iterator[tuple[Lanes, Truths, slice]]:
        """Yield lanes, which places of them are their own block's, and which candles those are."""
        candles = self.candles
        step_ms = candles.timeframe.ms
        blocks = candles.time_ms // step_ms // self.block
        firsts = np.flatnonzero(np.diff(blocks, prepend=blocks[0] - 1)) if len(candles) else np.empty(0, np.int64)
        ends = np.append(firsts[1:], len(candles))
        # The block before is the anchor's if it has any candle.
        follows = np.append(False, blocks[firsts[1:]] - blocks[firsts[:-1]] == 1) if len(firsts) else np.empty(0, bool)
        anchors = np.where(follows, np.append(0, firsts[:-1]), firsts) if len(firsts) else firsts
        for start in range(0, len(firsts), LANES_MAX):
            some = slice(start, start + LANES_MAX)
            lengths = ends[some] - anchors[some]
            steps = np.arange(int(lengths.max()))
            places = anchors[some][None, :] + np.minimum(steps[:, None], lengths[None, :] - 1)
            own = (steps[None, :] >= (firsts[some] - anchors[some])[:, None]) & (steps[None, :] < lengths[:, None])
            lanes = Lanes(
                high=candles.floats("high")[places],
                low=candles.floats("low")[places],
                close=candles.floats("close")[places],
                close_time_ms=candles.time_ms[places] + step_ms,
            )
            yield lanes, own, slice(int(firsts[some][0]), int(ends[some][-1]))


def _close(lanes: Lanes) -> Floats:
    return lanes.close


def _true_range(lanes: Lanes) -> Floats:
    high, low = lanes.high.copy(), lanes.low.copy()
    before = lanes.close[:-1]
    np.maximum(high[1:], before, out=high[1:])
    np.minimum(low[1:], before, out=low[1:])
    return high - low


def _average_true_range(lanes: Lanes, window: float) -> Floats:
    spans = _true_range(lanes)
    values = np.full_like(spans, np.nan)
    count = int(window)
    if len(spans) < count:
        return values
    total = np.zeros(spans.shape[1])
    for step in range(count):
        total = total + spans[step]
    level = values[count - 1] = total / count
    for step in range(count, len(spans)):
        level = values[step] = level + (spans[step] - level) / count
    return values


def _exponential_average(lanes: Lanes, window: float) -> Floats:
    close, count = lanes.close, int(window)
    values = np.empty_like(close)
    alpha = 2.0 / (count + 1)
    weighted = alpha * close
    level = values[0] = close[0]
    for step in range(1, len(close)):
        level = values[step] = (1.0 - alpha) * level + weighted[step]
    values[: count - 1] = np.nan
    return values


def _relative_strength(lanes: Lanes, window: float) -> Floats:
    close, count = lanes.close, int(window)
    alpha = 1.0 / count
    change = np.diff(close, axis=0)
    up = np.where(change > 0.0, alpha * change, 0.0)
    down = np.where(change > 0.0, 0.0, alpha * change)
    gains, losses = np.zeros_like(close), np.zeros_like(close)
    gain, loss = gains[0], losses[0]
    for step in range(1, len(close)):
        gain = gains[step] = (1.0 - alpha) * gain + up[step - 1]
        loss = losses[step] = (1.0 - alpha) * loss - down[step - 1]
    total = gains + losses
    values = np.full_like(close, 50.0)
    np.divide(100.0 * gains, total, out=values, where=total != 0.0)
    values[: count - 1] = np.nan
    return values


@frozen(eq=False)
class _Moments:
    mean: Floats
    squares: Floats


def _moments(lanes: Lanes, window: int) -> _Moments:
    """Return mean and sum of squared deviations of the last closes, joined of tails and heads as live ones are."""
    close = lanes.close
    steps, width = close.shape
    rounds = -(-steps // window)
    padded = np.concatenate((close, np.broadcast_to(close[-1], (rounds * window - steps, width))))
    blocks = padded.reshape(rounds, window, width)
    heads, tails = _welford(blocks), _welford(blocks[:, ::-1])
    mean, squares = np.full_like(blocks, np.nan), np.full_like(blocks, np.nan)
    mean[:, -1], squares[:, -1] = heads.mean[:, -1], heads.squares[:, -1]
    if window > 1:
        counts = np.arange(1, window)[:, None]
        rest = window - counts
        # After so many of this block, the tail is what is left of the one before.
        head_mean, head_squares = heads.mean[1:, :-1], heads.squares[1:, :-1]
        tail_mean, tail_squares = tails.mean[:-1, ::-1][:, 1:], tails.squares[:-1, ::-1][:, 1:]
        apart = tail_mean - head_mean
        mean[1:, :-1] = head_mean + apart * rest / window
        squares[1:, :-1] = head_squares + tail_squares + apart * apart * counts * rest / window
    flat = (rounds * window, width)
    return _Moments(mean.reshape(flat)[:steps], squares.reshape(flat)[:steps])


def _welford(blocks: Floats) -> _Moments:
    means, sums = np.empty(blocks.shape), np.empty(blocks.shape)
    mean = squares = np.zeros((blocks.shape[0], blocks.shape[2]))
    for place in range(blocks.shape[1]):
        number = blocks[:, place]
        step = number - mean
        mean = means[:, place] = mean + step / (place + 1)
        squares = sums[:, place] = squares + step * (number - mean)
    return _Moments(means, sums)


def _simple_average(lanes: Lanes, window: float) -> Floats:
    return _moments(lanes, int(window)).mean


def _deviation(lanes: Lanes, window: float) -> Floats:
    return np.sqrt(_moments(lanes, int(window)).squares / int(window))


def _z_score(lanes: Lanes, window: float) -> Floats:
    moments = _moments(lanes, int(window))
    values = np.full_like(lanes.close, np.nan)
    apart = np.sqrt(moments.squares / int(window))
    np.divide(lanes.close - moments.mean, apart, out=values, where=moments.squares > 0.0)
    return values


def _top(column: Floats, window: int) -> Floats:
    """Return the largest of the last numbers, by the heads and tails of blocks as long as the window."""
    steps, width = column.shape
    rounds = -(-steps // window)
    padded = np.concatenate((column, np.full((rounds * window - steps, width), -np.inf)))
    blocks = padded.reshape(rounds, window, width)
    heads = np.maximum.accumulate(blocks, axis=1)
    tails = np.maximum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1]
    heads[1:, :-1] = np.maximum(heads[1:, :-1], tails[:-1, 1:])
    heads[0, :-1] = np.nan
    return heads.reshape(rounds * window, width)[:steps]


def _highest(lanes: Lanes, window: float) -> Floats:
    return _top(lanes.high, int(window))


def _lowest(lanes: Lanes, window: float) -> Floats:
    return -_top(-lanes.low, int(window))


def _one_later(make: Callable[..., Floats], lanes: Lanes, window: float) -> Floats:
    values = np.full_like(lanes.close, np.nan)
    values[1:] = make(lanes, window)[:-1]
    return values


def _rung(name: str, lanes: Lanes, *ladder: float) -> Floats:
    marks = rungs_of(name, *ladder)
    return np.searchsorted(marks, lanes.close, side="left").astype(np.float64)


def _period(lanes: Lanes, period_ms: float, offset_ms: float) -> Floats:
    return ((lanes.close_time_ms - int(offset_ms)) // int(period_ms)).astype(np.float64)


_COLUMNS: Final[Mapping[str, Callable[..., Floats]]] = MappingProxyType(
    {
        "close": _close,
        "true_range": _true_range,
        "sma": _simple_average,
        "ema": _exponential_average,
        "rsi": _relative_strength,
        "atr": _average_true_range,
        "stddev": _deviation,
        "zscore": _z_score,
        "highest": _highest,
        "lowest": _lowest,
        "channel_high": partial(_one_later, _highest),
        "channel_low": partial(_one_later, _lowest),
        "arithmetic_rung": partial(_rung, "arithmetic_rung"),
        "geometric_rung": partial(_rung, "geometric_rung"),
        "period": _period,
    }
)
assert _COLUMNS.keys() == INDICATORS.keys(), "every indicator has both forms"


def _changes(left: Values, right: Values) -> Truths:
    differ: Truths = (left.value != left.previous) & ~np.isnan(left.value) & ~np.isnan(left.previous)
    return differ


_RULES: Final[Mapping[str, Callable[[Values, Values], Truths]]] = MappingProxyType(
    {
        "above": lambda left, right: left.value > right.value,
        "below": lambda left, right: left.value < right.value,
        "at_least": lambda left, right: left.value >= right.value,
        "at_most": lambda left, right: left.value <= right.value,
        "cross_above": lambda left, right: (left.value > right.value) & (left.previous <= right.previous),
        "cross_below": lambda left, right: (left.value < right.value) & (left.previous >= right.previous),
        "changes": _changes,
        "every": lambda left, right: ~np.isnan(left.value),
    }
)
