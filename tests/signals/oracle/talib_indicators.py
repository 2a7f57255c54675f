"""TA-Lib's indicators under the names of the definitions in `indicators`."""

from __future__ import annotations

import numpy as np
import talib

from tests.signals.oracle.tape import Row, Tape


def sma(x: Row, n: int) -> Row:
    return talib.SMA(x, n) if n > 1 else x


def ema(x: Row, n: int) -> Row:
    return talib.EMA(x, n) if n > 1 else x


def rsi(t: Tape, n: int) -> Row:
    return talib.RSI(t.c, n)


def percent_k(t: Tape, n: int) -> Row:
    return talib.STOCHF(t.h, t.l, t.c, n, 1)[0]


def stoch_rsi(t: Tape, n: int) -> Row:
    return talib.STOCHRSI(t.c, n, n, 1)[0] / 100.0


def ultimate(t: Tape, windows: tuple[int, int, int]) -> Row:
    return talib.ULTOSC(t.h, t.l, t.c, *windows)


def roc(x: Row, n: int) -> Row:
    return talib.ROC(x, n)


def kama(t: Tape, n: int, p1: int, p2: int) -> Row:
    assert (p1, p2) == (2, 30), "theirs knows no others"
    return talib.KAMA(t.c, n)


def wma(x: Row, n: int) -> Row:
    return talib.WMA(x, n) if n > 1 else x


def dema(x: Row, n: int) -> Row:
    return talib.DEMA(x, n)


def tema(x: Row, n: int) -> Row:
    return talib.TEMA(x, n)


def trima(x: Row, n: int) -> Row:
    return talib.TRIMA(x, n)


def epma(x: Row, n: int) -> Row:
    return talib.LINEARREG(x, n)


def t3(x: Row, n: int, a: float) -> Row:
    return talib.T3(x, n, a)


def mama(t: Tape, fast: float, slow: float) -> tuple[Row, Row]:
    return talib.MAMA(t.c, fast, slow)


def cci(t: Tape, n: int, k: float) -> Row:
    return talib.CCI(t.h, t.l, t.c, n) * (0.015 / k)


def directed(t: Tape, n: int) -> tuple[Row, Row, Row]:
    columns = t.h, t.l, t.c, n
    return talib.PLUS_DI(*columns), talib.MINUS_DI(*columns), talib.ADX(*columns)


def psar(t: Tape, step: float, most_step: float) -> Row:
    return talib.SAR(t.h, t.l, step, most_step)


def atr(t: Tape, n: int) -> Row:
    return talib.ATR(t.h, t.l, t.c, n)


def deviation(x: Row, n: int, ddof: int) -> Row:
    return talib.STDDEV(x, n) * np.sqrt(n / (n - ddof))


def adl(t: Tape) -> Row:
    return talib.AD(t.h, t.l, t.c, t.v)


def obv(t: Tape) -> Row:
    return talib.OBV(t.c, t.v)


def mfi(t: Tape, n: int) -> Row:
    return talib.MFI(t.h, t.l, t.c, t.v, n)


OURS = (sma, ema, rsi, percent_k, stoch_rsi, ultimate, roc, kama, wma, dema, tema, trima, epma, t3, mama, cci, directed,
        psar, atr, deviation, adl, obv, mfi)  # fmt: skip
