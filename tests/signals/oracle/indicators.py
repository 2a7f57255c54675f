"""Indicators written down from their definitions: whole arrays, window by window, as slowly as it is plain."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tests.signals.oracle.tape import Row, Tape, ago

nan = math.nan


def rolled(x: Row, n: int, of_window: Callable[[Row], Row]) -> Row:
    """Return a function of each whole window, undefined before the first."""
    out = np.full(len(x), nan)
    if len(x) >= n:
        out[n - 1 :] = of_window(sliding_window_view(x, n))
    return out


def sma(x: Row, n: int) -> Row:
    return rolled(x, n, lambda windows: windows.mean(axis=1))


def total(x: Row, n: int) -> Row:
    return rolled(x, n, lambda windows: windows.sum(axis=1))


def most(x: Row, n: int) -> Row:
    return rolled(x, n, lambda windows: windows.max(axis=1))


def least(x: Row, n: int) -> Row:
    return rolled(x, n, lambda windows: windows.min(axis=1))


def smoothed(x: Row, alpha: float, n: int) -> Row:
    out, level, known = np.full(len(x), nan), nan, 0
    for i, number in enumerate(x.tolist()):
        if not math.isnan(number):
            level = level + alpha * (number - level) if known else number
            known += 1
        if known >= n:
            out[i] = level
    return out


def ema(x: Row, n: int) -> Row:
    return smoothed(x, 2 / (n + 1), n)


def rma(x: Row, n: int) -> Row:
    return smoothed(x, 1 / n, n)


def change(x: Row) -> Row:
    return x - ago(x, 1)


def true_range(t: Tape) -> Row:
    before = ago(t.c, 1)
    spans = np.maximum(t.h, before) - np.minimum(t.l, before)
    spans[0] = t.h[0] - t.l[0]
    return spans


def atr(t: Tape, n: int) -> Row:
    spans, out = true_range(t), np.full(len(t), nan)
    if len(t) >= n:
        out[n - 1] = spans[:n].mean()
        for i in range(n, len(t)):
            out[i] = out[i - 1] + (spans[i] - out[i - 1]) / n
    return out


def rsi(t: Tape, n: int) -> Row:
    moved = change(t.c)
    moved[0] = 0.0
    gain, loss = rma(np.maximum(moved, 0.0), n), rma(np.maximum(-moved, 0.0), n)
    whole = gain + loss
    return np.where(whole == 0.0, 50.0, 100.0 * gain / whole)


def percent_k(t: Tape, n: int) -> Row:
    top, bottom = most(t.h, n), least(t.l, n)
    return np.where(top > bottom, 100.0 * (t.c - bottom) / (top - bottom), nan)


def stoch_rsi(t: Tape, n: int) -> Row:
    strength = rsi(t, n)
    top, bottom = most(strength, n), least(strength, n)
    return np.where(top - bottom > 1e-9 * top, (strength - bottom) / (top - bottom), nan)


def tsi(t: Tape, slow: int, fast: int) -> Row:
    moved = change(t.c)
    below = ema(ema(np.abs(moved), slow), fast)
    return np.where(below == 0.0, nan, 100.0 * ema(ema(moved, slow), fast) / below)


def ultimate(t: Tape, windows: tuple[int, int, int]) -> Row:
    before = ago(t.c, 1)
    before[0] = t.c[0]
    pressure = t.c - np.minimum(t.l, before)
    pressure[0] = t.c[0] - t.l[0]
    parts = [total(pressure, n) / total(true_range(t), n) for n in windows]
    return 100.0 * (4.0 * parts[0] + 2.0 * parts[1] + parts[2]) / 7.0


def roc(x: Row, n: int) -> Row:
    return 100.0 * (x / ago(x, n) - 1.0)


def ao(t: Tape, fast: int, slow: int) -> Row:
    middle = (t.h + t.l) / 2.0
    return sma(middle, fast) - sma(middle, slow)


def oscillator(x: Row, fast: int, slow: int) -> Row:
    slower = ema(x, slow)
    return np.where(slower == 0.0, nan, 100.0 * (ema(x, fast) - slower) / slower)


def cmo(t: Tape, n: int) -> Row:
    moved = change(t.c)
    moved[0] = 0.0
    gains, losses = total(np.maximum(moved, 0.0), n), total(np.maximum(-moved, 0.0), n)
    return np.where(gains + losses == 0.0, nan, 100.0 * (gains - losses) / (gains + losses))


def kama(t: Tape, n: int, p1: int, p2: int) -> Row:
    c, out = t.c.tolist(), np.full(len(t), nan)
    if len(c) < n:
        return out
    out[n - 1] = c[n - 1]
    for i in range(n, len(c)):
        path = sum(abs(c[j] - c[j - 1]) for j in range(i - n + 1, i + 1))
        straight = abs(c[i] - c[i - n]) / path if path else 0.0
        share = straight * (2 / (p1 + 1) - 2 / (p2 + 1)) + 2 / (p2 + 1)
        out[i] = out[i - 1] + share**2 * (c[i] - out[i - 1])
    return out


def weighted(x: Row, weights: Row) -> Row:
    return rolled(x, len(weights), lambda windows: (windows * weights).sum(axis=1))


def wma(x: Row, n: int) -> Row:
    return weighted(x, np.arange(1, n + 1) / (n * (n + 1) / 2))


def dema(x: Row, n: int) -> Row:
    return 2.0 * ema(x, n) - ema(ema(x, n), n)


def tema(x: Row, n: int) -> Row:
    once, twice = ema(x, n), ema(ema(x, n), n)
    return 3.0 * once - 3.0 * twice + ema(twice, n)


def trima(x: Row, n: int) -> Row:
    first = (n + 1) // 2
    return sma(sma(x, first), n + 1 - first)


def epma(x: Row, n: int) -> Row:
    i = np.arange(n)
    return weighted(x, (6.0 * i + 4.0 - 2.0 * n) / (n * (n + 1)))


def hma(x: Row, n: int) -> Row:
    return wma(2.0 * wma(x, max(1, n // 2)) - wma(x, n), max(1, int(math.sqrt(n))))


def alma(x: Row, n: int, offset: float, sigma: float) -> Row:
    middle, width = math.floor(offset * (n - 1)), n / sigma
    weights = np.exp(-((np.arange(n) - middle) ** 2) / (2.0 * width**2))
    return weighted(x, weights / weights.sum())


def t3(x: Row, n: int, a: float) -> Row:
    levels = [x]
    for _ in range(6):
        levels.append(ema(levels[-1], n))
    return (
        -(a**3) * levels[6]
        + (3 * a**2 + 3 * a**3) * levels[5]
        + (-6 * a**2 - 3 * a - 3 * a**3) * levels[4]
        + (1 + a) ** 3 * levels[3]
    )


def by_volume(x: Row, v: Row, n: int) -> Row:
    volume = total(v, n)
    return np.where(volume == 0.0, nan, total(x * v, n) / volume)


def mama(t: Tape, fast: float, slow: float) -> tuple[Row, Row]:
    """Ehlers' adaptive average and the one that follows it."""
    count, c = len(t), t.c.tolist()
    smooth, det, q1, i1, i2, q2, re, im, period, phase = ([0.0] * count for _ in range(10))
    mamas, famas = list(c), list(c)

    def turned(y: list[float], i: int) -> float:
        was = [y[i - k] if i >= k else 0.0 for k in (0, 2, 4, 6)]
        return 0.0962 * was[0] + 0.5769 * was[1] - 0.5769 * was[2] - 0.0962 * was[3]

    for i in range(6, count):
        g = 0.075 * period[i - 1] + 0.54
        smooth[i] = (4 * c[i] + 3 * c[i - 1] + 2 * c[i - 2] + c[i - 3]) / 10
        det[i] = g * turned(smooth, i)
        q1[i], i1[i] = g * turned(det, i), det[i - 3]
        i2[i] = 0.2 * (i1[i] - g * turned(q1, i)) + 0.8 * i2[i - 1]
        q2[i] = 0.2 * (q1[i] + g * turned(i1, i)) + 0.8 * q2[i - 1]
        re[i] = 0.2 * (i2[i] * i2[i - 1] + q2[i] * q2[i - 1]) + 0.8 * re[i - 1]
        im[i] = 0.2 * (i2[i] * q2[i - 1] - q2[i] * i2[i - 1]) + 0.8 * im[i - 1]
        p = 360 / math.degrees(math.atan(im[i] / re[i])) if re[i] and im[i] else period[i - 1]
        p = max(min(p, 1.5 * period[i - 1]), 0.67 * period[i - 1])
        period[i] = 0.2 * min(max(p, 6.0), 50.0) + 0.8 * period[i - 1]
        phase[i] = math.degrees(math.atan(q1[i] / i1[i])) if i1[i] else phase[i - 1]
        share = min(max(fast / max(phase[i - 1] - phase[i], 1.0), slow), fast) if slow <= fast else slow
        mamas[i] = mamas[i - 1] + share * (c[i] - mamas[i - 1])
        famas[i] = famas[i - 1] + share / 2 * (mamas[i] - famas[i - 1])
    return np.array(mamas), np.array(famas)


