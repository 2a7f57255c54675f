"""Signals of volatility: how far prices move, and where they leave their channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipaid.signals.catalogue.declare import Signal, SignalType, signals

TRIGGERS: Final[Mapping[str, Signal]] = signals(
    "volatility",
    SignalType.TRIGGER,
    (
        "bb_upper_breakout(window=20[5..100], window_dev=2[1..5])",
        "close cross_above bb_upper(window, window_dev)",
        "The close rises through the upper Bollinger band.",
    ),
    (
        "bb_lower_breakout(window=20[5..100], window_dev=2[1..5])",
        "close cross_below bb_lower(window, window_dev)",
        "The close falls through the lower Bollinger band.",
    ),
    (
        "bb_squeeze(window=20[5..100], window_dev=2[1..5], threshold=5[1..20])",
        "bb_width(window, window_dev) cross_below threshold",
        "The Bollinger bands come closer than `threshold` percent of their middle.",
    ),
    (
        "kc_upper_breakout(window=20[10..50], window_atr=10[5..30], multiplier=2[0.5..5], original_version=False)",
        "close cross_above kc_upper(window, window_atr, multiplier, original_version)",
        "The close rises through the upper line of the Keltner channel.",
    ),
    (
        "kc_lower_breakout(window=20[10..50], window_atr=10[5..30], multiplier=2[0.5..5], original_version=False)",
        "close cross_below kc_lower(window, window_atr, multiplier, original_version)",
        "The close falls through the lower line of the Keltner channel.",
    ),
    (
        "dc_upper_breakout(window=20[5..100])",
        "close cross_above channel_high(window)",
        "The close rises through the Donchian channel: the highest high of the candles before.",
    ),
    (
        "dc_lower_breakout(window=20[5..100])",
        "close cross_below channel_low(window)",
        "The close falls through the Donchian channel: the lowest low of the candles before.",
    ),
    (
        "atr_trailing_stop_flip_up(window=14[5..100], multiplier=3[0.5..10])",
        "trailing_stop(window, multiplier) cross_above 0",
        "The trailing stop turns from short to long: the close rose through it.",
    ),
    (
        "atr_trailing_stop_flip_down(window=14[5..100], multiplier=3[0.5..10])",
        "trailing_stop(window, multiplier) cross_below 0",
        "The trailing stop turns from long to short: the close fell through it.",
    ),
)
FILTERS: Final[Mapping[str, Signal]] = signals(
    "volatility",
    SignalType.FILTER,
    (
        "atr_high_volatility(window=14[5..50], threshold_pct=3[0.5..10])",
        "natr(window) above threshold_pct",
        "The average true range is more than `threshold_pct` percent of the close.",
    ),
    (
        "ulcer_high_risk(window=14[5..50], threshold=10[5..30])",
        "ulcer(window) above threshold",
        "The ulcer index is high: the close was deep below its highest, or long.",
    ),
    (
        "ulcer_low_risk(window=14[5..50], threshold=5[1..15])",
        "ulcer(window) below threshold",
        "The ulcer index is low: the close was never far or long below its highest.",
    ),
    (
        "natr_high_volatility(window=14[5..100], threshold=2[0.5..20])",
        "natr(window) above threshold",
        "The average true range is more than `threshold` percent of the close.",
    ),
    (
        "natr_low_volatility(window=14[5..100], threshold=1[0.1..5])",
        "natr(window) below threshold",
        "The average true range is less than `threshold` percent of the close.",
    ),
    (
        "atr_trailing_stop_long(window=14[5..100], multiplier=3[0.5..10])",
        "trailing_stop(window, multiplier) above 0",
        "The trailing stop lies below the close: long.",
    ),
    (
        "atr_trailing_stop_short(window=14[5..100], multiplier=3[0.5..10])",
        "trailing_stop(window, multiplier) below 0",
        "The trailing stop lies above the close: short.",
    ),
    (
        "starc_upper_breakout(window=20[5..100], window_atr=15[5..100], multiplier=2[0.5..5])",
        "close above starc_upper(window, window_atr, multiplier)",
        "The close lies above the upper STARC band (a state, despite the name).",
    ),
    (
        "starc_lower_breakout(window=20[5..100], window_atr=15[5..100], multiplier=2[0.5..5])",
        "close below starc_lower(window, window_atr, multiplier)",
        "The close lies below the lower STARC band (a state, despite the name).",
    ),
    (
        "volatility_stop_upper(window=20[5..100], multiplier=2[0.5..5])",
        "return_above(window, multiplier) at_least 0",
        "The last return is a rise of at least so many standard deviations of the window's returns.",
    ),
    (
        "volatility_stop_lower(window=20[5..100], multiplier=2[0.5..5])",
        "return_below(window, multiplier) at_most 0",
        "The last return is a fall of at least so many standard deviations of the window's returns.",
    ),
)
