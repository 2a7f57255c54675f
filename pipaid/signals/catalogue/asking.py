"""A signal asked of a whole column of candles, for scripts."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipaid.model.columns import Candles
from pipaid.signals.catalogue.declare import SignalType
from pipaid.signals.catalogue.lookup import Rule, find, rule
from pipaid.signals.columns import Columns, Truths


def signal(name: str, candles: Candles, *, as_trigger: bool = False, **params: Any) -> Truths:
    """Return at which candles a signal is true; raise InvalidParameter for what it does not take.

    With `as_trigger`, a FILTER is true only where it begins to hold. Returns that add up begin at the first candle.
    """
    anchor = float(candles.floats("close")[0]) if len(candles) else 1.0
    asked = rule(
        name,
        params,
        timeframe=candles.timeframe,
        type=SignalType.TRIGGER if as_trigger else None,
        anchor=anchor if find(name).anchored else None,
    )
    return held(asked, candles)


def held(asked: Rule, candles: Candles) -> Truths:
    """Return at which candles a rule holds, by the last larger candle closed then if it is about larger ones."""
    larger = candles.larger(asked.timeframe)
    truths = Columns(larger).holds(asked.condition)
    if larger is candles or not len(candles):
        return truths
    ends, closes = larger.time_ms + larger.timeframe.ms, candles.time_ms + candles.timeframe.ms
    places = np.searchsorted(ends, closes, side="right") - 1
    found: Truths = (places >= 0) & truths[np.maximum(places, 0)]
    if asked.type is SignalType.TRIGGER:
        # It is true once, at the candle that closed the larger one.
        found &= np.diff(places, prepend=-1) > 0
    return found
