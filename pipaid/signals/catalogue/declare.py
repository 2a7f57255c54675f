"""How a signal is declared: one line for its name and params, one for its condition, one in plain words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Final, Literal

import msgspec
from attrs import field, frozen

from pipaid.model.instrument import Timeframe
from pipaid.signals.series import Condition, ConditionKind, Feature

Value = int | float | bool | str | tuple[int, ...]
KnobKind = Literal["whole", "number", "flag", "direction", "windows", "timeframe"]

BULLISH: Final = "bullish"
BEARISH: Final = "bearish"
# The one thing that a condition may need beside the params: the price from which returns add up.
ANCHOR: Final = "anchor"
WINDOWS_MAX: Final = 20
_DECLARED: Final = re.compile(r"(\w+)\((.*)\)")
_KNOB: Final = re.compile(r"(\w+)(!|=(\([\d, ]+\)|[^\[,]+))?(?:\[(-?[\d.]+)\.\.(-?[\d.]+)\])?(?:, |$)")
_CONDITION: Final = re.compile(r"(\S+?(?:\(.*?\))?) (\w+) (\S+?(?:\(.*?\))?)")
_SIDE: Final = re.compile(r"(-?)([\w.]+)(?:\((.*)\))?")
# What is counted in candles, or is otherwise whole.
_WHOLE: Final = re.compile(
    r"window\w*|\w+_window|roc\d|nsig|cycle|smooth\d|pow\d|jaw|teeth|lips|\w+_offset|fast|slow|min_swing_distance"
)
# A condition of a signal that has a direction is one of two.
_DIRECTED: Final[Mapping[str, Mapping[str, ConditionKind]]] = {
    "cross": {BULLISH: "cross_above", BEARISH: "cross_below"},
    "leans": {BULLISH: "above", BEARISH: "below"},
}


class Period(msgspec.Struct, frozen=True):
    """A longer period that a signal looks at, when it begins after the epoch, and whose candles it is made of."""

    ms: int
    offset_ms: int
    made_of: Timeframe


# A week is made of days, as it begins on a Monday and the epoch was a Thursday.
PERIODS: Final[Mapping[str, Period]] = {
    **{timeframe.value: Period(timeframe.ms, 0, timeframe) for timeframe in Timeframe},
    "1w": Period(7 * Timeframe.D1.ms, 4 * Timeframe.D1.ms, Timeframe.D1),
}


def spelled(told: str) -> str | None:
    """Return the name of a period as told here or elsewhere: 15min, 1H, 1D; nothing if there is no such."""
    name = told.removesuffix("in").lower() if told.endswith("min") else told.lower()
    return None if name not in PERIODS or told == "1M" else name


class SignalType(StrEnum):
    """What a signal tells: that something happens at a candle, or that something is so."""

    TRIGGER = "TRIGGER"
    FILTER = "FILTER"


class Knob(msgspec.Struct, frozen=True, kw_only=True):
    """One param of a signal: what it takes, its inclusive bounds, and its default unless it must be given."""

    name: str
    kind: KnobKind
    low: float | None = None
    high: float | None = None
    default: Value | None = None

    @property
    def required(self) -> bool:
        """Tell whether there is no default."""
        return self.default is None

    def written(self) -> str:
        """Return the default as a person would write it, or that it must be given."""
        if self.default is None:
            return "required"
        if isinstance(self.default, tuple):
            return ", ".join(map(str, self.default))
        return str(self.default).lower() if isinstance(self.default, bool | str) else f"{self.default:g}"

    def encloses(self, number: float | Decimal) -> bool:
        """Tell whether a number lies within the bounds."""
        return (self.low is None or number >= self.low) and (self.high is None or number <= self.high)

    def allowed(self) -> str:
        """Say what it takes."""
        match self.kind:
            case "flag":
                return "true or false"
            case "direction":
                return f"{BULLISH} or {BEARISH}"
            case "timeframe":
                return f"one of {', '.join(PERIODS)}"
            case "windows":
                return f"2 to {WINDOWS_MAX} whole numbers from {self.low:g} to {self.high:g}, each above the last"
            case _:
                return f"a {'whole ' if self.kind == 'whole' else ''}number from {self.low:g} to {self.high:g}"


@frozen(eq=False, slots=False)
class Signal:
    """A named condition with params."""

    name: str
    group: str
    type: SignalType
    knobs: tuple[Knob, ...]
    says: str
    words: str
    _sides: tuple[str, str, str] = field(repr=False)

    @cached_property
    def knob(self) -> Mapping[str, Knob]:
        """Return the params by name."""
        return {knob.name: knob for knob in self.knobs}

    @property
    def anchored(self) -> bool:
        """Tell whether the condition needs the price from which returns add up."""
        return f"({ANCHOR})" in self.says

    def condition(self, values: Mapping[str, Value], *, anchor: float | None = None, edge: bool = False) -> Condition:
        """Return the condition for checked values of all params."""
        if anchor is not None:
            values = {**values, ANCHOR: anchor}
        left, kind, right = self._sides
        directed = _DIRECTED.get(kind)
        if directed is not None:
            kind = directed[str(values["direction"])]
        first = _side(left, values)
        assert isinstance(first, Feature), f"{self.name} compares no feature"
        return Condition(kind, first, _side(right, values), edge)  # type: ignore[arg-type]  # A test makes them all.


def signals(group: str, kind: SignalType, *rows: tuple[str, str, str]) -> dict[str, Signal]:
    """Return signals of a group by name, each declared by name and params, condition, and words."""
    declared = (_declared(group, kind, row) for row in rows)
    return {signal.name: signal for signal in declared}


def _declared(group: str, kind: SignalType, row: tuple[str, str, str]) -> Signal:
    head, says, words = row
    found, sides = _DECLARED.fullmatch(head), _CONDITION.fullmatch(says)
    assert found is not None, f"{head} declares no signal"
    assert sides is not None, f"{says} is no condition"
    name, inside = found.groups()
    knobs = tuple(_knob(match) for match in _KNOB.finditer(inside) if match.group())
    return Signal(name, group, kind, knobs, says, words, (sides[1], sides[2], sides[3]))


def _knob(match: re.Match[str]) -> Knob:
    name, told, default, low, high = match.groups()
    if default == "False" or default == "True":
        return Knob(name=name, kind="flag", default=default == "True")
    if name == "direction":
        return Knob(name=name, kind="direction", default=default)
    if name == "higher_tf":
        return Knob(name=name, kind="timeframe", default=default)
    bounds = (float(low), float(high))
    if name == "windows":
        windows = tuple(int(each) for each in default.strip("()").split(","))
        return Knob(name=name, kind="windows", low=bounds[0], high=bounds[1], default=windows)
    whole = _WHOLE.fullmatch(name) is not None
    number = None if told == "!" else int(default) if whole else float(default)
    return Knob(name=name, kind="whole" if whole else "number", low=bounds[0], high=bounds[1], default=number)


def _side(text: str, values: Mapping[str, Value]) -> Feature | float:
    match = _SIDE.fullmatch(text)
    assert match is not None, f"{text} is no side of a condition"
    minus, name, inside = match.groups()
    if inside is None and (name in values or not name[0].isalpha()):
        number = float(values.get(name, name))  # type: ignore[arg-type]  # Numbers by declaration.
        return -number if minus else number
    params: list[int | float] = []
    for word in inside.split(", ") if inside else ():
        value = values[word] if word in values else float(word)
        if isinstance(value, str):
            params += (PERIODS[value].ms, PERIODS[value].offset_ms)
        else:
            params += value if isinstance(value, tuple) else (_plain(value),)
    return Feature(name, tuple(params))


def _plain(value: Value) -> int | float:
    assert isinstance(value, int | float), f"{value!r} is no number"
    return int(value) if isinstance(value, bool) or value == int(value) else value
