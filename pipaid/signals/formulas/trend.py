"""What tells which way prices are heading, and where that turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from pipaid.signals.formulas.momentum import roc
from pipaid.signals.formulas.shared import (
    MEDIAN,
    RANGE,
    SPAN_AFTER_CLOSE,
    TYPICAL,
    atr,
    epma_of,
    macd,
    middle,
    rsi,
    steady_mean,
)
from pipaid.signals.line import (
    CLOSE,
    CLOSED_MS,
    HIGH,
    LOW,
    NOTHING,
    OPEN,
    Line,
    change,
    defined,
    deviation,
    ema,
    fold,
    follow,
    highest,
    larger,
    lowest,
    mean,
    number,
    oldest_highest,
    otherwise,
    rma,
    smaller,
    spread,
    total,
    where,
    wilder,
)

# What is at most this share of what it is taken of is nothing: what rounding leaves of equal values.
FLAT_AVERAGES: Final = 1e-10
FLAT_PRICE: Final = 1e-12


def macd_histogram(window_fast: int, window_slow: int, window_sign: int) -> Line:
    """Return how far MACD lies above its signal line."""
    line = macd(window_fast, window_slow)
    return line - ema(line, window_sign)


def aroon_up(window: int) -> Line:
    """Return how recent the highest high is: 100 if it is this candle's."""
    return 100.0 * oldest_highest(HIGH, window + 1) / float(window)


def aroon_down(window: int) -> Line:
    """Return how recent the lowest low is: 100 if it is this candle's."""
    return 100.0 * oldest_highest(0.0 - LOW, window + 1) / float(window)


def aroon_lead(window: int) -> Line:
    """Return by how much the highest high is the more recent."""
    return aroon_up(window) - aroon_down(window)


def mass_reversal(window_fast: int, window_slow: int, threshold_high: float, threshold_low: float) -> Line:
    """Tell where the mass index falls through the lower threshold after it was above the higher one."""
    once = ema(RANGE, window_fast)
    mass = total(once / ema(once, window_fast), window_slow)
    return fold("bulge", mass, params=(threshold_high, threshold_low))


def tenkan_lead(window_tenkan: int, window_kijun: int) -> Line:
    """Return how far the conversion line lies above the base line."""
    return middle(window_tenkan) - middle(window_kijun)


def cloud_top(window_tenkan: int, window_kijun: int, window_senkou: int) -> Line:
    """Return the upper edge of the cloud drawn at this candle."""
    return larger((middle(window_tenkan) + middle(window_kijun)) / 2.0, middle(window_senkou))[-window_kijun]


def cloud_bottom(window_tenkan: int, window_kijun: int, window_senkou: int) -> Line:
    """Return the lower edge of the cloud drawn at this candle."""
    return smaller((middle(window_tenkan) + middle(window_kijun)) / 2.0, middle(window_senkou))[-window_kijun]


def kst_histogram(
    *,
    roc1: int,
    roc2: int,
    roc3: int,
    roc4: int,
    window_sma1: int,
    window_sma2: int,
    window_sma3: int,
    window_sma4: int,
    nsig: int,
) -> Line:
    """Return how far Pring's "know sure thing" lies above its signal line."""
    line = (
        mean(roc(roc1), window_sma1)
        + 2.0 * mean(roc(roc2), window_sma2)
        + 3.0 * mean(roc(roc3), window_sma3)
        + 4.0 * mean(roc(roc4), window_sma4)
    )
    return line - mean(line, nsig)


def vortex_lead(window: int) -> Line:
    """Return how far the upward vortex lies above the downward one."""
    span = total(SPAN_AFTER_CLOSE, window)
    return total(abs(HIGH - LOW[-1]), window) / span - total(abs(LOW - HIGH[-1]), window) / span


def psar(step: float, max_step: float) -> Line:
    """Return the parabolic stop and reverse."""
    return fold("psar", HIGH, LOW, params=(step, max_step))


