"""Indicators and conditions over whole columns of candles, equal to the live ones to the last bit.

What is made of a window alone is a pure function of the last candles, so that it is computed straight over the column,
a chunk at a time; where a block begins too soon after its anchor for the window, there is no value. What never forgets
is computed in lanes (`pipaid.signals.lanes`). What a live indicator has no value for is not a number here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np
from attrs import define, field, frozen
from numpy.typing import NDArray

from pipaid.model.columns import Candles, Floats, Integers
from pipaid.signals.exact import deviation, mean, most, prices, variance
from pipaid.signals.features import LINES, line_of, make_indicator
from pipaid.signals.indicator import INDICATORS, rungs_of
from pipaid.signals.lanes import Blocks, Smoothing, smoothed
from pipaid.signals.line import reach
from pipaid.signals.series import BLOCK, Condition, Feature
from pipaid.signals.sheets import laned, windowed

Truths = NDArray[np.bool_]
# So many candles are computed at a time: few enough to stay close to the processor.
CHUNK: Final = 2**15


@frozen(eq=False)
class Values:
    """A feature at every candle.

    One candle before it was the value there, save for the first candle of a block, whose anchor is another one:
    `before` has it for those.
    """

    firsts: Integers
    value: Floats
    before: Floats

    @property
    def previous(self) -> Floats:
        """Return the value one candle before each, as of the same anchor."""
        previous = np.empty_like(self.value)
        previous[1:] = self.value[:-1]
        previous[self.firsts] = self.before
        return previous

    @property
    def earlier(self) -> Values:
        """Return what a comparison one candle before each would have seen."""
        return Values(self.firsts, self.previous, self.before)


@define(eq=False)
class Columns:
    """The features and conditions of one column of candles; each is computed once, when it is first asked for."""

    candles: Candles
    block: int = BLOCK
    _blocks: Blocks = field(init=False)
    _made: dict[Feature, Values] = field(factory=dict[Feature, Values])

    def __attrs_post_init__(self) -> None:
        self._blocks = Blocks.of(self.candles, self.block)

    def feature(self, feature: Feature) -> Values:
        """Return a feature at every candle; raise ValueError for one that there is none of."""
        made = self._made.get(feature)
        if made is None:
            make_indicator(feature.name, feature.params)
            made = self._made[feature] = self._worked_out(feature)
        return made

    def holds(self, condition: Condition) -> Truths:
        """Return at which candles a condition holds."""
        left, right = self._side(condition.left), self._side(condition.right)
        # What is not a number compares as false, as it should.
        now = _RULES[condition.kind](left, right)
        if condition.edge:
            now &= ~_RULES[condition.kind](left.earlier, right.earlier)
        return now

    def _worked_out(self, feature: Feature) -> Values:
        candles, blocks = self.candles, self._blocks
        if feature.name not in LINES:
            return _FORMS[feature.name](candles, blocks, *feature.params)
        line = line_of(feature.name, feature.params)
        return Values(blocks.firsts, *(laned if reach(line) is None else windowed)(line, candles, blocks))

    def _side(self, side: Feature | float) -> Values:
        if isinstance(side, Feature):
            return self.feature(side)
        firsts = self._blocks.firsts
        return Values(firsts, np.full(len(self.candles), float(side)), np.full(len(firsts), float(side)))


def _smooth(make: Callable[[int], Smoothing], candles: Candles, blocks: Blocks, window: float) -> Values:
    return Values(blocks.firsts, *smoothed(candles, blocks, make(int(window))))


def _exponential_average(window: int) -> Smoothing:
    alpha = 2.0 / (window + 1)
    return Smoothing(
        keep=1.0 - alpha,
        window=window,
        seeding=1,
        seeds=lambda candles, anchors: (prices(candles, candles.close[anchors]),),
        added=lambda candles, first, end: (alpha * prices(candles, candles.close[first:end]),),
        shown=_itself,
    )


def _itself(level: Floats) -> Floats:
    return level


def _relative_strength(window: int) -> Smoothing:
    alpha = 1.0 / window

    def added(candles: Candles, first: int, end: int) -> tuple[Floats, Floats]:
        closes = prices(candles, candles.close[max(0, first - 1) : end])
        change = np.diff(closes, prepend=closes[: 1 - min(first, 1)])
        return alpha * np.maximum(change, 0.0), alpha * np.maximum(-change, 0.0)

    return Smoothing(
        keep=1.0 - alpha,
        window=window,
        seeding=1,
        levels=2,
        seeds=lambda _, anchors: (np.zeros(len(anchors)),) * 2,
        added=added,
        shown=_share_of_gains,
    )


def _share_of_gains(gain: Floats, loss: Floats) -> Floats:
    total = gain + loss
    values = np.full_like(total, 50.0)
    np.divide(100.0 * gain, total, out=values, where=total != 0.0)
    return values


def _average_true_range(window: int) -> Smoothing:
    alpha = 1.0 / window

    def seeds(candles: Candles, anchors: Integers) -> tuple[Floats]:
        # Of blocks that are too short for it, it is never used.
        places = np.minimum(anchors[:, None] + np.arange(window), len(candles) - 1)
        before = candles.close[np.maximum(places - 1, 0)]
        # The first has none before it that counts.
        before[:, 0] = candles.close[anchors]
        spans = _true_ranges(candles, candles.high[places], candles.low[places], before)
        return (spans.cumsum(axis=1)[:, -1] / window,)

    return Smoothing(
        keep=1.0 - alpha,
        window=window,
        seeding=window,
        seeds=seeds,
        added=lambda candles, first, end: (alpha * _spans(candles, first, end),),
        shown=_itself,
    )


def _true_range(candles: Candles, blocks: Blocks) -> Values:
    value = np.empty(len(candles))
    for first in range(0, len(candles), CHUNK):
        end = min(first + CHUNK, len(candles))
        value[first:end] = _spans(candles, first, end)
    firsts, known = blocks.firsts, blocks.known
    before = np.where(known > 1, value[firsts - 1], _bare_spans(candles, firsts - 1))
    before[known == 0] = np.nan
    alone = firsts[known == 0]
    value[alone] = _bare_spans(candles, alone)
    return Values(firsts, value, before)


def _spans(candles: Candles, first: int, end: int) -> Floats:
    closes = candles.close[max(first - 1, 0) : end]
    # What comes before the very first changes nothing if it lies within it.
    before = closes[:-1] if first else np.append(closes[:1], closes[:-1])
    return _true_ranges(candles, candles.high[first:end], candles.low[first:end], before)


def _true_ranges(candles: Candles, high: Integers, low: Integers, before: Integers) -> Floats:
    return prices(candles, np.maximum(high, before)) - prices(candles, np.minimum(low, before))


def _bare_spans(candles: Candles, places: Integers) -> Floats:
    return prices(candles, candles.high[places]) - prices(candles, candles.low[places])


def _window(name: str, make: Callable[..., Floats], candles: Candles, blocks: Blocks, *params: float) -> Values:
    """Return what is made of as many last candles as the indicator reaches back, from chunks that overlap by that."""
    reach_of = INDICATORS[name].reach
    assert reach_of is not None, f"{name} has no window"
    length, count = reach_of(*params), len(candles)
    value = np.empty(count)
    for first in range(length - 1, count, CHUNK):
        end = min(first + CHUNK, count)
        value[first:end] = make(candles, slice(first - length + 1, end), *params)
    value[blocks.warming(length)] = np.nan
    before = value[blocks.firsts - 1]
    before[blocks.known < length] = np.nan
    return Values(blocks.firsts, value, before)


def _close(candles: Candles, rows: slice) -> Floats:
    return prices(candles, candles.close[rows])


def _z_score(candles: Candles, rows: slice, window: float) -> Floats:
    squared = variance(candles, rows, window)
    values = np.full_like(squared, np.nan)
    apart = _close(candles, rows)[int(window) - 1 :] - mean(candles, rows, window)
    np.divide(apart, np.sqrt(squared), out=values, where=squared > 0.0)
    return values


def _highest(candles: Candles, rows: slice, window: float) -> Floats:
    return prices(candles, most(np.maximum, candles.high[rows], int(window)))


def _lowest(candles: Candles, rows: slice, window: float) -> Floats:
    return prices(candles, most(np.minimum, candles.low[rows], int(window)))


def _before(make: Callable[..., Floats], candles: Candles, rows: slice, window: float) -> Floats:
    return make(candles, slice(rows.start, rows.stop - 1), window)


def _rung(name: str, candles: Candles, rows: slice, *ladder: float) -> Floats:
    return np.searchsorted(rungs_of(name, *ladder), _close(candles, rows), side="left").astype(np.float64)


def _period(candles: Candles, rows: slice, period_ms: float, offset_ms: float) -> Floats:
    closed_ms = candles.time_ms[rows] + candles.timeframe.ms
    return ((closed_ms - int(offset_ms)) // int(period_ms)).astype(np.float64)


_SMOOTHED: Final[Mapping[str, Callable[[int], Smoothing]]] = MappingProxyType(
    {"ema": _exponential_average, "rsi": _relative_strength, "atr": _average_true_range}
)
_WINDOWED: Final[Mapping[str, Callable[..., Floats]]] = MappingProxyType(
    {
        "close": _close,
        "sma": mean,
        "stddev": deviation,
        "zscore": _z_score,
        "highest": _highest,
        "lowest": _lowest,
        "channel_high": partial(_before, _highest),
        "channel_low": partial(_before, _lowest),
        "arithmetic_rung": partial(_rung, "arithmetic_rung"),
        "geometric_rung": partial(_rung, "geometric_rung"),
        "period": _period,
    }
)
_FORMS: Final[Mapping[str, Callable[..., Values]]] = MappingProxyType(
    {name: partial(_smooth, make) for name, make in _SMOOTHED.items()}
    | {name: partial(_window, name, make) for name, make in _WINDOWED.items()}
    | {"true_range": _true_range}
)
assert _FORMS.keys() == INDICATORS.keys(), "every indicator has both forms"


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
