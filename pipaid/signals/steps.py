"""The live form of lines: each is a step that takes the newest numbers it is made of and returns its own."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import inf, nan, sqrt
from types import MappingProxyType
from typing import Any, Final

from pipaid.signals.indicator import Sample
from pipaid.signals.line import SOURCES, Line, in_order, reach
from pipaid.signals.machines import MACHINES
from pipaid.signals.window import WindowMoments, WindowTop

Step = Callable[..., float]
_CLOSE: Final = SOURCES.index("close")


class Formula:
    """An indicator that is a line; of a window, it is undefined while there are fewer candles than that."""

    __slots__ = ("_cells", "_result", "_steps", "_young", "previous", "value")

    def __init__(self, line: Line) -> None:
        self.value: float | None = None
        self.previous: float | None = None
        ordered, places, young = _planned(line)
        self._young = young
        self._result = places[line]
        self._cells = cells = [nan] * (max(places.values()) + 1)
        self._steps: list[Callable[[], None]] = []
        for each in ordered:
            if each.operation == "number":
                cells[places[each]] = float(each.params[0])
            elif each.operation not in SOURCES:
                inputs = [places[side] for side in each.inputs]
                step = STEPS[each.operation](*each.params)
                self._steps.append(_BOUND[len(inputs)](cells, places[each], step, *inputs))

    def update(self, sample: Sample) -> None:
        """Take the next closed candle."""
        self.previous = self.value
        cells = self._cells
        cells[0], cells[1], cells[2] = sample.open, sample.high, sample.low
        cells[3], cells[4], cells[5] = sample.close, sample.volume, sample.close_time_ms
        for step in self._steps:
            step()
        if self._young:
            self._young -= 1
            return
        value = float(cells[self._result])
        self.value = value if value == value else None


@lru_cache(maxsize=4_096)
def _planned(line: Line) -> tuple[list[Line], dict[Line, int], int]:
    """Return what a line is made of, in order, the place of each, and how many candles it is too young at first."""
    ordered = in_order(line)
    places = {each: SOURCES.index(each.operation) for each in ordered if each.operation in SOURCES}
    free = len(SOURCES)
    for each in ordered:
        if each not in places:
            places[each] = free
            free += 1
    return ordered, places, (reach(line) or 1) - 1


def _bound_none(cells: list[float], place: int, step: Step) -> Callable[[], None]:
    # Some look at the candle itself.
    def take() -> None:
        cells[place] = step(cells)

    return take


def _bound_one(cells: list[float], place: int, step: Step, a: int) -> Callable[[], None]:
    def take() -> None:
        cells[place] = step(cells[a])

    return take


def _bound_two(cells: list[float], place: int, step: Step, *inputs: int) -> Callable[[], None]:
    a, b = inputs

    def take() -> None:
        cells[place] = step(cells[a], cells[b])

    return take


def _bound_three(cells: list[float], place: int, step: Step, *inputs: int) -> Callable[[], None]:
    a, b, c = inputs

    def take() -> None:
        cells[place] = step(cells[a], cells[b], cells[c])

    return take


_BOUND: Final[tuple[Callable[..., Callable[[], None]], ...]] = (_bound_none, _bound_one, _bound_two, _bound_three)


def _always(step: Callable[..., Any]) -> Callable[[], Step]:
    """Return what makes a step that remembers nothing."""
    return lambda: step


def _divided(a: float, b: float) -> float:
    return a / b if b else nan


def _larger(a: float, b: float) -> float:
    return a if a >= b or a != a else b


def _smaller(a: float, b: float) -> float:
    return a if a <= b or a != a else b


def _rooted(a: float) -> float:
    return sqrt(a) if a > 0.0 else 0.0 * a


def _where(truth: float, then: float, other: float) -> float:
    return then if truth else other


def _defined(a: float) -> float:
    return a == a


def _otherwise(a: float, b: float) -> float:
    return a if a == a else b


def _age() -> Step:
    age = 0.0

    def step(cells: list[float]) -> float:
        nonlocal age
        age += 1.0
        return age

    return step


def _shift(candles: int) -> Step:
    if candles > 1:
        kept = deque([nan] * (candles + 1), candles + 1)

        def step(number: float) -> float:
            kept.append(number)
            return kept[0]

        return step
    last = nan

    def step_one(number: float) -> float:
        nonlocal last
        before, last = last, number
        return before

    return step_one


def halves(window: int) -> list[tuple[int, int | None]]:
    """Return the widths whose sums make up that of a window, each with how long ago its part of the window ends.

    A sum of twice a width is that of the newer half and that of the older one, so that the same numbers are always
    added in the same order, whatever came before them. Those that are only halves of others end nowhere.
    """
    plan: list[tuple[int, int | None]] = []
    width, covered = 1, 0
    while width <= window:
        if window & width:
            plan.append((width, covered))
            covered += width
        else:
            plan.append((width, None))
        width *= 2
    return plan


def _total(window: int, empty: float = nan) -> Step:
    plan = [(width, ends, deque([empty] * (width + 1), width + 1)) for width, ends in halves(window)]

    def step(number: float) -> float:
        whole: float | None = None
        for width, ends, kept in plan:
            kept.append(number)
            if ends is not None:
                part = kept[width - ends]
                whole = part if whole is None else whole + part
            number = number + kept[0]
        assert whole is not None
        return whole

    return step


def _total_yet(window: int) -> Step:
    return _total(window, 0.0)


def _ramp(window: int) -> Step:
    plan = [
        (width, ends, deque([nan] * (width + 1), width + 1), deque([nan] * (width + 1), width + 1))
        for width, ends in halves(window)
    ]

    def step(number: float) -> float:
        whole: float | None = None
        slope = number
        for width, ends, sums, slopes in plan:
            sums.append(number)
            slopes.append(slope)
            if ends is not None:
                part = slopes[width - ends] + (window - ends - width) * sums[width - ends]
                whole = part if whole is None else whole + part
            slope = (slope + width * number) + slopes[0]
            number = number + sums[0]
        assert whole is not None
        return whole

    return step


def _weighted(*weights: float) -> Step:
    kept = deque([nan] * len(weights), len(weights))

    def step(number: float) -> float:
        kept.append(number)
        whole = 0.0
        for weight, each in zip(weights, kept, strict=True):
            whole += weight * each
        return whole

    return step


def _highest(window: int) -> Step:
    top, known = WindowTop(window), 0

    def step(number: float) -> float:
        nonlocal known
        known = known + 1 if number == number else 0
        largest = top.push(number)
        return nan if known < window or largest is None else largest

    return step


def _lowest(window: int) -> Step:
    highest = _highest(window)

    def step(number: float) -> float:
        return -highest(-number)

    return step


def _highest_yet(window: int) -> Step:
    top = WindowTop(window)
    for _ in range(window - 1):
        top.push(-inf)

    def step(number: float) -> float:
        largest = top.push(number)
        assert largest is not None
        return largest

    return step


def _oldest_highest(window: int) -> Step:
    kept = deque([nan] * window, window)

    def step(number: float) -> float:
        kept.append(number)
        return float(kept.index(max(kept))) if kept[0] == kept[0] else nan

    return step


def _spread(window: int) -> Step:
    kept = deque([nan] * window, window)

    def step(number: float, middle: float) -> float:
        kept.append(number)
        whole = 0.0
        for each in kept:
            whole += abs(each - middle)
        return whole

    return step


def _close_mean(window: int) -> Step:
    moments = WindowMoments(window)

    def step(cells: list[float]) -> float:
        return moments.mean if moments.push(cells[_CLOSE]) else nan

    return step


def _close_deviation(window: int) -> Step:
    moments = WindowMoments(window)

    def step(cells: list[float]) -> float:
        return sqrt(moments.variance) if moments.push(cells[_CLOSE]) else nan

    return step


def _smooth(alpha: float, window: int) -> Step:
    keep, level, count = 1.0 - alpha, nan, 0

    def step(number: float) -> float:
        nonlocal level, count
        if number == number:
            level = keep * level + alpha * number if count else number
            count += 1
        return level if count >= window else nan

    return step


def _wilder(window: int) -> Step:
    alpha = 1.0 / window
    keep, level, count = 1.0 - alpha, 0.0, 0

    def step(number: float) -> float:
        nonlocal level, count
        if number == number:
            count += 1
            if count > window:
                level = keep * level + alpha * number
            else:
                level += number
                if count == window:
                    level /= window
        return level if count >= window else nan

    return step


def _running() -> Step:
    level = 0.0

    def step(number: float) -> float:
        nonlocal level
        if number == number:
            level += number
        return level

    return step


def _product() -> Step:
    level = 1.0

    def step(number: float) -> float:
        nonlocal level
        level *= number
        return level

    return step


def _follow() -> Step:
    level = nan

    def step(number: float, share: float) -> float:
        nonlocal level
        if level != level:
            level = number
        elif number == number and share == share:
            level += share * (number - level)
        return level

    return step


def _fold(machine: str, *params: float) -> Step:
    return MACHINES[machine](*params)


STEPS: Final[Mapping[str, Callable[..., Step]]] = MappingProxyType(
    {
        "age": _age,
        "add": _always(operator.add),
        "subtract": _always(operator.sub),
        "multiply": _always(operator.mul),
        "divide": _always(_divided),
        "above": _always(operator.gt),
        "at_least": _always(operator.ge),
        "larger": _always(_larger),
        "smaller": _always(_smaller),
        "absolute": _always(abs),
        "root": _always(_rooted),
        "where": _always(_where),
        "defined": _always(_defined),
        "otherwise": _always(_otherwise),
        "shift": _shift,
        "total": _total,
        "total_yet": _total_yet,
        "ramp": _ramp,
        "weighted": _weighted,
        "highest": _highest,
        "lowest": _lowest,
        "highest_yet": _highest_yet,
        "oldest_highest": _oldest_highest,
        "spread": _spread,
        "close_mean": _close_mean,
        "close_deviation": _close_deviation,
        "smooth": _smooth,
        "wilder": _wilder,
        "running": _running,
        "product": _product,
        "follow": _follow,
        "fold": _fold,
    }
)
