"""Every signal but the patterns, as its definition says it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.signals.oracle import indicators as x
from tests.signals.oracle.tape import Judge, Row, Tape, ago, was

Says = Callable[[Judge, Tape, Any], Row]
SAYS: dict[str, Says] = {}
DAY_MS = 86_400_000
PERIODS_MS = {"1m": 60_000, "5m": 300_000, "15m": 900_000, "30m": 1_800_000, "1h": 3_600_000, "4h": 14_400_000,
              "1d": DAY_MS, "1w": 7 * DAY_MS}  # fmt: skip


def says(*names: str) -> Callable[[Says], Says]:
    """Let a function speak for some signals."""

    def kept(function: Says) -> Says:
        SAYS.update(dict.fromkeys(names, function))
        return function

    return kept


def pair(up: str, down: str, sides: Callable[[Tape, Any], tuple[Any, ...]]) -> None:
    """Let the sides of a crossing speak for both of its ways."""
    SAYS[up] = lambda j, t, p: j.up(*sides(t, p))
    SAYS[down] = lambda j, t, p: j.down(*sides(t, p))


def states(above: str, below: str, sides: Callable[[Tape, Any], tuple[Any, ...]]) -> None:
    """Let the sides of a comparison speak for both of its ways."""
    SAYS[above] = lambda j, t, p: j.gt(*sides(t, p))
    SAYS[below] = lambda j, t, p: j.lt(*sides(t, p))


def directed(name: str, sides: Callable[[Tape, Any], tuple[Any, ...]]) -> None:
    """Let the sides of a crossing speak for a signal that has a direction."""
    SAYS[name] = lambda j, t, p: j.flip(*sides(t, p), direction=p.direction)


# The averages: crossings of a fast and a slow one, and the close above one.
AVERAGES: dict[str, Callable[[Tape, int, Any], Row]] = {
    "sma": lambda t, n, p: x.sma(t.c, n),
    "ema": lambda t, n, p: x.ema(t.c, n),
    "wma": lambda t, n, p: x.wma(t.c, n),
    "dema": lambda t, n, p: x.dema(t.c, n),
    "tema": lambda t, n, p: x.tema(t.c, n),
    "trima": lambda t, n, p: x.trima(t.c, n),
    "smma": lambda t, n, p: x.rma(t.c, n),
    "epma": lambda t, n, p: x.epma(t.c, n),
    "hma": lambda t, n, p: x.hma(t.c, n),
    "alma": lambda t, n, p: x.alma(t.c, n, p.offset, p.sigma),
    "t3": lambda t, n, p: x.t3(t.c, n, p.volume_factor),
    "vwma": lambda t, n, p: x.by_volume(t.c, t.v, n),
}


def _two(average: Callable[[Tape, int, Any], Row], t: Tape, p: Any) -> tuple[Row, Row]:
    return average(t, p.window_fast, p), average(t, p.window_slow, p)


def _above(average: Callable[[Tape, int, Any], Row], j: Judge, t: Tape, p: Any) -> Row:
    return j.gt(t.c, average(t, p.window, p))


for _name, _average in AVERAGES.items():
    pair(f"{_name}_cross_up", f"{_name}_cross_down", partial(_two, _average))
    SAYS["price_above_ema" if _name == "ema" else f"is_above_{_name}"] = partial(_above, _average)
for _name in ("sma", "ema"):
    directed(f"{_name}_crossover", partial(_two, AVERAGES[_name]))

# Momentum.
pair("rsi_cross_up", "rsi_cross_down", lambda t, p: (x.rsi(t, p.window), p.threshold))
states("rsi_overbought", "rsi_oversold", lambda t, p: (x.rsi(t, p.window), p.threshold))
pair("kama_cross_up", "kama_cross_down", lambda t, p: (t.c, x.kama(t, p.window, p.pow1, p.pow2)))
directed("roc_momentum_shift", lambda t, p: (t.c, ago(t.c, p.window), 0.0))
directed("ao_zero_cross", lambda t, p: (x.ao(t, p.window_fast, p.window_slow), 0.0, t.c))


def _signal_of(line: Row, n: int, scale: Row) -> tuple[Row, Row, Row]:
    return line, x.ema(line, n), scale


def _macd(t: Tape, p: Any) -> tuple[Row, Row, Row]:
    return _signal_of(x.ema(t.c, p.window_fast) - x.ema(t.c, p.window_slow), p.window_sign, t.c)


def _ppo(t: Tape, p: Any) -> tuple[Row, Row, Row]:
    return _signal_of(x.oscillator(t.c, p.window_fast, p.window_slow), p.window_sign, np.full(len(t), 100.0))


def _pvo(t: Tape, p: Any) -> tuple[Row, Row, Row]:
    return _signal_of(x.oscillator(t.v, p.window_fast, p.window_slow), p.window_sign, np.full(len(t), 100.0))


pair("ppo_bullish_cross", "ppo_bearish_cross", _ppo)
pair("pvo_bullish_cross", "pvo_bearish_cross", _pvo)
pair("macd_bullish_cross", "macd_bearish_cross", _macd)
SAYS["macd_positive"] = lambda j, t, p: j.gt(*_macd(t, p))
pair("mom_cross_up", "mom_cross_down", lambda t, p: (t.c, ago(t.c, p.window), 0.0))
states("mom_bullish", "mom_bearish", lambda t, p: (t.c, ago(t.c, p.window), 0.0))


def _bop(t: Tape, p: Any) -> tuple[Row, float]:
    return np.where(t.h > t.l, (t.c - t.o) / (t.h - t.l), np.nan), 0.0


pair("bop_cross_up", "bop_cross_down", _bop)
states("bop_bullish", "bop_bearish", _bop)
pair("apo_cross_up", "apo_cross_down", lambda t, p: _two(AVERAGES["ema"], t, p))
states("apo_bullish", "apo_bearish", lambda t, p: _two(AVERAGES["ema"], t, p))
SAYS["cmo_cross_up"] = lambda j, t, p: j.up(x.cmo(t, p.window), p.threshold)
SAYS["cmo_cross_down"] = lambda j, t, p: j.down(x.cmo(t, p.window), p.threshold)
SAYS["cmo_overbought"] = lambda j, t, p: j.ge(x.cmo(t, p.window), p.threshold)
SAYS["cmo_oversold"] = lambda j, t, p: j.le(x.cmo(t, p.window), p.threshold)


def _hundred(t: Tape) -> Row:
    return np.full(len(t), 100.0)


states("stoch_overbought", "stoch_oversold",
       lambda t, p: (x.sma(x.percent_k(t, p.window), p.smooth_window), p.threshold, _hundred(t)))  # fmt: skip
states("williams_r_overbought", "williams_r_oversold",
       lambda t, p: (x.percent_k(t, p.window) - 100.0, p.threshold, _hundred(t)))  # fmt: skip
states("tsi_bullish", "tsi_bearish", lambda t, p: (x.tsi(t, p.window_slow, p.window_fast), p.threshold, _hundred(t)))
states("uo_overbought", "uo_oversold",
       lambda t, p: (x.ultimate(t, (p.window_short, p.window_medium, p.window_long)), p.threshold))  # fmt: skip
states("roc_positive", "roc_negative", lambda t, p: (x.roc(t.c, p.window), p.threshold, _hundred(t)))
SAYS["ao_bullish"] = lambda j, t, p: j.gt(x.ao(t, p.window_fast, p.window_slow), p.threshold, t.c)
SAYS["ao_bearish"] = lambda j, t, p: j.lt(x.ao(t, p.window_fast, p.window_slow), -p.threshold, t.c)
states("stochrsi_overbought", "stochrsi_oversold",
       lambda t, p: (x.sma(x.stoch_rsi(t, p.window), p.smooth1), p.threshold, np.ones(len(t))))  # fmt: skip

# Trend.
directed("aroon_crossover", lambda t, p: (x.aroon(t.h, p.window), x.aroon(-t.l, p.window), 0.0))
SAYS["aroon_up_trend"] = lambda j, t, p: j.gt(x.aroon(t.h, p.window), p.threshold)
SAYS["aroon_down_trend"] = lambda j, t, p: j.gt(x.aroon(-t.l, p.window), p.threshold)


@says("mass_reversal_signal")
def _bulge(j: Judge, t: Tape, p: Any) -> Row:
    once = x.ema(t.h - t.l, p.window_fast)
    mass = x.total(once / x.ema(once, p.window_fast), p.window_slow)
    high, low = j.gt(mass, p.threshold_high), j.lt(mass, p.threshold_low)
    out, armed = np.zeros(len(t), dtype=bool), False
    for i in range(len(t)):
        out[i] = armed and low[i]
        armed = bool(high[i]) or (armed and not low[i])
    return out


directed("ichimoku_tk_cross", lambda t, p: (x.middle(t, p.window_tenkan), x.middle(t, p.window_kijun), 0.0))


def _cloud(t: Tape, p: Any) -> tuple[Row, Row]:
    first = (x.middle(t, p.window_tenkan) + x.middle(t, p.window_kijun)) / 2.0
    return ago(first, p.window_kijun), ago(x.middle(t, p.window_senkou), p.window_kijun)


SAYS["ichimoku_bullish"] = lambda j, t, p: j.gt(t.c, np.maximum(*_cloud(t, p)))
SAYS["ichimoku_bearish"] = lambda j, t, p: j.lt(t.c, np.minimum(*_cloud(t, p)))


def _kst(t: Tape, p: Any) -> tuple[Row, Row, Row]:
    windows = [(getattr(p, f"roc{k}"), getattr(p, f"window_sma{k}")) for k in (1, 2, 3, 4)]
    line = sum(k * x.sma(x.roc(t.c, roc), sma) for k, (roc, sma) in enumerate(windows, 1))
    return line, x.sma(line, p.nsig), _hundred(t)


pair("kst_bullish_cross", "kst_bearish_cross", _kst)
directed("vortex_crossover", lambda t, p: x.vortex(t, p.window))
states("vortex_bullish", "vortex_bearish", lambda t, p: x.vortex(t, p.window))


@says("psar_reversal")
def _reversal(j: Judge, t: Tape, p: Any) -> Row:
    stop = x.psar(t, p.step, p.max_step)
    above, below = j.gt(stop, t.c), j.lt(stop, t.c)
    return was(above) & below if p.direction == "bullish" else was(below) & above


states("psar_bearish", "psar_bullish", lambda t, p: (x.psar(t, p.step, p.max_step), t.c))
pair("mama_cross_up", "mama_cross_down", lambda t, p: x.mama(t, p.fast_limit, p.slow_limit))
SAYS["is_above_mama"] = lambda j, t, p: j.gt(t.c, x.mama(t, p.fast_limit, p.slow_limit)[0])


def _turned(line: Callable[[Tape, int, float], Row], to: int, j: Judge, t: Tape, p: Any) -> Row:
    sides = line(t, p.window, p.multiplier)
    return was(sides == -to) & (sides == to)


def _going(line: Callable[[Tape, int, float], Row], to: int, j: Judge, t: Tape, p: Any) -> Row:
    return line(t, p.window, p.multiplier) == to


for _stem, _line in (("supertrend", x.supertrend), ("atr_trailing_stop", x.trailing_stop)):
    for _word, _state, _side in (("flip_up", "long", 1), ("flip_down", "short", -1)):
        SAYS[f"{_stem}_{_word}"] = partial(_turned, _line, _side)
        SAYS[f"{_stem}_{_state}"] = partial(_going, _line, _side)


def _squeezed(j: Judge, t: Tape, p: Any) -> Row:
    centre, wide = x.sma(t.c, p.bb_window), p.bb_std * x.deviation(t.c, p.bb_window, 0)
    average, reach = x.ema(t.c, p.kc_window), p.kc_atr_mult * x.atr(t, p.kc_window)
    return j.lt(centre + wide, average + reach) & j.gt(centre - wide, average - reach)


def _fired(j: Judge, t: Tape, p: Any) -> tuple[Row, Row]:
    above = t.c - (x.middle(t, p.mom_window) + x.sma(t.c, p.mom_window)) / 2.0
    over = ~_squeezed(Judge(-j.slack), t, p)
    return was(_squeezed(j, t, p)) & over, x.epma(above, p.mom_window)


SAYS["ttm_squeeze_active"] = _squeezed
SAYS["ttm_squeeze_fired_bullish"] = lambda j, t, p: _fired(j, t, p)[0] & j.gt(_fired(j, t, p)[1], 0.0, t.c)
SAYS["ttm_squeeze_fired_bearish"] = lambda j, t, p: _fired(j, t, p)[0] & j.lt(_fired(j, t, p)[1], 0.0, t.c)


def _divergence(way: int, hidden: bool, j: Judge, t: Tape, p: Any) -> Row:
    strength, c, n = x.rsi(t, p.rsi_window), way * t.c, p.swing_window
    out, last = np.zeros(len(t), dtype=bool), -1
    for i in range(2 * n, len(t)):
        z = i - n
        if not all(c[z] < c[k] for k in range(z - n, z + n + 1) if k != z):
            continue
        a, last = last, z
        if a < 0 or z - a < p.min_swing_distance:
            continue
        if hidden:
            out[i] = c[z] > c[a] and j.lt(way * strength[z], way * strength[a], 100.0)
        else:
            out[i] = c[z] < c[a] and j.gt(way * strength[z], way * strength[a], 100.0)
    return out


SAYS["rsi_bullish_divergence"] = partial(_divergence, 1, False)
SAYS["rsi_bearish_divergence"] = partial(_divergence, -1, False)
SAYS["rsi_hidden_bullish_divergence"] = partial(_divergence, 1, True)
SAYS["rsi_hidden_bearish_divergence"] = partial(_divergence, -1, True)
SAYS["adx_strong_trend"] = lambda j, t, p: j.gt(x.directed(t, p.window)[2], p.threshold)
SAYS["adx_bullish_di"] = lambda j, t, p: j.gt(*x.directed(t, p.window)[:2])


def _trix(t: Tape, p: Any) -> Row:
    return x.roc(x.ema(x.ema(x.ema(t.c, p.window), p.window), p.window), 1)


SAYS["trix_bullish"] = lambda j, t, p: j.gt(_trix(t, p), p.threshold, 1e-3 * _hundred(t))
SAYS["trix_bearish"] = lambda j, t, p: j.lt(_trix(t, p), -p.threshold, 1e-3 * _hundred(t))
states("dpo_positive", "dpo_negative", lambda t, p: (ago(t.c, p.window // 2 + 1), x.sma(t.c, p.window)))
states("cci_overbought", "cci_oversold", lambda t, p: (x.cci(t, p.window, p.constant), p.threshold))
states("stc_overbought", "stc_oversold", lambda t, p: (
    x.stc(t, p.window_fast, p.window_slow, p.cycle, (p.smooth1, p.smooth2)), p.threshold, _hundred(t)))  # fmt: skip
states("heikin_ashi_bearish", "heikin_ashi_bullish", lambda t, p: x.heikin_ashi(t))
SAYS["chandelier_long_stop_hit"] = lambda j, t, p: j.lt(t.c, x.most(t.h, p.window) - p.multiplier * x.atr(t, p.window))
SAYS["chandelier_short_stop_hit"] = lambda j, t, p: j.gt(
    t.c, x.least(t.l, p.window) + p.multiplier * x.atr(t, p.window)
)


def _alligator(t: Tape, p: Any) -> list[Row]:
    middle = (t.h + t.l) / 2.0
    return [ago(x.rma(middle, getattr(p, part)), getattr(p, f"{part}_offset")) for part in ("jaw", "teeth", "lips")]


def _rising(j: Judge, lines: list[Row]) -> Row:
    return np.logical_and.reduce([j.lt(a, b) for a, b in pairwise(lines)])


def _in_no_order(j: Judge, lines: list[Row]) -> Row:
    known = np.logical_and.reduce([~np.isnan(line) for line in lines])
    other = Judge(-j.slack)
    return known & ~_rising(other, lines) & ~_rising(other, lines[::-1])


def _ribbon(t: Tape, p: Any) -> list[Row]:
    return [x.sma(t.c, n) for n in p.windows]


SAYS["alligator_bullish"] = lambda j, t, p: _rising(j, _alligator(t, p))
SAYS["alligator_bearish"] = lambda j, t, p: _rising(j, _alligator(t, p)[::-1])
SAYS["alligator_sleeping"] = lambda j, t, p: _in_no_order(j, _alligator(t, p))
SAYS["ma_ribbon_bearish"] = lambda j, t, p: _rising(j, _ribbon(t, p))
SAYS["ma_ribbon_bullish"] = lambda j, t, p: _rising(j, _ribbon(t, p)[::-1])
SAYS["ma_ribbon_tangled"] = lambda j, t, p: _in_no_order(j, _ribbon(t, p))


def _higher(t: Tape, p: Any) -> Row:
    offset_ms = 4 * DAY_MS if p.higher_tf == "1w" else 0
    return x.higher_trend(t, PERIODS_MS[p.higher_tf], offset_ms, p.window)


SAYS["multi_tf_trend_bullish"] = lambda j, t, p: j.gt(_higher(t, p), p.slope_threshold, np.ones(len(t)))
SAYS["multi_tf_trend_bearish"] = lambda j, t, p: j.lt(_higher(t, p), -p.slope_threshold, np.ones(len(t)))

# Volatility.
pair("bb_upper_breakout", "_bb_upper", lambda t, p: (
    t.c, x.sma(t.c, p.window) + p.window_dev * x.deviation(t.c, p.window, 0)))  # fmt: skip
pair("_bb_lower", "bb_lower_breakout", lambda t, p: (
    t.c, x.sma(t.c, p.window) - p.window_dev * x.deviation(t.c, p.window, 0)))  # fmt: skip
SAYS["bb_squeeze"] = lambda j, t, p: j.down(
    100.0 * 2.0 * p.window_dev * x.deviation(t.c, p.window, 0) / x.sma(t.c, p.window), p.threshold
)


def _keltner(way: int, t: Tape, p: Any) -> tuple[Row, Row]:
    if p.original_version:
        high, low = (t.h, t.l) if way > 0 else (t.l, t.h)
        return t.c, x.sma((4.0 * high - 2.0 * low + t.c) / 3.0, p.window)
    return t.c, x.ema(t.c, p.window) + way * p.multiplier * x.atr(t, p.window_atr)


pair("kc_upper_breakout", "_kc_upper", partial(_keltner, 1))
pair("_kc_lower", "kc_lower_breakout", partial(_keltner, -1))
pair("dc_upper_breakout", "_dc_upper", lambda t, p: (t.c, ago(x.most(t.h, p.window), 1), 0.0))
pair("_dc_lower", "dc_lower_breakout", lambda t, p: (t.c, ago(x.least(t.l, p.window), 1), 0.0))


def _natr(t: Tape, p: Any) -> Row:
    return 100.0 * x.atr(t, p.window) / t.c


SAYS["atr_high_volatility"] = lambda j, t, p: j.gt(_natr(t, p), p.threshold_pct)
SAYS["natr_high_volatility"] = lambda j, t, p: j.gt(_natr(t, p), p.threshold)
SAYS["natr_low_volatility"] = lambda j, t, p: j.lt(_natr(t, p), p.threshold)
SAYS["ulcer_high_risk"] = lambda j, t, p: j.gt(x.ulcer(t, p.window), p.threshold)
SAYS["ulcer_low_risk"] = lambda j, t, p: j.lt(x.ulcer(t, p.window), p.threshold)
SAYS["starc_upper_breakout"] = lambda j, t, p: j.gt(t.c, x.sma(t.c, p.window) + p.multiplier * x.atr(t, p.window_atr))
SAYS["starc_lower_breakout"] = lambda j, t, p: j.lt(t.c, x.sma(t.c, p.window) - p.multiplier * x.atr(t, p.window_atr))


def _returned(t: Tape, p: Any) -> tuple[Row, Row]:
    returned = t.c / ago(t.c, 1) - 1.0
    return returned, p.multiplier * x.deviation(returned, p.window, 1)


SAYS["volatility_stop_upper"] = lambda j, t, p: j.ge(*_returned(t, p))
SAYS["volatility_stop_lower"] = lambda j, t, p: j.le(_returned(t, p)[0], -_returned(t, p)[1])


# Volume.
def _adosc(t: Tape, p: Any) -> tuple[Row, Row, Row]:
    line = x.adl(t)
    return x.ema(line, p.fast), x.ema(line, p.slow), np.maximum.accumulate(np.cumsum(t.v))


def _kvo(t: Tape, p: Any) -> tuple[Row, Row, Row]:
    return _signal_of(x.kvo(t, p.fast, p.slow), p.signal_window, np.full(len(t), t.v.max()))


def _grown(line: Callable[[Tape], Row], t: Tape, p: Any) -> tuple[Row, Row, Row]:
    return line(t), ago(line(t), p.window - 1), np.cumsum(t.v) * 1e-3


pair("adosc_cross_up", "adosc_cross_down", _adosc)
states("adosc_bullish", "adosc_bearish", _adosc)
pair("kvo_bullish_cross", "kvo_bearish_cross", _kvo)
states("kvo_bullish", "kvo_bearish", _kvo)
states("adi_bullish", "adi_bearish", partial(_grown, x.adl))
states("obv_bullish", "obv_bearish", partial(_grown, x.obv))
states("vpt_bullish", "vpt_bearish", partial(_grown, x.vpt))
states(
    "cmf_bullish", "cmf_bearish", lambda t, p: (x.by_volume(x.place(t), t.v, p.window), p.threshold, np.ones(len(t)))
)
SAYS["force_bullish"] = lambda j, t, p: j.gt(x.ema(x.change(t.c) * t.v, p.window), p.threshold, t.c * t.v.max())
SAYS["force_bearish"] = lambda j, t, p: j.lt(x.ema(x.change(t.c) * t.v, p.window), -p.threshold, t.c * t.v.max())
SAYS["eom_bullish"] = lambda j, t, p: j.gt(x.sma(x.emv(t), p.window), p.threshold, _ease_scale(t, p))
SAYS["eom_bearish"] = lambda j, t, p: j.lt(x.sma(x.emv(t), p.window), -p.threshold, _ease_scale(t, p))


def _ease_scale(t: Tape, p: Any) -> Row:
    return x.sma(np.abs(x.emv(t)), p.window)


states("nvi_bullish", "nvi_bearish", lambda t, p: (x.nvi(t), x.ema(x.nvi(t), p.window)))
states("mfi_overbought", "mfi_oversold", lambda t, p: (x.mfi(t, p.window), p.threshold))
states("vwap_above", "vwap_below", lambda t, p: (t.c, x.by_volume((t.h + t.l + t.c) / 3.0, t.v, p.window)))
SAYS["daily_return_positive"] = lambda j, t, p: j.gt(x.roc(t.c, 1), p.threshold, _hundred(t))
SAYS["daily_return_negative"] = lambda j, t, p: j.lt(x.roc(t.c, 1), -p.threshold, _hundred(t))
SAYS["cumulative_return_positive"] = lambda j, t, p: j.gt(100.0 * (t.c / t.c[0] - 1.0), p.threshold, _hundred(t))
SAYS["cumulative_return_target"] = lambda j, t, p: j.ge(100.0 * (t.c / t.c[0] - 1.0), p.target, _hundred(t))
# Only their crossings are signals, and some pairs have but one side.
for _name in [name for name in SAYS if name.startswith("_") or name == "is_above_wma"]:
    del SAYS[_name]


def said(name: str, judge: Judge, tape: Tape, params: dict[str, Any]) -> Row:
    """Return what a signal says at each candle, as the judge sees it."""
    with np.errstate(all="ignore"):
        return SAYS[name](judge, tape, SimpleNamespace(**params))
