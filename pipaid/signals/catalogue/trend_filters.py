"""Signals of trend: where prices are heading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipaid.signals.catalogue.declare import Signal, SignalType, signals

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
        "MACD lies above its signal line (its histogram is positive, whatever the name says).",
    ),
    (
        "price_above_ema(window=20[2..200])",
        "close above ema(window)",
        "The close lies above its exponential average.",
    ),
    (
        "adx_strong_trend(window=14[5..50], threshold=25[15..50])",
        "adx(window) above threshold",
        "ADX, the average directional index, is high: there is a trend, whichever way it goes.",
    ),
    (
        "adx_bullish_di(window=14[5..50])",
        "di_lead(window) above 0",
        "The upward directional index (+DI) lies above the downward one (-DI).",
    ),
    (
        "aroon_up_trend(window=25[10..50], threshold=70[50..100])",
        "aroon_up(window) above threshold",
        "Aroon up is high: the highest high is recent.",
    ),
    (
        "aroon_down_trend(window=25[10..50], threshold=70[50..100])",
        "aroon_down(window) above threshold",
        "Aroon down is high: the lowest low is recent.",
    ),
    (
        "trix_bullish(window=15[5..30], threshold=0[0..100])",
        "trix(window) above threshold",
        "TRIX, the rate of change of a threefold exponential average, is above the threshold.",
    ),
    (
        "trix_bearish(window=15[5..30], threshold=0[0..100])",
        "trix(window) below -threshold",
        "TRIX, the rate of change of a threefold exponential average, is below minus the threshold.",
    ),
    (
        "ichimoku_bullish(window_tenkan=9[5..20], window_kijun=26[15..40], window_senkou=52[30..70])",
        "close above cloud_top(window_tenkan, window_kijun, window_senkou)",
        "The close lies above Ichimoku's cloud as it is drawn at this candle.",
    ),
    (
        "ichimoku_bearish(window_tenkan=9[5..20], window_kijun=26[15..40], window_senkou=52[30..70])",
        "close below cloud_bottom(window_tenkan, window_kijun, window_senkou)",
        "The close lies below Ichimoku's cloud as it is drawn at this candle.",
    ),
    (
        "dpo_positive(window=20[10..50])",
        "dpo(window) above 0",
        "DPO, an earlier close less the simple average now, is positive: the detrended cycle is up.",
    ),
    (
        "dpo_negative(window=20[10..50])",
        "dpo(window) below 0",
        "DPO, an earlier close less the simple average now, is negative: the detrended cycle is down.",
    ),
    (
        "cci_overbought(window=20[10..50], constant=0.015[0.001..0.1], threshold=100[50..200])",
        "cci(window, constant) above threshold",
        "CCI, the commodity channel index, is high: the typical price lies unusually far above its average.",
    ),
    (
        "cci_oversold(window=20[10..50], constant=0.015[0.001..0.1], threshold=-100[-200..-50])",
        "cci(window, constant) below threshold",
        "CCI, the commodity channel index, is low: the typical price lies unusually far below its average.",
    ),
    (
        "vortex_bullish(window=14[5..30])",
        "vortex_lead(window) above 0",
        "The upward vortex line lies above the downward one.",
    ),
    (
        "vortex_bearish(window=14[5..30])",
        "vortex_lead(window) below 0",
        "The downward vortex line lies above the upward one.",
    ),
    (
        "psar_bullish(step=0.02[0.01..0.1], max_step=0.2[0.1..0.5])",
        "psar(step, max_step) below close",
        "The parabolic stop lies below the close.",
    ),
    (
        "psar_bearish(step=0.02[0.01..0.1], max_step=0.2[0.1..0.5])",
        "psar(step, max_step) above close",
        "The parabolic stop lies above the close.",
    ),
    (
        (
            "stc_overbought(window_slow=50[2..200], window_fast=23[2..200], cycle=10[1..200], smooth1=3[1..200], "
            "smooth2=3[1..200], threshold=75[0..100])"
        ),
        "stc(window_slow, window_fast, cycle, smooth1, smooth2) above threshold",
        "STC, Schaff's trend cycle, is high.",
    ),
    (
        (
            "stc_oversold(window_slow=50[2..200], window_fast=23[2..200], cycle=10[1..200], smooth1=3[1..200], "
            "smooth2=3[1..200], threshold=25[0..100])"
        ),
        "stc(window_slow, window_fast, cycle, smooth1, smooth2) below threshold",
        "STC, Schaff's trend cycle, is low.",
    ),
    (
        "is_above_dema(window=21[2..200])",
        "close above dema(window)",
        "The close lies above its double exponential average.",
    ),
    (
        "is_above_tema(window=21[2..200])",
        "close above tema(window)",
        "The close lies above its triple exponential average.",
    ),
    (
        "is_above_trima(window=20[2..200])",
        "close above trima(window)",
        "The close lies above its triangular average.",
    ),
    (
        "is_above_smma(window=14[2..200])",
        "close above smma(window)",
        "The close lies above its smoothed average.",
    ),
    (
        "is_above_epma(window=20[2..200])",
        "close above epma(window)",
        "The close lies above its end-point average (linear regression).",
    ),
    (
        "is_above_hma(window=16[4..200])",
        "close above hma(window)",
        "The close lies above its Hull average.",
    ),
    (
        "is_above_alma(window=21[2..200], offset=0.85[0..1], sigma=6[0.1..20])",
        "close above alma(window, offset, sigma)",
        "The close lies above its Arnaud Legoux average.",
    ),
    (
        "is_above_t3(window=10[2..200], volume_factor=0.7[0..1])",
        "close above t3(window, volume_factor)",
        "The close lies above its T3 average.",
    ),
    (
        "is_above_mama(fast_limit=0.5[0.1..1], slow_limit=0.05[0.01..0.5])",
        "close above mama(fast_limit, slow_limit)",
        "The close lies above MAMA, Ehlers' adaptive average.",
    ),
    (
        "heikin_ashi_bullish()",
        "heikin_ashi() above 0",
        "The Heikin-Ashi candle, an average of candles, closed above its open.",
    ),
    (
        "heikin_ashi_bearish()",
        "heikin_ashi() below 0",
        "The Heikin-Ashi candle, an average of candles, closed below its open.",
    ),
    (
        "chandelier_long_stop_hit(window=22[5..100], multiplier=3[0.5..10])",
        "close below chandelier_long(window, multiplier)",
        "The close fell below the stop that hangs so many average true ranges below the highest high.",
    ),
    (
        "chandelier_short_stop_hit(window=22[5..100], multiplier=3[0.5..10])",
        "close above chandelier_short(window, multiplier)",
        "The close rose above the stop that stands so many average true ranges above the lowest low.",
    ),
    (
        (
            "alligator_bullish(jaw=13[5..50], teeth=8[3..30], lips=5[2..20], jaw_offset=8[0..20], "
            "teeth_offset=5[0..15], lips_offset=3[0..10])"
        ),
        "alligator(jaw, teeth, lips, jaw_offset, teeth_offset, lips_offset) above 0",
        "The alligator's lips lie above its teeth, and those above its jaw: three averages in rising order.",
    ),
    (
        (
            "alligator_bearish(jaw=13[5..50], teeth=8[3..30], lips=5[2..20], jaw_offset=8[0..20], "
            "teeth_offset=5[0..15], lips_offset=3[0..10])"
        ),
        "alligator(jaw, teeth, lips, jaw_offset, teeth_offset, lips_offset) below 0",
        "The alligator's lips lie below its teeth, and those below its jaw: three averages in falling order.",
    ),
    (
        (
            "alligator_sleeping(jaw=13[5..50], teeth=8[3..30], lips=5[2..20], jaw_offset=8[0..20], "
            "teeth_offset=5[0..15], lips_offset=3[0..10])"
        ),
        "alligator_asleep(jaw, teeth, lips, jaw_offset, teeth_offset, lips_offset) above 0",
        "The alligator's three averages are in no order: there is no trend.",
    ),
    (
        "supertrend_long(window=10[5..50], multiplier=3[0.5..10])",
        "supertrend(window, multiplier) above 0",
        "The supertrend goes upwards.",
    ),
    (
        "supertrend_short(window=10[5..50], multiplier=3[0.5..10])",
        "supertrend(window, multiplier) below 0",
        "The supertrend goes downwards.",
    ),
    (
        "ma_ribbon_bullish(windows=(5, 8, 13, 21, 34, 55, 89, 144)[2..1000])",
        "ribbon(windows) above 0",
        "Every simple average lies above that of the next longer window. `windows` are increasing.",
    ),
    (
        "ma_ribbon_bearish(windows=(5, 8, 13, 21, 34, 55, 89, 144)[2..1000])",
        "ribbon(windows) below 0",
        "Every simple average lies below that of the next longer window. `windows` are increasing.",
    ),
    (
        "ma_ribbon_tangled(windows=(5, 8, 13, 21, 34, 55, 89, 144)[2..1000])",
        "ribbon_tangled(windows) above 0",
        "The simple averages are in no order. `windows` are increasing.",
    ),
    (
        (
            "ttm_squeeze_active(bb_window=20[5..100], bb_std=2[1..4], kc_window=20[5..100], "
            "kc_atr_mult=1.5[0.5..3], mom_window=12[5..50])"
        ),
        "squeeze(bb_window, bb_std, kc_window, kc_atr_mult) above 0",
        (
            "The Bollinger bands lie within the Keltner channel: the market is unusually calm. `mom_window` is "
            "accepted and changes nothing."
        ),
    ),
    (
        "multi_tf_trend_bullish(higher_tf=1W, window=10[2..100], slope_threshold=0[0..0.5])",
        "period_trend(higher_tf, window) above slope_threshold",
        (
            "The exponential average of a longer timeframe's closes rises by more than the threshold, as a share "
            "of its height."
        ),
    ),
    (
        "multi_tf_trend_bearish(higher_tf=1W, window=10[2..100], slope_threshold=0[0..0.5])",
        "period_trend(higher_tf, window) below -slope_threshold",
        (
            "The exponential average of a longer timeframe's closes falls by more than the threshold, as a share "
            "of its height."
        ),
    ),
)
