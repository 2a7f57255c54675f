"""Signals of momentum: how fast and how far prices move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipaid.signals.catalogue.declare import Signal, SignalType, signals

TRIGGERS: Final[Mapping[str, Signal]] = signals(
    "momentum",
    SignalType.TRIGGER,
    (
        "rsi_cross_up(window=14[2..100], threshold=50[0..100])",
        "rsi(window) cross_above threshold",
        "The relative strength index rises through the threshold.",
    ),
    (
        "rsi_cross_down(window=14[2..100], threshold=50[0..100])",
        "rsi(window) cross_below threshold",
        "The relative strength index falls through the threshold.",
    ),
)
FILTERS: Final[Mapping[str, Signal]] = signals(
    "momentum",
    SignalType.FILTER,
    (
        "rsi_overbought(window=14[2..100], threshold=70[50..100])",
        "rsi(window) above threshold",
        "The relative strength index is high: prices rose fast.",
    ),
    (
        "rsi_oversold(window=14[2..100], threshold=30[0..50])",
        "rsi(window) below threshold",
        "The relative strength index is low: prices fell fast.",
    ),
)
