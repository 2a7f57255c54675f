"""State machines that go from candle to candle; one form of each serves live and, lane by lane, whole columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import nan
from types import MappingProxyType
from typing import Final


def _held() -> Callable[[float], float]:
    """Keep the last number where there is none."""
    last = nan

    def step(number: float) -> float:
        nonlocal last
        if number == number:
            last = number
        return last

    return step


MACHINES: Final[Mapping[str, Callable[..., Callable[..., float]]]] = MappingProxyType({"held": _held})
