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
        "RSI, the relative strength index, rises through the threshold: the rise gathers strength.",
    ),
    (
        "rsi_cross_down(window=14[2..100], threshold=50[0..100])",
        "rsi(window) cross_below threshold",
        "RSI, the relative strength index, falls through the threshold: the fall gathers strength.",
    ),
    (
        "kama_cross_up(window=10[5..30], pow1=2[1..10], pow2=30[10..50])",
        "close cross_above kama(window, pow1, pow2)",
        "The close rises through KAMA, Kaufman's average that adapts to how straight prices go.",
    ),
    (
        "kama_cross_down(window=10[5..30], pow1=2[1..10], pow2=30[10..50])",
        "close cross_below kama(window, pow1, pow2)",
        "The close falls through KAMA, Kaufman's average that adapts to how straight prices go.",
    ),
    (
        "roc_momentum_shift(window=12[1..50], direction=bullish)",
        "roc(window) cross 0",
        (
            "The rate of change over the window changes its sign: prices are now higher (bullish) or lower "
            "(bearish) than then."
        ),
    ),
    (
        "ao_zero_cross(window_fast=5[2..15], window_slow=34[20..60], direction=bullish)",
        "ao(window_fast, window_slow) cross 0",
        "The awesome oscillator crosses zero: short-term momentum overtakes the longer one, or falls behind it.",
    ),
    (
        "ppo_bullish_cross(window_slow=26[15..50], window_fast=12[5..20], window_sign=9[3..15])",
        "ppo_histogram(window_slow, window_fast, window_sign) cross_above 0",
        "PPO, which is MACD in percent, rises through its signal line.",
    ),
    (
        "ppo_bearish_cross(window_slow=26[15..50], window_fast=12[5..20], window_sign=9[3..15])",
        "ppo_histogram(window_slow, window_fast, window_sign) cross_below 0",
        "PPO, which is MACD in percent, falls through its signal line.",
    ),
    (
        "pvo_bullish_cross(window_slow=26[15..50], window_fast=12[5..20], window_sign=9[3..15])",
        "pvo_histogram(window_slow, window_fast, window_sign) cross_above 0",
        "PVO, the same of the volume, rises through its signal line: trading picks up.",
    ),
    (
        "pvo_bearish_cross(window_slow=26[15..50], window_fast=12[5..20], window_sign=9[3..15])",
        "pvo_histogram(window_slow, window_fast, window_sign) cross_below 0",
        "PVO, the same of the volume, falls through its signal line: trading calms down.",
    ),
    (
        "mom_cross_up(window=10[1..200])",
        "mom(window) cross_above 0",
        "The close is higher than `window` candles ago, and was not at the candle before.",
    ),
    (
        "mom_cross_down(window=10[1..200])",
        "mom(window) cross_below 0",
        "The close is lower than `window` candles ago, and was not at the candle before.",
    ),
    (
        "bop_cross_up()",
        "bop() cross_above 0",
        "The balance of power turns positive: candles close above their open instead of below.",
    ),
    (
        "bop_cross_down()",
        "bop() cross_below 0",
        "The balance of power turns negative: candles close below their open instead of above.",
    ),
    (
        "apo_cross_up(window_fast=12[2..100], window_slow=26[5..200])",
        "apo(window_fast, window_slow) cross_above 0",
        "APO, the fast exponential average less the slow one, turns positive.",
    ),
    (
        "apo_cross_down(window_fast=12[2..100], window_slow=26[5..200])",
        "apo(window_fast, window_slow) cross_below 0",
        "APO, the fast exponential average less the slow one, turns negative.",
    ),
    (
        "cmo_cross_up(window=14[2..100], threshold=-50[-90..-20])",
        "cmo(window) cross_above threshold",
        "CMO, Chande's momentum oscillator, rises through the threshold: selling was overdone and eases.",
    ),
    (
        "cmo_cross_down(window=14[2..100], threshold=50[20..90])",
        "cmo(window) cross_below threshold",
        "CMO, Chande's momentum oscillator, falls through the threshold: buying was overdone and eases.",
    ),
)
FILTERS: Final[Mapping[str, Signal]] = signals(
    "momentum",
    SignalType.FILTER,
    (
        "rsi_overbought(window=14[2..100], threshold=70[50..100])",
        "rsi(window) above threshold",
        "RSI is high: prices rose fast, perhaps too fast.",
    ),
    (
        "rsi_oversold(window=14[2..100], threshold=30[0..50])",
        "rsi(window) below threshold",
        "RSI is low: prices fell fast, perhaps too fast.",
    ),
    (
        "stoch_overbought(window=14[5..50], smooth_window=3[1..10], threshold=80[70..100])",
        "stoch(window, smooth_window) above threshold",
        "The stochastic oscillator is high: the close lies near the top of the window's range.",
    ),
    (
        "stoch_oversold(window=14[5..50], smooth_window=3[1..10], threshold=20[0..30])",
        "stoch(window, smooth_window) below threshold",
        "The stochastic oscillator is low: the close lies near the bottom of the window's range.",
    ),
    (
        "williams_r_overbought(window=14[5..50], threshold=-20[-30..0])",
        "williams_r(window) above threshold",
        "Williams' %R is near 0: the close lies near the top of the window's range.",
    ),
    (
        "williams_r_oversold(window=14[5..50], threshold=-80[-100..-70])",
        "williams_r(window) below threshold",
        "Williams' %R is near -100: the close lies near the bottom of the window's range.",
    ),
    (
        "tsi_bullish(window_slow=25[10..50], window_fast=13[5..25], threshold=0[-50..50])",
        "tsi(window_slow, window_fast) above threshold",
        "TSI, the true strength index, is above the threshold: smoothed changes point up.",
    ),
    (
        "tsi_bearish(window_slow=25[10..50], window_fast=13[5..25], threshold=0[-50..50])",
        "tsi(window_slow, window_fast) below threshold",
        "TSI, the true strength index, is below the threshold: smoothed changes point down.",
    ),
    (
        "uo_overbought(window_short=7[3..20], window_medium=14[7..30], window_long=28[14..50], threshold=70[60..90])",
        "uo(window_short, window_medium, window_long) above threshold",
        "The ultimate oscillator, buying pressure over three windows, is high.",
    ),
    (
        "uo_oversold(window_short=7[3..20], window_medium=14[7..30], window_long=28[14..50], threshold=30[10..40])",
        "uo(window_short, window_medium, window_long) below threshold",
        "The ultimate oscillator, buying pressure over three windows, is low.",
    ),
    (
        "roc_positive(window=12[1..50], threshold=0[-10..10])",
        "roc(window) above threshold",
        "The close rose by more than `threshold` percent over the window.",
    ),
    (
        "roc_negative(window=12[1..50], threshold=0[-10..10])",
        "roc(window) below threshold",
        "The change over the window is below `threshold` percent; a fall by 2 % is -2.",
    ),
    (
        "ao_bullish(window_fast=5[2..15], window_slow=34[20..60], threshold=0[0..100])",
        "ao(window_fast, window_slow) above threshold",
        "The awesome oscillator is above the threshold, which is in price units.",
    ),
    (
        "ao_bearish(window_fast=5[2..15], window_slow=34[20..60], threshold=0[0..100])",
        "ao(window_fast, window_slow) below -threshold",
        "The awesome oscillator is below minus the threshold, which is in price units.",
    ),
    (
        "stochrsi_overbought(window=14[5..30], smooth1=3[1..10], smooth2=3[1..10], threshold=0.8[0.6..1])",
        "stochrsi(window, smooth1) above threshold",
        "RSI lies near the top of its own recent range (0 to 1). `smooth2` is accepted and changes nothing.",
    ),
    (
        "stochrsi_oversold(window=14[5..30], smooth1=3[1..10], smooth2=3[1..10], threshold=0.2[0..0.4])",
        "stochrsi(window, smooth1) below threshold",
        "RSI lies near the bottom of its own recent range (0 to 1). `smooth2` is accepted and changes nothing.",
    ),
    (
        "mom_bullish(window=10[1..200])",
        "mom(window) above 0",
        "The close is higher than `window` candles ago.",
    ),
    (
        "mom_bearish(window=10[1..200])",
        "mom(window) below 0",
        "The close is lower than `window` candles ago.",
    ),
    (
        "bop_bullish()",
        "bop() above 0",
        "The candle closed above its open: buyers had the last word.",
    ),
    (
        "bop_bearish()",
        "bop() below 0",
        "The candle closed below its open: sellers had the last word.",
    ),
    (
        "apo_bullish(window_fast=12[2..100], window_slow=26[5..200])",
        "apo(window_fast, window_slow) above 0",
        "The fast exponential average lies above the slow one.",
    ),
    (
        "apo_bearish(window_fast=12[2..100], window_slow=26[5..200])",
        "apo(window_fast, window_slow) below 0",
        "The fast exponential average lies below the slow one.",
    ),
    (
        "cmo_overbought(window=14[2..100], threshold=50[20..90])",
        "cmo(window) at_least threshold",
        "CMO, Chande's momentum oscillator, is at or above the threshold: nearly all changes were rises.",
    ),
    (
        "cmo_oversold(window=14[2..100], threshold=-50[-90..-20])",
        "cmo(window) at_most threshold",
        "CMO, Chande's momentum oscillator, is at or below the threshold: nearly all changes were falls.",
    ),
)