def aroon(x: Row, n: int) -> Row:
    """How recent the extreme of a row is, which is its largest; of equal ones the oldest counts."""
    return rolled(x, n + 1, lambda windows: 100.0 * windows.argmax(axis=1) / n)


def middle(t: Tape, n: int) -> Row:
    return (most(t.h, n) + least(t.l, n)) / 2.0


def cci(t: Tape, n: int, k: float) -> Row:
    typical = (t.h + t.l + t.c) / 3.0

    def of(windows: Row) -> Row:
        centre = windows.mean(axis=1)
        apart = np.abs(windows - centre[:, None]).mean(axis=1)
        return np.where(apart <= 1e-12 * centre, nan, (windows[:, -1] - centre) / (k * apart))

    return rolled(typical, n, of)


def wilder(x: Row, n: int) -> Row:
    """Wilder's smoothing of the defined numbers, from the mean of the first ones on."""
    out, first = np.full(len(x), nan), int(np.argmax(~np.isnan(x)))
    if len(x) - first >= n:
        out[first + n - 1] = x[first : first + n].mean()
        for i in range(first + n, len(x)):
            out[i] = out[i - 1] + (x[i] - out[i - 1]) / n
    return out


def directed(t: Tape, n: int) -> tuple[Row, Row, Row]:
    """The two directional indices, and the average directional index."""
    up, down = change(t.h), -change(t.l)
    plus = np.where((up > down) & (up > 0), up, 0.0)
    minus = np.where((down > up) & (down > 0), down, 0.0)
    spans = true_range(t)
    plus[0] = minus[0] = spans[0] = nan
    span = wilder(spans, n)
    di = [np.where(span == 0.0, 0.0, 100.0 * wilder(moved, n) / span) for moved in (plus, minus)]
    whole = di[0] + di[1]
    dx = np.where(whole == 0.0, 0.0, 100.0 * np.abs(di[0] - di[1]) / whole)
    return di[0], di[1], wilder(dx, n)


