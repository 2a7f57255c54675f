"""Signals with params drawn at random within their bounds, and what they say live and by column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pipaid.model.candle import Candle
from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.signals.catalogue.declare import PERIODS, Knob, Signal
from pipaid.signals.catalogue.lookup import FAST_AND_SLOW, SIGNALS, Rule, rule
from pipaid.signals.columns import Columns
from pipaid.signals.series import BLOCK, Condition, Series

# What must be given has no default; these serve wherever no other is meant.
GIVEN = {"window_fast": 9, "window_slow": 21, "window": 20}


def default_params(signal: Signal) -> dict[str, Any]:
    """Return what must be given to a signal, and nothing else."""
    return {knob.name: GIVEN[knob.name] for knob in signal.knobs if knob.required}


def default_rules(timeframe: Timeframe, *, anchor: float) -> dict[str, Rule]:
    """Return every signal as it is asked without any params that need not be given."""
    return {
        name: rule(name, default_params(signal), timeframe=timeframe, anchor=anchor if signal.anchored else None)
        for name, signal in SIGNALS.items()
    }


@st.composite
def params_of(draw: st.DrawFn, signal: Signal) -> dict[str, Any]:
    """Draw a value for every param of a signal, from bound to bound."""
    params = {knob.name: draw(_values(knob)) for knob in signal.knobs}
    for fast, slow in FAST_AND_SLOW:
        if fast in params and slow in params and params[fast] >= params[slow]:
            params[fast] = max(int(signal.knob[fast].low or 1), min(params[fast], int(signal.knob[slow].high or 1) - 1))
            params[slow] = draw(st.integers(params[fast] + 1, int(signal.knob[slow].high or 1)))
            low = int(signal.knob[slow].low or 1)
            params[slow] = max(params[slow], low)
    return params


def _values(knob: Knob) -> st.SearchStrategy[Any]:
    low, high = knob.low or 0, knob.high or 0
    match knob.kind:
        case "flag":
            return st.booleans()
        case "direction":
            return st.sampled_from(["bullish", "bearish"])
        case "timeframe":
            # The larger candles stand in for themselves: whatever asks, they are of the one timeframe.
            return st.sampled_from(sorted(name for name in PERIODS if PERIODS[name].ms % Timeframe.H1.ms == 0))
        case "windows":
            windows = st.integers(int(low), 60)
            return st.lists(windows, min_size=2, max_size=5, unique=True).map(sorted)
        case "whole":
            # Most of the time small enough for a few hundred candles.
            least = int(low)
            return st.one_of(st.integers(least, min(int(high), least + 12)), st.integers(least, int(high)))
        case _:
            return st.floats(low, high, allow_nan=False)


def said_live(
    candles: Sequence[Candle], conditions: Iterable[Condition], block: int = BLOCK
) -> Mapping[Condition, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return at which candles conditions hold, asked of a series after each."""
    series = Series(candles[0].symbol, candles[0].timeframe, block=block)
    asked = dict.fromkeys(conditions)
    for condition in asked:
        series.watch(condition, condition)
    held = {condition: np.zeros(len(candles), dtype=np.bool_) for condition in asked}
    for place, candle in enumerate(candles):
        series.append(candle)
        for who in series.due():
            assert isinstance(who, Condition)
            held[who][place] = True
    return held


def said_by_column(
    candles: Sequence[Candle], conditions: Iterable[Condition], block: int = BLOCK
) -> Mapping[Condition, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return at which candles conditions hold, worked out over all of them at once."""
    columns = Columns(Candles.from_candles(candles), block=block)
    return {condition: columns.holds(condition) for condition in conditions}