def psar_flip(step: float, max_step: float) -> Line:
    """Return 1 where the parabolic stop goes from above the close to below it, and -1 the other way."""
    stop = psar(step, max_step)
    up = (stop[-1] > CLOSE[-1]) & (stop < CLOSE)
    down = (stop[-1] < CLOSE[-1]) & (stop > CLOSE)
    return up - down * 1.0


def supertrend(window: int, multiplier: float) -> Line:
    """Return which way the supertrend goes: 1 or -1."""
    return fold("supertrend", CLOSE, MEDIAN, multiplier * atr(window))


def _squeezed(bb_window: int, bb_std: float, kc_window: int, kc_atr_mult: float) -> Line:
    wide, centre = bb_std * deviation(bb_window), mean(CLOSE, bb_window)
    reach, average = kc_atr_mult * atr(kc_window), ema(CLOSE, kc_window)
    return (centre + wide < average + reach) & (centre - wide > average - reach)


def squeeze(bb_window: int, bb_std: float, kc_window: int, kc_atr_mult: float) -> Line:
    """Tell where the Bollinger bands lie within the Keltner channel."""
    return _squeezed(bb_window, bb_std, kc_window, kc_atr_mult) * 1.0


def squeeze_fired(*, bb_window: int, bb_std: float, kc_window: int, kc_atr_mult: float, mom_window: int) -> Line:
    """Return the momentum where a squeeze ended with this candle, and 0 elsewhere."""
    squeezed = _squeezed(bb_window, bb_std, kc_window, kc_atr_mult)
    above = CLOSE - (middle(mom_window) + mean(CLOSE, mom_window)) / 2.0
    return where((squeezed[-1] > 0.0) & ~squeezed, epma_of(above, mom_window), 0.0)


def rsi_divergence(rsi_window: int, swing_window: int, min_swing_distance: int, kind: int) -> Line:
    """Tell where a swing is confirmed that relative strength did not join (`pipaid.signals.machines`)."""
    told = fold("swings", CLOSE, rsi(rsi_window), params=(swing_window, min_swing_distance))
    return (told >= float(kind)) & (told <= float(kind))


def _directed(window: int) -> tuple[Line, Line]:
    up, down = change(HIGH), 0.0 - change(LOW)
    risen = where(up > larger(down, 0.0), up, where(defined(up), 0.0, NOTHING))
    fallen = where(down > larger(up, 0.0), down, where(defined(up), 0.0, NOTHING))
    span = wilder(SPAN_AFTER_CLOSE, window)
    moves = [wilder(moved, window) for moved in (risen, fallen)]
    plus, minus = (where((span <= 0.0) & defined(span), 0.0, 100.0 * move / span) for move in moves)
    return plus, minus


def adx(window: int) -> Line:
    """Return the average directional index: how strong a trend is, whichever way it goes."""
    plus, minus = _directed(window)
    whole = plus + minus
    apart = where((whole <= 0.0) & defined(whole), 0.0, 100.0 * abs(plus - minus) / whole)
    return wilder(apart, window)


def di_lead(window: int) -> Line:
    """Return how far the upward directional index lies above the downward one."""
    plus, minus = _directed(window)
    return plus - minus


def trix(window: int) -> Line:
    """Return the rate of change of a threefold exponential average."""
    smooth = ema(ema(ema(CLOSE, window), window), window)
    return 100.0 * (smooth / smooth[-1] - 1.0)