def vortex(t: Tape, n: int) -> tuple[Row, Row]:
    span = total(true_range(t), n)
    plus, minus = np.abs(t.h - ago(t.l, 1)), np.abs(t.l - ago(t.h, 1))
    return tuple(np.where(span == 0.0, nan, total(moved, n) / span) for moved in (plus, minus))  # type: ignore[return-value]  # Two.


def psar(t: Tape, step: float, most_step: float) -> Row:
    h, low, out = t.h.tolist(), t.l.tolist(), np.full(len(t), nan)
    if len(h) < 2:
        return out
    fallen, risen = low[0] - low[1], h[1] - h[0]
    rising, af = not (fallen > 0 and fallen > risen), step
    s, ep = (low[0], h[1]) if rising else (h[0], low[1])
    for i in range(1, len(h)):
        if rising and low[i] <= s:
            rising, s, af, ep = False, max(ep, h[i - 1], h[i]), step, low[i]
            out[i] = s
            s = max(s + af * (ep - s), h[i - 1], h[i])
        elif rising:
            out[i] = s
            if h[i] > ep:
                ep, af = h[i], min(af + step, most_step)
            s = min(s + af * (ep - s), low[i - 1], low[i])
        elif h[i] >= s:
            rising, s, af, ep = True, min(ep, low[i - 1], low[i]), step, h[i]
            out[i] = s
            s = min(s + af * (ep - s), low[i - 1], low[i])
        else:
            out[i] = s
            if low[i] < ep:
                ep, af = low[i], min(af + step, most_step)
            s = max(s + af * (ep - s), h[i - 1], h[i])
    return out


def stc(t: Tape, fast: int, slow: int, cycle: int, smooths: tuple[int, int]) -> Row:
    def cycled(x: Row) -> Row:
        top, bottom, out = most(x, cycle), least(x, cycle), np.full(len(x), nan)
        for i in range(len(x)):
            if math.isnan(top[i]) or top[i] - bottom[i] <= 1e-10 * max(abs(top[i]), abs(bottom[i])):
                out[i] = out[i - 1] if i else nan
            else:
                out[i] = 100.0 * (x[i] - bottom[i]) / (top[i] - bottom[i])
        return out

    return ema(cycled(ema(cycled(ema(t.c, fast) - ema(t.c, slow)), smooths[0])), smooths[1])


def heikin_ashi(t: Tape) -> tuple[Row, Row]:
    """Opens and closes of averaged candles."""
    closes = (t.o + t.h + t.l + t.c) / 4.0
    opens = np.empty(len(t))
    for i in range(len(t)):
        opens[i] = (opens[i - 1] + closes[i - 1]) / 2.0 if i else (t.o[0] + t.c[0]) / 2.0
    return opens, closes


