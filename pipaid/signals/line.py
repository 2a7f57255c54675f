"""Lines: numbers along candles, written once as formulas and worked out candle by candle or over whole columns."""

from __future__ import annotations

from math import exp
from typing import Final

import msgspec

SOURCES: Final = ("open", "high", "low", "close", "volume", "closed_ms")
# What tells more about a candle than the last few do: since when its anchor is, or all that came since then.
ENDLESS: Final = frozenset(
    {
        "age",
        "otherwise",
        "smooth",
        "wilder",
        "running",
        "product",
        "follow",
        "fold",
        "highest_yet",
        "total_yet",
    }
)
WINDOWED: Final = frozenset(
    {
        "total",
        "close_mean",
        "close_deviation",
        "highest",
        "lowest",
        "ramp",
        "oldest_highest",
    }
)


class Line(msgspec.Struct, frozen=True, cache_hash=True):
    """An operation on lines before it; not a number where it is undefined.

    What compares is 1 where it is true and 0 where it is not or where a side is undefined; `&`, `|` and `~` join such.
    """

    operation: str
    inputs: tuple[Line, ...] = ()
    params: tuple[float | str, ...] = ()

    def __add__(self, other: Line | float) -> Line:
        return Line("add", (self, _line(other)))

    def __radd__(self, other: float) -> Line:
        return Line("add", (_line(other), self))

    def __sub__(self, other: Line | float) -> Line:
        return Line("subtract", (self, _line(other)))

    def __rsub__(self, other: float) -> Line:
        return Line("subtract", (_line(other), self))

    def __mul__(self, other: Line | float) -> Line:
        return Line("multiply", (self, _line(other)))

    def __rmul__(self, other: float) -> Line:
        return Line("multiply", (_line(other), self))

    def __truediv__(self, other: Line | float) -> Line:
        """Divide; undefined where the divisor is zero."""
        return Line("divide", (self, _line(other)))

    def __gt__(self, other: Line | float) -> Line:
        return Line("above", (self, _line(other)))

    def __ge__(self, other: Line | float) -> Line:
        return Line("at_least", (self, _line(other)))

    def __lt__(self, other: Line | float) -> Line:
        return Line("above", (_line(other), self))

    def __le__(self, other: Line | float) -> Line:
        return Line("at_least", (_line(other), self))

    def __and__(self, other: Line) -> Line:
        return Line("multiply", (self, other))

    def __or__(self, other: Line) -> Line:
        return Line("larger", (self, other))

    def __invert__(self) -> Line:
        return Line("subtract", (number(1.0), self))

    def __abs__(self) -> Line:
        return Line("absolute", (self,))

    def __getitem__(self, candles: int) -> Line:
        """Return the line so many candles ago, as a number from zero down."""
        assert candles <= 0, "there is no looking ahead"
        return Line("shift", (self,), (-candles,)) if candles else self


def _line(side: Line | float) -> Line:
    return side if isinstance(side, Line) else number(side)


def number(value: float) -> Line:
    """Return a line that is the same everywhere."""
    return Line("number", (), (float(value),))


OPEN, HIGH, LOW, CLOSE, VOLUME, CLOSED_MS = (Line(name) for name in SOURCES)
# How many candles there are since the anchor, this one included.
AGE: Final = Line("age")
NOTHING: Final = number(float("nan"))


def larger(a: Line, b: Line | float) -> Line:
    """Return the larger of two lines."""
    return Line("larger", (a, _line(b)))


def smaller(a: Line, b: Line | float) -> Line:
    """Return the smaller of two lines."""
    return Line("smaller", (a, _line(b)))


def root(line: Line) -> Line:
    """Return the square root, zero of what is below zero by rounding."""
    return Line("root", (line,))


def where(truth: Line, then: Line | float, other: Line | float) -> Line:
    """Return the one line where something is true, and the other where it is not."""
    return Line("where", (truth, _line(then), _line(other)))


def defined(line: Line) -> Line:
    """Tell where a line is defined."""
    return Line("defined", (line,))


def otherwise(line: Line, other: Line) -> Line:
    """Return a line, and another one where that is undefined."""
    return Line("otherwise", (line, other))


def change(line: Line) -> Line:
    """Return by how much a line differs from one candle ago."""
    return line - line[-1]


def total(line: Line, window: int) -> Line:
    """Return the sum over a window."""
    return Line("total", (line,), (window,)) if window > 1 else line


def mean(line: Line, window: int) -> Line:
    """Return the mean over a window; that of closes is the float nearest to the exact one."""
    if line == CLOSE:
        return Line("close_mean", (), (window,))
    return total(line, window) / float(window)