def dpo(window: int) -> Line:
    """Return the detrended price oscillator."""
    return CLOSE[-(window // 2 + 1)] - mean(CLOSE, window)


def cci(window: int, constant: float) -> Line:
    """Return the commodity channel index."""
    centre = steady_mean(TYPICAL, window)
    apart = spread(TYPICAL, centre, window) / float(window)
    return where(apart > FLAT_PRICE * centre, (TYPICAL - centre) / (constant * apart), NOTHING)


def stc(*, window_slow: int, window_fast: int, cycle: int, smooth1: int, smooth2: int) -> Line:
    """Return Schaff's trend cycle."""
    once = ema(_cycled(macd(window_fast, window_slow), cycle), smooth1)
    return ema(_cycled(once, cycle), smooth2)


def _cycled(line: Line, cycle: int) -> Line:
    top, bottom = highest(line, cycle), lowest(line, cycle)
    reach = top - bottom
    flat = FLAT_AVERAGES * larger(abs(top), abs(bottom))
    return fold("held", where(reach > flat, 100.0 * (line - bottom) / reach, NOTHING))


def heikin_ashi() -> Line:
    """Return how far the averaged candle closed above its open."""
    closed = (OPEN + HIGH + LOW + CLOSE) / 4.0
    return closed - follow(otherwise(closed[-1], (OPEN + CLOSE) / 2.0), number(0.5))


def chandelier_long(window: int, multiplier: float) -> Line:
    """Return the stop that hangs below the highest high."""
    return highest(HIGH, window) - multiplier * atr(window)


def chandelier_short(window: int, multiplier: float) -> Line:
    """Return the stop that stands above the lowest low."""
    return lowest(LOW, window) + multiplier * atr(window)


def alligator(*, jaw: int, teeth: int, lips: int, jaw_offset: int, teeth_offset: int, lips_offset: int) -> Line:
    """Return 1 where lips lie above teeth and teeth above the jaw, -1 the other way round, and 0 for a tangle."""
    slow, medium, fast = (
        rma(MEDIAN, jaw)[-jaw_offset],
        rma(MEDIAN, teeth)[-teeth_offset],
        rma(MEDIAN, lips)[-lips_offset],
    )
    up, down = (fast > medium) & (medium > slow), (fast < medium) & (medium < slow)
    return where(defined(slow + medium + fast), up - down * 1.0, NOTHING)


def alligator_asleep(*, jaw: int, teeth: int, lips: int, jaw_offset: int, teeth_offset: int, lips_offset: int) -> Line:
    """Tell where the alligator's three lines are a tangle."""
    order = alligator(
        jaw=jaw,
        teeth=teeth,
        lips=lips,
        jaw_offset=jaw_offset,
        teeth_offset=teeth_offset,
        lips_offset=lips_offset,
    )
    return (order >= 0.0) & (order <= 0.0)


def ribbon(*windows: int) -> Line:
    """Return 1 where each simple average lies above that of the next longer window, -1 where below, and else 0."""
    averages = [mean(CLOSE, window) for window in windows]
    up = down = defined(averages[-1])
    for shorter, longer in pairwise(averages):
        up, down = up & (shorter > longer), down & (shorter < longer)
    return where(defined(averages[-1]), up - down * 1.0, NOTHING)


def ribbon_tangled(*windows: int) -> Line:
    """Tell where the averages of a ribbon are in no order."""
    order = ribbon(*windows)
    return (order >= 0.0) & (order <= 0.0)


def period_trend(period_ms: float, offset_ms: float, window: int) -> Line:
    """Return the slope of the exponential average of longer periods' closes, as a share of its usual height."""
    return fold("period_trend", CLOSE, CLOSED_MS, params=(period_ms, offset_ms, window))


LINES: Final[Mapping[str, Callable[..., Line]]] = MappingProxyType(
    {
        "macd_histogram": macd_histogram,
        "aroon_up": aroon_up,
        "aroon_down": aroon_down,
        "aroon_lead": aroon_lead,
        "mass_reversal": mass_reversal,
        "tenkan_lead": tenkan_lead,
        "cloud_top": cloud_top,
        "cloud_bottom": cloud_bottom,
        "kst_histogram": kst_histogram,
        "vortex_lead": vortex_lead,
        "psar": psar,
        "psar_flip": psar_flip,
        "supertrend": supertrend,
        "squeeze": squeeze,
        "squeeze_fired": squeeze_fired,
        "rsi_divergence": rsi_divergence,
        "adx": adx,
        "di_lead": di_lead,
        "trix": trix,
        "dpo": dpo,
        "cci": cci,
        "stc": stc,
        "heikin_ashi": heikin_ashi,
        "chandelier_long": chandelier_long,
        "chandelier_short": chandelier_short,
        "alligator": alligator,
        "alligator_asleep": alligator_asleep,
        "ribbon": ribbon,
        "ribbon_tangled": ribbon_tangled,
        "period_trend": period_trend,
    }
)