def supertrend(t: Tape, n: int, k: float) -> Row:
    gap, out, direction = k * atr(t, n), np.zeros(len(t)), 1
    low = (t.h + t.l) / 2.0 - gap
    high = (t.h + t.l) / 2.0 + gap
    for i in range(n, len(t)):
        if t.c[i] > high[i - 1]:
            direction = 1
        elif t.c[i] < low[i - 1]:
            direction = -1
        elif direction == 1:
            low[i] = max(low[i], low[i - 1])
        else:
            high[i] = min(high[i], high[i - 1])
        out[i] = direction
    return out


def trailing_stop(t: Tape, n: int, k: float) -> Row:
    gap, out, stop = k * atr(t, n), np.zeros(len(t)), nan
    for i in range(n, len(t)):
        side = out[i - 1]
        if not side:
            out[i] = 1 if t.c[i] >= t.c[i - 1] else -1
            stop = t.c[i] - out[i] * gap[i]
        elif side == 1:
            out[i] = -1 if t.c[i] < stop else 1
            stop = t.c[i] + gap[i] if out[i] == -1 else max(stop, t.c[i] - gap[i])
        else:
            out[i] = 1 if t.c[i] > stop else -1
            stop = t.c[i] - gap[i] if out[i] == 1 else min(stop, t.c[i] + gap[i])
    return out


def deviation(x: Row, n: int, ddof: int) -> Row:
    return rolled(x, n, lambda windows: windows.std(axis=1, ddof=ddof))


def ulcer(t: Tape, n: int) -> Row:
    tops = np.array([t.c[max(0, i - n + 1) : i + 1].max() for i in range(len(t))])
    return np.sqrt(sma((100.0 * (t.c / tops - 1.0)) ** 2, n))


def place(t: Tape) -> Row:
    """Where in its range a candle closed, from -1 to 1."""
    span = t.h - t.l
    return np.where(span == 0.0, 0.0, (2.0 * t.c - t.h - t.l) / span)


def adl(t: Tape) -> Row:
    return np.cumsum(place(t) * t.v)


def obv(t: Tape) -> Row:
    signs = np.sign(change(t.c))
    signs[0] = 1.0
    return np.cumsum(signs * t.v)


def vpt(t: Tape) -> Row:
    flow = t.v * (t.c / ago(t.c, 1) - 1.0)
    out = np.cumsum(flow[1:])
    return np.concatenate(([nan], out))


def nvi(t: Tape) -> Row:
    out = np.full(len(t), 1000.0)
    for i in range(1, len(t)):
        out[i] = out[i - 1] * (t.c[i] / t.c[i - 1] if t.v[i] < t.v[i - 1] else 1.0)
    return out


def typical_sign(t: Tape) -> Row:
    typical = (t.h + t.l + t.c) / 3.0
    moved = change(typical)
    moved[0] = 0.0
    return np.where(np.abs(moved) <= 1e-12 * typical, 0.0, np.sign(moved))


def mfi(t: Tape, n: int) -> Row:
    flow, sign = (t.h + t.l + t.c) / 3.0 * t.v, typical_sign(t)
    gained, lost = total(np.where(sign > 0, flow, 0.0), n), total(np.where(sign < 0, flow, 0.0), n)
    return np.where(gained + lost == 0.0, nan, 100.0 * gained / (gained + lost))


def kvo(t: Tape, fast: int, slow: int) -> Row:
    signed = t.v * typical_sign(t)
    return ema(signed, fast) - ema(signed, slow)


def emv(t: Tape) -> Row:
    return np.where(t.v == 0.0, nan, 1e8 * (change(t.h) + change(t.l)) * (t.h - t.l) / (2.0 * t.v))


def higher_trend(t: Tape, period_ms: int, offset_ms: int, n: int) -> Row:
    """The slope of an average of longer periods' closes, known at the close of a period's last candle."""
    period = (t.closed_ms - 1 - offset_ms) // period_ms
    ends = t.closed_ms == (period + 1) * period_ms + offset_ms
    closes: list[float] = []
    # How many periods are complete at each candle: one whose last candle is missing is over when a later one has any.
    complete = np.zeros(len(t), dtype=int)
    for i in range(len(t)):
        if i and period[i] != period[i - 1] and not ends[i - 1]:
            closes.append(t.c[i - 1])
        if ends[i]:
            closes.append(t.c[i])
        complete[i] = len(closes)
    averages = ema(np.array(closes), n)
    slopes = np.full(len(closes) + 1, nan)
    for k in range(n + 1, len(closes) + 1):
        heights = np.abs(averages[max(0, k - n) : k])
        slopes[k] = (averages[k - 1] - averages[k - 2]) / heights[~np.isnan(heights)].mean()
    return slopes[complete]