def mean_yet(line: Line, window: int) -> Line:
    """Return the mean over a window, at the start over as many candles as there are."""
    return Line("total_yet", (line,), (window,)) / smaller(AGE, float(window))


def deviation(window: int) -> Line:
    """Return the standard deviation of the closes over a window, divisor n."""
    return Line("close_deviation", (), (window,))


def steady(line: Line, of: Line, window: int) -> Line:
    """Return what an average is, and where the window is flat just that, without the rounding of sums."""
    flat = (highest(of, window) <= lowest(of, window)) & defined(line)
    return where(flat, of, line)


def spread(line: Line, middle: Line, window: int) -> Line:
    """Return the sum of the distances of a window's numbers from the newest middle."""
    return Line("spread", (line, middle), (window,))


def highest(line: Line, window: int) -> Line:
    """Return the largest over a window."""
    return Line("highest", (line,), (window,)) if window > 1 else line


def highest_yet(line: Line, window: int) -> Line:
    """Return the largest over a window, at the start over as many candles as there are."""
    return Line("highest_yet", (line,), (window,))


def lowest(line: Line, window: int) -> Line:
    """Return the smallest over a window."""
    return Line("lowest", (line,), (window,)) if window > 1 else line


def ramp(line: Line, window: int) -> Line:
    """Return the sum over a window with the weights 1 to n, the newest with n."""
    return Line("ramp", (line,), (window,)) if window > 1 else line


def weighted(line: Line, weights: tuple[float, ...]) -> Line:
    """Return the sum over as many candles as there are weights, the oldest with the first."""
    return Line("weighted", (line,), weights)


def bell(window: int, offset: float, sigma: float) -> tuple[float, ...]:
    """Return weights of a normal curve over a window that add up to one."""
    middle, width = int(offset * (window - 1)), window / sigma
    weights = [exp(-((place - middle) ** 2) / (2.0 * width * width)) for place in range(window)]
    whole = sum(weights)
    return tuple(weight / whole for weight in weights)


def oldest_highest(line: Line, window: int) -> Line:
    """Return where in a window the largest is, 0 for the oldest candle; of equal ones the oldest counts."""
    return Line("oldest_highest", (line,), (window,))


def ema(line: Line, window: int) -> Line:
    """Return the exponential average: seeded with the first number, shown from the n-th on, still where undefined."""
    return Line("smooth", (line,), (2.0 / (window + 1), window))


def rma(line: Line, window: int) -> Line:
    """Return Wilder's smoothing with the seed of an exponential average."""
    return Line("smooth", (line,), (1.0 / window, window))


def wilder(line: Line, window: int) -> Line:
    """Return Wilder's smoothing, seeded with the mean of the first `window` numbers."""
    return Line("wilder", (line,), (window,))


def running(line: Line) -> Line:
    """Return the sum of all since the anchor; what is undefined adds nothing."""
    return Line("running", (line,))


def product(line: Line) -> Line:
    """Return the product of all since the anchor."""
    return Line("product", (line,))


def follow(line: Line, share: Line) -> Line:
    """Return what goes a share of the way to a line at each candle, from the line's first number on."""
    return Line("follow", (line, share))


def fold(machine: str, *inputs: Line, params: tuple[float, ...] = ()) -> Line:
    """Return what a state machine shows as it goes from candle to candle (`pipaid.signals.machines`)."""
    return Line("fold", inputs, (machine, *params))


def reach(line: Line) -> int | None:
    """Return of how many candles a value is made, or nothing if what came before them counts as well."""
    return _reach(line, {})


def _reach(line: Line, known: dict[Line, int | None]) -> int | None:
    if line in known:
        return known[line]
    reaches = [_reach(each, known) for each in line.inputs]
    if line.operation in ENDLESS or None in reaches:
        known[line] = None
        return None
    longest = max((each for each in reaches if each is not None), default=1)
    if line.operation == "spread":
        # Of the middle, only the newest counts.
        longest = max(longest, (reaches[0] or 0) + int(line.params[0]) - 1)
    elif line.operation == "shift":
        longest += int(line.params[0])
    elif line.operation == "weighted":
        longest += len(line.params) - 1
    elif line.operation in WINDOWED:
        longest += int(line.params[0]) - 1
    known[line] = longest
    return longest


def in_order(line: Line) -> list[Line]:
    """Return a line and all it is made of, each once and after what it is made of itself."""
    ordered: dict[Line, None] = {}
    _collect(line, ordered)
    return list(ordered)


def _collect(line: Line, ordered: dict[Line, None]) -> None:
    if line in ordered:
        return
    for each in line.inputs:
        _collect(each, ordered)
    ordered[line] = None
