"""Signals of volume: what the volume says about prices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipaid.signals.catalogue.declare import Signal, SignalType, signals

TRIGGERS: Final[Mapping[str, Signal]] = signals(
    "volume",
    SignalType.TRIGGER,
    (
        "vwma_cross_up(window_fast=9[2..100], window_slow=21[2..200])",
        "vwma(window_fast) cross_above vwma(window_slow)",
        "The fast volume-weighted average rises through the slow one.",
    ),
    (
        "vwma_cross_down(window_fast=9[2..100], window_slow=21[2..200])",
        "vwma(window_fast) cross_below vwma(window_slow)",
        "The fast volume-weighted average falls through the slow one.",
    ),
    (
        "adosc_cross_up(fast=3[2..20], slow=10[5..50])",
        "adosc(fast, slow) cross_above 0",
        "Chaikin's oscillator turns positive: accumulation gathers pace.",
    ),
    (
        "adosc_cross_down(fast=3[2..20], slow=10[5..50])",
        "adosc(fast, slow) cross_below 0",
        "Chaikin's oscillator turns negative: distribution gathers pace.",
    ),
    (
        "kvo_bullish_cross(fast=34[5..100], slow=55[10..200], signal_window=13[2..50])",
        "kvo_histogram(fast, slow, signal_window) cross_above 0",
        "KVO, the volume oscillator after Klinger, rises through its signal line.",
    ),
    (
        "kvo_bearish_cross(fast=34[5..100], slow=55[10..200], signal_window=13[2..50])",
        "kvo_histogram(fast, slow, signal_window) cross_below 0",
        "KVO, the volume oscillator after Klinger, falls through its signal line.",
    ),
)
FILTERS: Final[Mapping[str, Signal]] = signals(
    "volume",
    SignalType.FILTER,
    (
        "adi_bullish(window=20[5..50])",
        "adi_growth(window) above 0",
        "The accumulation and distribution line is higher than at the oldest candle of the window.",
    ),
    (
        "adi_bearish(window=20[5..50])",
        "adi_growth(window) below 0",
        "The accumulation and distribution line is lower than at the oldest candle of the window.",
    ),
    (
        "obv_bullish(window=20[5..50])",
        "obv_growth(window) above 0",
        "OBV, the balance of volume on rises and falls, is higher than at the oldest candle of the window.",
    ),
    (
        "obv_bearish(window=20[5..50])",
        "obv_growth(window) below 0",
        "OBV, the balance of volume on rises and falls, is lower than at the oldest candle of the window.",
    ),
    (
        "cmf_bullish(window=20[10..50], threshold=0[-1..1])",
        "cmf(window) above threshold",
        "CMF, Chaikin's money flow, is above the threshold: volume came with closes near the high.",
    ),
    (
        "cmf_bearish(window=20[10..50], threshold=0[-1..1])",
        "cmf(window) below threshold",
        "CMF, Chaikin's money flow, is below the threshold: volume came with closes near the low.",
    ),
    (
        "force_bullish(window=13[5..30], threshold=0[0..100])",
        "force(window) above threshold",
        "Elder's force index, changes times volume, is above the threshold.",
    ),
    (
        "force_bearish(window=13[5..30], threshold=0[0..100])",
        "force(window) below -threshold",
        "Elder's force index, changes times volume, is below minus the threshold.",
    ),
    (
        "eom_bullish(window=14[5..30], threshold=0[0..100])",
        "ease(window) above threshold",
        "Ease of movement is above the threshold: prices rise far on little volume.",
    ),
    (
        "eom_bearish(window=14[5..30], threshold=0[0..100])",
        "ease(window) below -threshold",
        "Ease of movement is below minus the threshold: prices fall far on little volume.",
    ),
    (
        "vpt_bullish(window=20[5..50])",
        "vpt_growth(window) above 0",
        "The volume-price trend is higher than at the oldest candle of the window.",
    ),
    (
        "vpt_bearish(window=20[5..50])",
        "vpt_growth(window) below 0",
        "The volume-price trend is lower than at the oldest candle of the window.",
    ),
    (
        "nvi_bullish(window=255[100..400])",
        "nvi_lead(window) above 0",
        "The negative volume index, which moves on candles of falling volume only, lies above its average.",
    ),
    (
        "nvi_bearish(window=255[100..400])",
        "nvi_lead(window) below 0",
        "The negative volume index, which moves on candles of falling volume only, lies below its average.",
    ),
    (
        "mfi_overbought(window=14[5..30], threshold=80[70..95])",
        "mfi(window) above threshold",
        "MFI, the money flow index, is high: most of the volume came with rises.",
    ),
    (
        "mfi_oversold(window=14[5..30], threshold=20[5..30])",
        "mfi(window) below threshold",
        "MFI, the money flow index, is low: most of the volume came with falls.",
    ),
    (
        "vwap_above(window=14[5..50])",
        "close above vwap(window)",
        "The close lies above the volume-weighted average price of the window (rolling, not of a session).",
    ),
    (
        "vwap_below(window=14[5..50])",
        "close below vwap(window)",
        "The close lies below the volume-weighted average price of the window (rolling, not of a session).",
    ),
    (
        "daily_return_positive(threshold=0[0..100])",
        "roc(1) above threshold",
        "The close rose by more than `threshold` percent in one candle, whatever its timeframe.",
    ),
    (
        "daily_return_negative(threshold=0[0..100])",
        "roc(1) below -threshold",
        "The close fell by more than `threshold` percent in one candle, whatever its timeframe.",
    ),
    (
        "cumulative_return_positive(threshold=0[0..100])",
        "cumulative_return(anchor) above threshold",
        (
            "The close lies more than `threshold` percent above where it began: at the deployment, or at the "
            "first candle of a backtest."
        ),
    ),
    (
        "cumulative_return_target(target=10[1..100])",
        "cumulative_return(anchor) at_least target",
        (
            "The close lies at least `target` percent above where it began: at the deployment, or at the first "
            "candle of a backtest."
        ),
    ),
    (
        "is_above_vwma(window=20[2..200])",
        "close above vwma(window)",
        "The close lies above its volume-weighted average.",
    ),
    (
        "adosc_bullish(fast=3[2..20], slow=10[5..50])",
        "adosc(fast, slow) above 0",
        "Chaikin's oscillator is positive: accumulation runs faster than usual.",
    ),
    (
        "adosc_bearish(fast=3[2..20], slow=10[5..50])",
        "adosc(fast, slow) below 0",
        "Chaikin's oscillator is negative: distribution runs faster than usual.",
    ),
    (
        "kvo_bullish(fast=34[5..100], slow=55[10..200], signal_window=13[2..50])",
        "kvo_histogram(fast, slow, signal_window) above 0",
        "KVO, the volume oscillator after Klinger, lies above its signal line.",
    ),
    (
        "kvo_bearish(fast=34[5..100], slow=55[10..200], signal_window=13[2..50])",
        "kvo_histogram(fast, slow, signal_window) below 0",
        "KVO, the volume oscillator after Klinger, lies below its signal line.",
    ),
)
