"""Signals of volatility: how far prices move, and where they leave their channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipaid.signals.catalogue.declare import Signal, SignalType, signals

TRIGGERS: Final[Mapping[str, Signal]] = signals(
    "volatility",
    SignalType.TRIGGER,
    (
        "dc_upper_breakout(window=20[5..100])",
        "close cross_above channel_high(window)",
        "The close rises through the highest high of the candles before.",
    ),
    (
        "dc_lower_breakout(window=20[5..100])",
        "close cross_below channel_low(window)",
        "The close falls through the lowest low of the candles before.",
    ),
)
FILTERS: Final[Mapping[str, Signal]] = signals(
    "volatility",
    SignalType.FILTER,
    (
        "atr_high_volatility(window=14[5..50], threshold_pct=3[0.5..10])",
        "natr(window) above threshold_pct",
        "The average true range is large, in percent of the close.",
    ),
    (
        "natr_high_volatility(window=14[5..100], threshold=2[0.5..20])",
        "natr(window) above threshold",
        "The average true range is large, in percent of the close.",
    ),
    (
        "natr_low_volatility(window=14[5..100], threshold=1[0.1..5])",
        "natr(window) below threshold",
        "The average true range is small, in percent of the close.",
    ),
)
