"""The column form of lines: whole columns at once, in the same order of operations as candle by candle.

What is made of a window is worked out straight along the candles. All else is worked out in lanes, one for each block
from its anchor on (`pipaid.signals.lanes`): a column of a sheet is a lane, and a row has one candle of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from pipaid.model.columns import Candles, Floats, Integers
from pipaid.signals.exact import deviation, mean, most, prices
from pipaid.signals.lanes import Blocks
from pipaid.signals.line import SOURCES, Line, in_order, reach
from pipaid.signals.steps import STEPS, Step, halves

# Numbers along axis 0, or one number for all of them.
Numbers = Any
# So many candles are computed at a time where windows are: few enough to stay close to the processor.
CHUNK: Final = 2**15
# So many lanes are computed at a time: a year of minutes has twice as many.
LANES_MAX: Final = 64
# For fewer lanes than this, one number at a time costs less than one row at a time.
LANES_FEW: Final = 12
_EXACT: Final = MappingProxyType({"close_mean": mean, "close_deviation": deviation})


class Sheet(Protocol):
    """The candles that lines are made of, put in some shape along axis 0."""

    def numbers(self, line: Line) -> Numbers:
        """Return what is known of the candles themselves: a price, the age, or an exact moment of the closes."""
        ...


def worked_out(line: Line, sheet: Sheet) -> Floats:
    """Return a line over a sheet."""
    ordered = in_order(line)
    last_use = {each: place for place, user in enumerate(ordered) for each in user.inputs}
    made: dict[Line, Numbers] = {}
    with np.errstate(all="ignore"):
        for place, each in enumerate(ordered):
            inputs = [made[side] for side in each.inputs]
            for side in each.inputs:
                # Nothing is kept longer than it is needed: a sheet of a year of minutes takes megabytes.
                if last_use[side] == place:
                    made.pop(side, None)
            if each.operation == "number":
                made[each] = each.params[0]
            elif not inputs:
                made[each] = sheet.numbers(each)
            else:
                made[each] = OPERATIONS[each.operation](*inputs, *each.params)
    return np.asarray(made[line], dtype=np.float64)


@define(eq=False)
class Straight:
    """Some candles as they come, one after another."""

    candles: Candles
    rows: slice

    def numbers(self, line: Line) -> Numbers:
        """Return what is known of the candles themselves."""
        name, candles, rows = line.operation, self.candles, self.rows
        if name in SOURCES:
            return _floats(candles, name, rows)
        window = int(line.params[0])
        values = np.full(rows.stop - rows.start, np.nan)
        if len(values) >= window:
            values[window - 1 :] = _EXACT[name](candles, rows, window)
        return values


@define(eq=False)
class Laned:
    """Some blocks of candles, each from its anchor on in a lane of its own; short ones repeat their last candle."""

    candles: Candles
    blocks: Blocks
    _places: Integers = field(init=False)
    _made: dict[Line, Numbers] = field(factory=dict[Line, Any])

    def __attrs_post_init__(self) -> None:
        blocks = self.blocks
        longest = int((blocks.ends - blocks.anchors).max())
        self._places = np.minimum(blocks.anchors + np.arange(longest)[:, None], blocks.ends - 1)

    def numbers(self, line: Line) -> Numbers:
        """Return what is known of the candles themselves."""
        made = self._made.get(line)
        if made is None:
            made = self._made[line] = self._numbers(line)
        return made

    def _numbers(self, line: Line) -> Numbers:
        name, places = line.operation, self._places
        if name == "age":
            return np.repeat(np.arange(1.0, len(places) + 1)[:, None], places.shape[1], axis=1)
        first, end = int(places[0].min()), int(places[-1].max()) + 1
        straight: Floats = Straight(self.candles, slice(first, end)).numbers(line)
        laned: Floats = straight[places - first]
        if name in _EXACT:
            laned[: int(line.params[0]) - 1] = np.nan
        return laned


def windowed(line: Line, candles: Candles, blocks: Blocks) -> tuple[Floats, Floats]:
    """Return a line that is made of a window, and what it was before the first candle of each block."""
    length, count = reach(line), len(candles)
    assert length is not None, "what never forgets has no window"
    value = np.full(count, np.nan)
    for first in range(length - 1, count, CHUNK):
        end = min(first + CHUNK, count)
        value[first:end] = worked_out(line, Straight(candles, slice(first - length + 1, end)))[length - 1 :]
    value[blocks.warming(length)] = np.nan
    before = value[blocks.firsts - 1]
    before[blocks.known < length] = np.nan
    return value, before


def laned(line: Line, candles: Candles, blocks: Blocks) -> tuple[Floats, Floats]:
    """Return a line that never forgets, and what it was before the first candle of each block as of its anchor."""
    value, before = np.empty(len(candles)), np.full(len(blocks.firsts), np.nan)
    for start in range(0, len(blocks.firsts), LANES_MAX):
        some = blocks.some(start, LANES_MAX)
        shown = worked_out(line, Laned(candles, some))
        known = some.known
        for lane, (first, end) in enumerate(zip(some.firsts.tolist(), some.ends.tolist(), strict=True)):
            begin = int(known[lane])
            value[first:end] = shown[begin : begin + end - first, lane]
            if begin:
                before[start + lane] = shown[begin - 1, lane]
    return value, before


def _floats(candles: Candles, name: str, rows: slice) -> Floats:
    if name == "volume":
        volumes: Floats = candles.volume[rows] / 10.0**candles.volume_decimals
        return volumes
    if name == "closed_ms":
        return (candles.time_ms[rows] + candles.timeframe.ms).astype(np.float64)
    return prices(candles, getattr(candles, name)[rows])


def _by_lane(make: Callable[..., Step], params: Sequence[Any], *inputs: Numbers) -> Floats:
    """Return what the live form makes of each lane; what has none of its own to compute whole columns."""
    shape = next(np.shape(each) for each in inputs if np.ndim(each))
    columns = [np.broadcast_to(np.asarray(each, dtype=np.float64), shape).reshape(shape[0], -1) for each in inputs]
    made = np.empty(columns[0].shape)
    for lane in range(made.shape[1]):
        step = make(*params)
        made[:, lane] = list(map(step, *(column[:, lane].tolist() for column in columns)))
    return made.reshape(shape)


def _shifted(numbers: Numbers, candles: int) -> Floats:
    shifted = np.empty(numbers.shape)
    shifted[:candles] = np.nan
    shifted[candles:] = numbers[: max(0, len(numbers) - candles)]
    return shifted


def _divided(a: Numbers, b: Numbers) -> Numbers:
    quotient = np.divide(a, b)
    zero = np.equal(b, 0)
    if np.any(zero):
        quotient[np.broadcast_to(zero, quotient.shape)] = np.nan
    return quotient


def _total(numbers: Numbers, window: int) -> Floats:
    level, whole = np.asarray(numbers, dtype=np.float64), np.empty(0)
    for width, ends in halves(window):
        if ends is not None:
            part = _shifted(level, ends) if ends else level
            whole = whole + part if ends else part
        if 2 * width <= window:
            level = level + _shifted(level, width)
    return whole


def _total_yet(numbers: Numbers, window: int) -> Floats:
    return _total(_led(numbers, window - 1, 0.0), window)[window - 1 :]


def _ramp(numbers: Numbers, window: int) -> Floats:
    level = slope = np.asarray(numbers, dtype=np.float64)
    whole = np.empty(0)
    for width, ends in halves(window):
        if ends is not None:
            part = slope + float(window - ends - width) * level
            whole = whole + _shifted(part, ends) if ends else part
        if 2 * width <= window:
            slope = (slope + float(width) * level) + _shifted(slope, width)
            level = level + _shifted(level, width)
    return whole


def _weighted(numbers: Numbers, *weights: float) -> Floats:
    whole = np.zeros(numbers.shape)
    for ago, weight in zip(range(len(weights) - 1, -1, -1), weights, strict=True):
        whole += weight * (_shifted(numbers, ago) if ago else numbers)
    return whole


def _extreme(of_two: Callable[[Any, Any], Any], numbers: Numbers, window: int) -> Floats:
    whole = np.full(numbers.shape, np.nan)
    if len(numbers) >= window:
        whole[window - 1 :] = most(of_two, numbers, window)
    return whole


def _highest_yet(numbers: Numbers, window: int) -> Floats:
    return _extreme(np.maximum, _led(numbers, window - 1, -np.inf), window)[window - 1 :]


def _led(numbers: Numbers, count: int, filler: float) -> Floats:
    return np.concatenate((np.full((count, *numbers.shape[1:]), filler), numbers))


def _oldest_highest(numbers: Numbers, window: int) -> Floats:
    whole = np.full(numbers.shape, np.nan)
    if len(numbers) >= window:
        windows = np.lib.stride_tricks.sliding_window_view(numbers, window, axis=0)
        whole[window - 1 :] = windows.argmax(axis=-1)
    return whole


def _spread(numbers: Numbers, middle: Numbers, window: int) -> Floats:
    whole = np.zeros(numbers.shape)
    for ago in range(window - 1, -1, -1):
        whole += np.abs((_shifted(numbers, ago) if ago else numbers) - middle)
    return whole


def _begin(*inputs: Numbers) -> int | None:
    """Return the row from which on all lanes are defined and none was before, if there is one and it pays."""
    numbers: NDArray[np.float64] = inputs[0]
    if numbers.ndim == 1 or numbers.shape[1] < LANES_FEW:
        return None
    undefined = np.isnan(numbers)
    first = int(np.argmin(undefined[:, 0]))
    if not undefined[:first].all() or undefined[first:].any():
        return None
    return first if not any(np.isnan(each[first + 1 :]).any() for each in inputs[1:]) else None


def _smooth(numbers: Numbers, alpha: float, window: int) -> Floats:
    first = _begin(numbers)
    if first is None:
        return _by_lane(STEPS["smooth"], (alpha, window), numbers)
    levels: Floats = alpha * numbers
    levels[first] = numbers[first]
    _accumulated(levels[first:], 1.0 - alpha)
    levels[: first + window - 1] = np.nan
    return levels


def _wilder(numbers: Numbers, window: int) -> Floats:
    first = _begin(numbers)
    if first is None or first + window > len(numbers):
        return _by_lane(STEPS["wilder"], (window,), numbers)
    alpha = 1.0 / window
    levels: Floats = alpha * numbers
    seed = first + window - 1
    levels[seed] = numbers[first : seed + 1].cumsum(axis=0)[-1] / window
    _accumulated(levels[seed:], 1.0 - alpha)
    levels[:seed] = np.nan
    return levels


def _accumulated(levels: Floats, keep: float) -> None:
    """Add to each row what is kept of the one before."""
    step = np.empty_like(levels[0])
    level = levels[0]
    for added in levels[1:]:
        np.multiply(level, keep, out=step)
        np.add(step, added, out=added)
        level = added


def _follow(numbers: Numbers, shares: Numbers) -> Floats:
    numbers = np.asarray(numbers, dtype=np.float64)
    shares = np.broadcast_to(shares, numbers.shape)
    first = _begin(numbers, shares)
    if first is None:
        return _by_lane(STEPS["follow"], (), numbers, shares)
    levels: Floats = numbers.copy()
    step, level = np.empty_like(levels[0]), levels[first]
    for number, share in zip(levels[first + 1 :], shares[first + 1 :], strict=True):
        np.subtract(number, level, out=step)
        np.multiply(share, step, out=step)
        np.add(level, step, out=number)
        level = number
    return levels


def _rooted(numbers: Floats) -> Floats:
    return np.sqrt(np.maximum(numbers, 0.0))


def _defined(numbers: Floats) -> NDArray[np.bool_]:
    return ~np.isnan(numbers)


def _otherwise(numbers: Floats, other: Numbers) -> Floats:
    return np.where(np.isnan(numbers), other, numbers)


def _running(numbers: Numbers) -> Numbers:
    return np.cumsum(np.where(np.isnan(numbers), 0.0, numbers), axis=0)


def _fold(*inputs_and_params: Numbers) -> Floats:
    place = next(place for place, each in enumerate(inputs_and_params) if isinstance(each, str))
    return _by_lane(STEPS["fold"], inputs_and_params[place:], *inputs_and_params[:place])


OPERATIONS: Final[Mapping[str, Callable[..., Numbers]]] = MappingProxyType(
    {
        "add": np.add,
        "subtract": np.subtract,
        "multiply": np.multiply,
        "divide": _divided,
        "above": np.greater,
        "at_least": np.greater_equal,
        "larger": np.maximum,
        "smaller": np.minimum,
        "absolute": np.abs,
        "root": _rooted,
        "where": np.where,
        "defined": _defined,
        "otherwise": _otherwise,
        "shift": _shifted,
        "total": _total,
        "total_yet": _total_yet,
        "ramp": _ramp,
        "weighted": _weighted,
        "highest": partial(_extreme, np.maximum),
        "lowest": partial(_extreme, np.minimum),
        "highest_yet": _highest_yet,
        "oldest_highest": _oldest_highest,
        "spread": _spread,
        "smooth": _smooth,
        "wilder": _wilder,
        "running": _running,
        "product": partial(np.cumprod, axis=0),
        "follow": _follow,
        "fold": _fold,
    }
)
