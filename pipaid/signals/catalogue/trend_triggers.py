"""Signals of trend: where prices turn."""

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
        "The fast simple average crosses the slow one: upwards if bullish, downwards if bearish.",
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
        "The fast exponential average crosses the slow one: upwards if bullish, downwards if bearish.",
    ),
    (
        "aroon_crossover(window=25[10..50], direction=bullish)",
        "aroon_lead(window) cross 0",
        (
            "Aroon up crosses Aroon down: the highest high is now more recent than the lowest low (bullish), or "
            "the other way round."
        ),
    ),
    (
        "wma_cross_up(window_fast=9[2..50], window_slow=21[10..100])",
        "wma(window_fast) cross_above wma(window_slow)",
        "The fast weighted average rises through the slow one.",
    ),
    (
        "wma_cross_down(window_fast=9[2..50], window_slow=21[10..100])",
        "wma(window_fast) cross_below wma(window_slow)",
        "The fast weighted average falls through the slow one.",
    ),
    (
        (
            "mass_reversal_signal(window_fast=9[5..15], window_slow=25[15..40], threshold_high=27[25..30], "
            "threshold_low=26.5[24..27])"
        ),
        "mass_reversal(window_fast, window_slow, threshold_high, threshold_low) above 0",
        (
            "Dorsey's reversal bulge: the mass index was above the high threshold and now falls through the low "
            "one. It tells that a trend may turn, and not which way."
        ),
    ),
    (
        (
            "ichimoku_tk_cross(window_tenkan=9[5..20], window_kijun=26[15..40], window_senkou=52[30..70], "
            "direction=bullish)"
        ),
        "tenkan_lead(window_tenkan, window_kijun) cross 0",
        (
            "Ichimoku's conversion line (tenkan) crosses its base line (kijun). `window_senkou` is accepted and "
            "changes nothing."
        ),
    ),
    (
        (
            "kst_bullish_cross(roc1=10[1..200], roc2=15[1..200], roc3=20[1..200], roc4=30[1..200], "
            "window_sma1=10[2..200], window_sma2=10[2..200], window_sma3=10[2..200], window_sma4=15[2..200], "
            "nsig=9[1..200])"
        ),
        (
            "kst_histogram(roc1, roc2, roc3, roc4, window_sma1, window_sma2, window_sma3, window_sma4, nsig) "
            "cross_above 0"
        ),
        "KST, Pring's sum of four smoothed rates of change, rises through its signal line.",
    ),
    (
        (
            "kst_bearish_cross(roc1=10[1..200], roc2=15[1..200], roc3=20[1..200], roc4=30[1..200], "
            "window_sma1=10[2..200], window_sma2=10[2..200], window_sma3=10[2..200], window_sma4=15[2..200], "
            "nsig=9[1..200])"
        ),
        (
            "kst_histogram(roc1, roc2, roc3, roc4, window_sma1, window_sma2, window_sma3, window_sma4, nsig) "
            "cross_below 0"
        ),
        "KST, Pring's sum of four smoothed rates of change, falls through its signal line.",
    ),
    (
        "vortex_crossover(window=14[5..30], direction=bullish)",
        "vortex_lead(window) cross 0",
        "The upward vortex line crosses the downward one.",
    ),
    (
        "psar_reversal(step=0.02[0.01..0.1], max_step=0.2[0.1..0.5], direction=bullish)",
        "psar_flip(step, max_step) leans 0",
        "The parabolic stop changes sides: from above the close to below it (bullish), or the other way round.",
    ),
    (
        "dema_cross_up(window_fast=9[2..100], window_slow=21[2..200])",
        "dema(window_fast) cross_above dema(window_slow)",
        "The fast double exponential average rises through the slow one.",
    ),
    (
        "dema_cross_down(window_fast=9[2..100], window_slow=21[2..200])",
        "dema(window_fast) cross_below dema(window_slow)",
        "The fast double exponential average falls through the slow one.",
    ),
    (
        "tema_cross_up(window_fast=9[2..100], window_slow=21[2..200])",
        "tema(window_fast) cross_above tema(window_slow)",
        "The fast triple exponential average rises through the slow one.",
    ),
    (
        "tema_cross_down(window_fast=9[2..100], window_slow=21[2..200])",
        "tema(window_fast) cross_below tema(window_slow)",
        "The fast triple exponential average falls through the slow one.",
    ),
    (
        "trima_cross_up(window_fast=10[2..100], window_slow=30[2..200])",
        "trima(window_fast) cross_above trima(window_slow)",
        "The fast triangular average rises through the slow one.",
    ),
    (
        "trima_cross_down(window_fast=10[2..100], window_slow=30[2..200])",
        "trima(window_fast) cross_below trima(window_slow)",
        "The fast triangular average falls through the slow one.",
    ),
    (
        "smma_cross_up(window_fast=14[2..100], window_slow=50[2..200])",
        "smma(window_fast) cross_above smma(window_slow)",
        "The fast smoothed average rises through the slow one.",
    ),
    (
        "smma_cross_down(window_fast=14[2..100], window_slow=50[2..200])",
        "smma(window_fast) cross_below smma(window_slow)",
        "The fast smoothed average falls through the slow one.",
    ),
    (
        "epma_cross_up(window_fast=10[2..100], window_slow=30[2..200])",
        "epma(window_fast) cross_above epma(window_slow)",
        "The fast end-point average (linear regression) rises through the slow one.",
    ),
    (
        "epma_cross_down(window_fast=10[2..100], window_slow=30[2..200])",
        "epma(window_fast) cross_below epma(window_slow)",
        "The fast end-point average (linear regression) falls through the slow one.",
    ),
    (
        "hma_cross_up(window_fast=9[4..100], window_slow=25[4..200])",
        "hma(window_fast) cross_above hma(window_slow)",
        "The fast Hull average rises through the slow one.",
    ),
    (
        "hma_cross_down(window_fast=9[4..100], window_slow=25[4..200])",
        "hma(window_fast) cross_below hma(window_slow)",
        "The fast Hull average falls through the slow one.",
    ),
    (
        "alma_cross_up(window_fast=9[2..100], window_slow=21[2..200], offset=0.85[0..1], sigma=6[0.1..20])",
        "alma(window_fast, offset, sigma) cross_above alma(window_slow, offset, sigma)",
        "The fast Arnaud Legoux average rises through the slow one.",
    ),
    (
        "alma_cross_down(window_fast=9[2..100], window_slow=21[2..200], offset=0.85[0..1], sigma=6[0.1..20])",
        "alma(window_fast, offset, sigma) cross_below alma(window_slow, offset, sigma)",
        "The fast Arnaud Legoux average falls through the slow one.",
    ),
    (
        "t3_cross_up(window_fast=5[2..100], window_slow=10[2..200], volume_factor=0.7[0..1])",
        "t3(window_fast, volume_factor) cross_above t3(window_slow, volume_factor)",
        "The fast T3 average rises through the slow one.",
    ),
    (
        "t3_cross_down(window_fast=5[2..100], window_slow=10[2..200], volume_factor=0.7[0..1])",
        "t3(window_fast, volume_factor) cross_below t3(window_slow, volume_factor)",
        "The fast T3 average falls through the slow one.",
    ),
    (
        "mama_cross_up(fast_limit=0.5[0.1..1], slow_limit=0.05[0.01..0.5])",
        "mama_lead(fast_limit, slow_limit) cross_above 0",
        "MAMA, Ehlers' adaptive average, rises through the average that follows it (FAMA).",
    ),
    (
        "mama_cross_down(fast_limit=0.5[0.1..1], slow_limit=0.05[0.01..0.5])",
        "mama_lead(fast_limit, slow_limit) cross_below 0",
        "MAMA, Ehlers' adaptive average, falls through the average that follows it (FAMA).",
    ),
    (
        "supertrend_flip_up(window=10[5..50], multiplier=3[0.5..10])",
        "supertrend(window, multiplier) cross_above 0",
        "The supertrend turns upwards: the close broke its upper band.",
    ),
    (
        "supertrend_flip_down(window=10[5..50], multiplier=3[0.5..10])",
        "supertrend(window, multiplier) cross_below 0",
        "The supertrend turns downwards: the close broke its lower band.",
    ),
    (
        (
            "ttm_squeeze_fired_bullish(bb_window=20[5..100], bb_std=2[1..4], kc_window=20[5..100], "
            "kc_atr_mult=1.5[0.5..3], mom_window=12[5..50])"
        ),
        "squeeze_fired(bb_window, bb_std, kc_window, kc_atr_mult, mom_window) above 0",
        "A squeeze (see ttm_squeeze_active) ends with this candle while momentum points up.",
    ),
    (
        (
            "ttm_squeeze_fired_bearish(bb_window=20[5..100], bb_std=2[1..4], kc_window=20[5..100], "
            "kc_atr_mult=1.5[0.5..3], mom_window=12[5..50])"
        ),
        "squeeze_fired(bb_window, bb_std, kc_window, kc_atr_mult, mom_window) below 0",
        "A squeeze (see ttm_squeeze_active) ends with this candle while momentum points down.",
    ),
    (
        "rsi_bullish_divergence(rsi_window=14[2..100], swing_window=5[2..20], min_swing_distance=10[3..50])",
        "rsi_divergence(rsi_window, swing_window, min_swing_distance, 1) above 0",
        (
            "The close makes a lower low and RSI a higher one: the fall loses strength. Known `swing_window` "
            "candles after the low."
        ),
    ),
    (
        "rsi_bearish_divergence(rsi_window=14[2..100], swing_window=5[2..20], min_swing_distance=10[3..50])",
        "rsi_divergence(rsi_window, swing_window, min_swing_distance, 2) above 0",
        (
            "The close makes a higher high and RSI a lower one: the rise loses strength. Known `swing_window` "
            "candles after the high."
        ),
    ),
    (
        "rsi_hidden_bullish_divergence(rsi_window=14[2..100], swing_window=5[2..20], min_swing_distance=10[3..50])",
        "rsi_divergence(rsi_window, swing_window, min_swing_distance, 3) above 0",
        (
            "The close makes a higher low and RSI a lower one: a pause within a rise. Known `swing_window` "
            "candles after the low."
        ),
    ),
    (
        "rsi_hidden_bearish_divergence(rsi_window=14[2..100], swing_window=5[2..20], min_swing_distance=10[3..50])",
        "rsi_divergence(rsi_window, swing_window, min_swing_distance, 4) above 0",
        (
            "The close makes a lower high and RSI a higher one: a pause within a fall. Known `swing_window` "
            "candles after the high."
        ),
    ),
)
