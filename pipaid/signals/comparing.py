"""How two readings compare: at a candle, and with what they were one candle before."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Final, Protocol


class Reading(Protocol):
    """A feature as of a candle: its value there and one candle before, nothing while it warms up."""

    @property
    def value(self) -> float | None:
        """Return the value at the candle."""
        ...

    @property
    def previous(self) -> float | None:
        """Return the value one candle earlier."""
        ...


COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    "above": operator.gt,
    "below": operator.lt,
    "at_least": operator.ge,
    "at_most": operator.le,
}


def held_before(kind: str, left: Reading, right: Reading) -> bool:
    """Tell whether a comparison held one candle before."""
    a, b = left.previous, right.previous
    return a is not None and b is not None and COMPARISONS[kind](a, b)


def _above(left: Reading, right: Reading) -> bool:
    a, b = left.value, right.value
    return a is not None and b is not None and a > b


def _below(left: Reading, right: Reading) -> bool:
    a, b = left.value, right.value
    return a is not None and b is not None and a < b


def _at_least(left: Reading, right: Reading) -> bool:
    a, b = left.value, right.value
    return a is not None and b is not None and a >= b


def _at_most(left: Reading, right: Reading) -> bool:
    a, b = left.value, right.value
    return a is not None and b is not None and a <= b


def _cross_above(left: Reading, right: Reading) -> bool:
    if not _above(left, right):
        return False
    a, b = left.previous, right.previous
    return a is not None and b is not None and a <= b


def _cross_below(left: Reading, right: Reading) -> bool:
    if not _below(left, right):
        return False
    a, b = left.previous, right.previous
    return a is not None and b is not None and a >= b


def _changes(left: Reading, right: Reading) -> bool:
    now, before = left.value, left.previous
    return now is not None and before is not None and now != before


def _every(left: Reading, right: Reading) -> bool:
    return left.value is not None


RULES: Final[dict[str, Callable[[Reading, Reading], bool]]] = {
    "above": _above,
    "below": _below,
    "at_least": _at_least,
    "at_most": _at_most,
    "cross_above": _cross_above,
    "cross_below": _cross_below,
    "changes": _changes,
    "every": _every,
}
