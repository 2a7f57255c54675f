"""How many candles an indicator needs before it has a value."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from pipaid.signals.features import make_indicator
from pipaid.signals.indicator import WINDOW_MAX, Sample

# Whoever has so many needs no more: what is chained of several windows is ready by then, too.
ENOUGH: Final = 3 * WINDOW_MAX


@lru_cache(maxsize=4_096)
def candles_needed(name: str, params: tuple[int | float, ...]) -> int:
    """Return after how many candles a fresh indicator has a value; 0 if no number of them makes sure of one."""
    indicator = make_indicator(name, params)
    for number, sample in enumerate(_walk(), 1):
        indicator.update(sample)
        if indicator.value is not None:
            return number
    return 0


def _walk() -> Iterator[Sample]:
    """Yield candles that go up and down, so that nothing is divided by nothing."""
    before = 100.0
    for number in range(ENOUGH):
        close = 100.0 + (number * 7_919 % 97) / 10
        low, high = min(before, close) - 0.1, max(before, close) + 0.2
        yield Sample(before, high, low, close, 1.0 + number % 5, (number + 1) * 60_000)
        before = close
