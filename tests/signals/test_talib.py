"""TA-Lib agrees, wherever it has the indicator: at every candle after its own averages have forgotten their seeds."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import talib
from talib._ta_lib import MA_Type

from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.signals.catalogue.lookup import SIGNALS, checked, rule
from pipaid.signals.columns import Columns
from tests.signals.candles import eurusd_hours
from tests.signals.drawn import default_params
from tests.signals.oracle import indicators as x
from tests.signals.oracle import talib_indicators
from tests.signals.oracle.says import said
from tests.signals.oracle.tape import SLACK, Judge, Row, Tape

# It begins its averages with a mean, which is forgotten by then.
FORGOTTEN = 1_200
SURE_SHARE = 0.98


AGREED = [
    "rsi_cross_up",
    "rsi_cross_down",
    "rsi_overbought",
    "rsi_oversold",
    "kama_cross_up",
    "kama_cross_down",
    "roc_momentum_shift",
    "roc_positive",
    "roc_negative",
    "ppo_bullish_cross",
    "ppo_bearish_cross",
    "pvo_bullish_cross",
    "pvo_bearish_cross",
    "apo_cross_up",
    "apo_cross_down",
    "apo_bullish",
    "apo_bearish",
    "stoch_overbought",
    "stoch_oversold",
    "williams_r_overbought",
    "williams_r_oversold",
    "tsi_bullish",
    "tsi_bearish",
    "uo_overbought",
    "uo_oversold",
    "ao_zero_cross",
    "ao_bullish",
    "ao_bearish",
    "stochrsi_overbought",
    "stochrsi_oversold",
    "sma_crossover",
    "sma_cross_up",
    "sma_cross_down",
    "macd_bullish_cross",
    "macd_bearish_cross",
    "macd_positive",
    "ema_cross_up",
    "ema_cross_down",
    "ema_crossover",
    "wma_cross_up",
    "wma_cross_down",
    "mass_reversal_signal",
    "kst_bullish_cross",
    "kst_bearish_cross",
    "psar_reversal",
    "psar_bullish",
    "psar_bearish",
    "dema_cross_up",
    "dema_cross_down",
    "tema_cross_up",
    "tema_cross_down",
    "trima_cross_up",
    "trima_cross_down",
    "epma_cross_up",
    "epma_cross_down",
    "hma_cross_up",
    "hma_cross_down",
    "t3_cross_up",
    "t3_cross_down",
    "mama_cross_up",
    "mama_cross_down",
    "supertrend_flip_up",
    "supertrend_flip_down",
    "supertrend_long",
    "supertrend_short",
    "ttm_squeeze_active",
    "ttm_squeeze_fired_bullish",
    "ttm_squeeze_fired_bearish",
    "rsi_bullish_divergence",
    "rsi_bearish_divergence",
    "rsi_hidden_bullish_divergence",
    "rsi_hidden_bearish_divergence",
    "is_above_sma",
    "price_above_ema",
    "adx_strong_trend",
    "adx_bullish_di",
    "trix_bullish",
    "trix_bearish",
    "dpo_positive",
    "dpo_negative",
    "cci_overbought",
    "cci_oversold",
    "stc_overbought",
    "stc_oversold",
    "is_above_dema",
    "is_above_tema",
    "is_above_trima",
    "is_above_epma",
    "is_above_hma",
    "is_above_t3",
    "is_above_mama",
    "chandelier_long_stop_hit",
    "chandelier_short_stop_hit",
    "ma_ribbon_bullish",
    "ma_ribbon_bearish",
    "ma_ribbon_tangled",
    "bb_upper_breakout",
    "bb_lower_breakout",
    "bb_squeeze",
    "kc_upper_breakout",
    "kc_lower_breakout",
    "atr_trailing_stop_flip_up",
    "atr_trailing_stop_flip_down",
    "atr_trailing_stop_long",
    "atr_trailing_stop_short",
    "atr_high_volatility",
    "natr_high_volatility",
    "natr_low_volatility",
    "starc_upper_breakout",
    "starc_lower_breakout",
    "volatility_stop_upper",
    "volatility_stop_lower",
    "adosc_cross_up",
    "adosc_cross_down",
    "adosc_bullish",
    "adosc_bearish",
    "kvo_bullish_cross",
    "kvo_bearish_cross",
    "kvo_bullish",
    "kvo_bearish",
    "adi_bullish",
    "adi_bearish",
    "obv_bullish",
    "obv_bearish",
    "force_bullish",
    "force_bearish",
    "mfi_overbought",
    "mfi_oversold",
]


@lru_cache(maxsize=1)
def hours(path: Path) -> tuple[Columns, Tape]:
    candles = eurusd_hours(path)
    return Columns(Candles.from_candles(candles)), Tape.of(candles)


@pytest.mark.parametrize("name", AGREED)
def test_a_signal_says_what_it_would_over_the_indicators_of_ta_lib(
    name: str, eurusd_hours_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, tape = hours(eurusd_hours_csv)
    params = default_params(SIGNALS[name])
    for theirs in talib_indicators.OURS:
        assert hasattr(x, theirs.__name__)
        monkeypatch.setattr(x, theirs.__name__, theirs)

    given = checked(SIGNALS[name], params)
    early, late = (said(name, Judge(slack), tape, given)[FORGOTTEN:] for slack in (SLACK, -SLACK))
    found = columns.holds(rule(name, params, timeframe=Timeframe.H1).condition)[FORGOTTEN:]

    sure = early == late
    assert sure.mean() >= SURE_SHARE
    assert not np.flatnonzero(sure & (found != early)).size


# Those of theirs that are made of several definitions.
COMPOSED: list[tuple[Callable[[Tape], Row], Callable[[Tape], Row]]] = [
    (lambda t: 100.0 * x.atr(t, 14) / t.c, lambda t: talib.NATR(t.h, t.l, t.c, 14)),
    (lambda t: x.percent_k(t, 14) - 100.0, lambda t: talib.WILLR(t.h, t.l, t.c, 14)),
    (lambda t: x.ema(t.c, 12) - x.ema(t.c, 26), lambda t: talib.APO(t.c, 12, 26, matype=MA_Type.EMA)),
    (lambda t: x.oscillator(t.c, 12, 26), lambda t: talib.PPO(t.c, 12, 26, matype=MA_Type.EMA)),
    (lambda t: x.ema(x.ema(t.c, 12) - x.ema(t.c, 26), 9), lambda t: talib.MACD(t.c)[1]),
    (lambda t: x.roc(x.ema(x.ema(x.ema(t.c, 15), 15), 15), 1), lambda t: talib.TRIX(t.c, 15)),
    (lambda t: x.ema(x.adl(t), 3) - x.ema(x.adl(t), 10), lambda t: talib.ADOSC(t.h, t.l, t.c, t.v)),
    (lambda t: x.sma(t.c, 20) + 2.0 * x.deviation(t.c, 20, 0), lambda t: talib.BBANDS(t.c, 20)[0]),
]


@pytest.mark.parametrize(("ours", "theirs"), COMPOSED)
def test_the_definitions_are_those_of_ta_lib(
    ours: Callable[[Tape], Row], theirs: Callable[[Tape], Row], eurusd_hours_csv: Path
) -> None:
    _, tape = hours(eurusd_hours_csv)
    with np.errstate(all="ignore"):
        mine, yours = ours(tape)[FORGOTTEN:], theirs(tape)[FORGOTTEN:]

    assert np.allclose(mine, yours, rtol=1e-8, atol=1e-11 * np.abs(yours).max())
