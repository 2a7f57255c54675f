"""Signals: candles a second over a year of minutes, and what a live candle costs when all of them are asked."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any, Final

import msgspec

from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.signals.catalogue.asking import signal
from pipaid.signals.catalogue.lookup import SIGNALS, rule
from pipaid.signals.series import BLOCK, Series
from tests.bench.child import answer, in_child
from tests.bench.columns import made
from tests.bench.figure import Figure, Size

# What must be given to some of them.
GIVEN: Final = {"window_fast": 9, "window_slow": 21, "window": 20}
TYPICAL: Final = (
    "rsi_oversold",
    "is_above_sma",
    "ema_cross_up",
    "macd_bullish_cross",
    "stoch_oversold",
    "atr_high_volatility",
    "bb_upper_breakout",
    "obv_bullish",
    "bullish_engulfing_trigger",
    "adx_strong_trend",
    "supertrend_flip_up",
    "psar_reversal",
    "mama_cross_up",
)
WATCHERS: Final = 1_000


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """How many candles one child computes over."""

    candles: int


def measure(size: Size) -> list[Figure]:
    """Ask typical signals by column, all of them live, and one for many, in fresh processes."""
    runs = [in_child("signals", Work(candles=size.column_candles)) for _ in range(size.runs)]

    def figure(name: str, unit: str, note: str) -> Figure:
        return Figure(name=name, unit=unit, values=tuple(run[name] for run in runs), note=note)

    candles = f"{size.column_candles} candles"
    return [
        *(figure(name, "candles/s CPU", candles) for name in TYPICAL),
        figure("all signals live", "us CPU a candle", f"{len(SIGNALS)} on one series, whole blocks with their turns"),
        figure("one signal live", "us CPU a candle", f"macd_bullish_cross for {WATCHERS} who watch it"),
    ]


def main(arguments: str) -> None:
    """Compute, and answer with the numbers."""
    work = msgspec.json.decode(arguments, type=Work)
    candles = made(work.candles)
    numbers = {name: work.candles / _cpu_s(candles, name) for name in TYPICAL}
    few = made(min(work.candles, 3 * BLOCK))
    numbers["all signals live"] = _live_us(few, [(name, 1) for name in SIGNALS])
    numbers["one signal live"] = _live_us(few, [("macd_bullish_cross", WATCHERS)])
    answer(numbers)


def _cpu_s(candles: Candles, name: str) -> float:
    ask = partial(signal, name, candles, **_given(name))
    begun_s = time.process_time()
    ask()
    return time.process_time() - begun_s


def _live_us(candles: Candles, asked: list[tuple[str, int]]) -> float:
    """Return what a candle costs once a third of them has been seen."""
    series = Series(candles.symbol, candles.timeframe)
    for name, watchers in asked:
        anchor = 100.0 if SIGNALS[name].anchored else None
        condition = rule(name, _given(name), timeframe=Timeframe.M1, anchor=anchor).condition
        for number in range(watchers):
            series.watch(condition, (name, number))
    first = len(candles) // 3
    rest = list(candles)[first:]
    for candle in candles.between(0, candles.time_ms.item(first)):
        series.append(candle)
    begun_s = time.process_time()
    for candle in rest:
        series.append(candle)
        series.due()
    return 1e6 * (time.process_time() - begun_s) / len(rest)


def _given(name: str) -> dict[str, Any]:
    return {knob.name: GIVEN[knob.name] for knob in SIGNALS[name].knobs if knob.required}


if __name__ == "__main__":
    main(sys.argv[1])
