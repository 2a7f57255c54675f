"""Signals of trend: where prices are heading, and where that turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipaid.signals.catalogue.declare import Signal, SignalType, signals

TRIGGERS: Final[Mapping[str, Signal]] = signals(
    "trend",
    SignalType.TRIGGER,
    (
        "sma_crossover(window_fast![1..200], window_slow![1..200], direction=bullish)",
        "sma(window_fast) cross sma(window_slow)",
        "The fast simple average crosses the slow one, upwards if bullish.",
    ),
    (
        "sma_cross_up(window_fast![1..200], window_slow![1..200])",
        "sma(window_fast) cross_above sma(window_slow)",
        "The fast simple average rises through the slow one.",
    ),
    (
        "sma_cross_down(window_fast![1..200], window_slow![1..200])",
        "sma(window_fast) cross_below sma(window_slow)",
        "The fast simple average falls through the slow one.",
    ),
    (
        "macd_bullish_cross(window_fast=12[2..50], window_slow=26[10..100], window_sign=9[2..50])",
        "macd_histogram(window_fast, window_slow, window_sign) cross_above 0",
        "MACD rises through its signal line.",
    ),
    (
        "macd_bearish_cross(window_fast=12[2..50], window_slow=26[10..100], window_sign=9[2..50])",
        "macd_histogram(window_fast, window_slow, window_sign) cross_below 0",
        "MACD falls through its signal line.",
    ),
    (
        "ema_cross_up(window_fast=9[2..100], window_slow=21[5..200])",
        "ema(window_fast) cross_above ema(window_slow)",
        "The fast exponential average rises through the slow one.",
    ),
    (
        "ema_cross_down(window_fast=9[2..100], window_slow=21[5..200])",
        "ema(window_fast) cross_below ema(window_slow)",
        "The fast exponential average falls through the slow one.",
    ),
    (
        "ema_crossover(window_fast![1..200], window_slow![1..200], direction=bullish)",
        "ema(window_fast) cross ema(window_slow)",
        "The fast exponential average crosses the slow one, upwards if bullish.",
    ),
)
FILTERS: Final[Mapping[str, Signal]] = signals(
    "trend",
    SignalType.FILTER,
    (
        "is_above_sma(window![1..200])",
        "close above sma(window)",
        "The close lies above its simple average.",
    ),
    (
        "macd_positive(window_fast=12[2..50], window_slow=26[10..100], window_sign=9[2..50])",
        "macd_histogram(window_fast, window_slow, window_sign) above 0",
        "MACD lies above its signal line.",
    ),
    (
        "price_above_ema(window=20[2..200])",
        "close above ema(window)",
        "The close lies above its exponential average.",
    ),
)
