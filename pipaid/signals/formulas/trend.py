"""Averages, and what tells a trend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from pipaid.signals.formulas.shared import macd
from pipaid.signals.line import Line, ema


def macd_histogram(window_fast: int, window_slow: int, window_sign: int) -> Line:
    """Return how far MACD lies above its signal line."""
    line = macd(window_fast, window_slow)
    return line - ema(line, window_sign)


LINES: Final[Mapping[str, Callable[..., Line]]] = MappingProxyType({"macd_histogram": macd_histogram})
