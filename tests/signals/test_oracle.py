"""Each signal says what its definition says, at every candle from the first on, rounding ties aside."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from pipaid.model.candle import Candle
from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.signals.catalogue.declare import PERIODS, Knob, Signal
from pipaid.signals.catalogue.lookup import FAST_AND_SLOW, SIGNALS, checked, rule
from pipaid.signals.columns import Columns
from tests.signals.candles import eurusd_hours, restless
from tests.signals.drawn import default_params
from tests.signals.oracle import patterns
from tests.signals.oracle.says import SAYS, said
from tests.signals.oracle.tape import SLACK, Judge, Row, Tape

# So many candles are one block, so that nothing is anchored anew.
WHOLE = 2**20
HOURS = 2_500
# Of real candles, so many rows at least prove something; equal prices and flat stretches are ties.
SURE_SHARE = {"real": 0.98, "restless": 0.75}


@lru_cache(maxsize=1)
def tapes(path: Path) -> dict[str, tuple[Columns, Tape]]:
    real, made = eurusd_hours(path)[:HOURS], restless(HOURS)
    return {"real": both(real), "restless": both(made)}


def both(candles: Sequence[Candle]) -> tuple[Columns, Tape]:
    return Columns(Candles.from_candles(candles), block=WHOLE), Tape.of(candles)


def compared(name: str, params: dict[str, Any], columns: Columns, tape: Tape) -> tuple[Row, Row]:
    """Return what a signal says, and where that proves something, holding it to the oracle there."""
    signal = SIGNALS[name]
    anchor = float(tape.c[0]) if signal.anchored else None
    asked = rule(name, params, timeframe=Timeframe.H1, anchor=anchor)
    given = checked(signal, params)
    early, late = (said(name, Judge(slack), tape, given) for slack in (SLACK, -SLACK))
    sure = early == late
    found = columns.holds(asked.condition)
    wrong = np.flatnonzero(sure & (found != early))
    assert not len(wrong), f"{name} {params}: {len(wrong)} candles differ from the definition, first {wrong[:5]}"
    return found, sure


def test_every_signal_has_an_oracle_and_every_oracle_a_signal() -> None:
    assert SAYS.keys() == SIGNALS.keys()
    assert patterns.SHAPES.keys() | patterns.RECENT.keys() == {
        name for name, signal in SIGNALS.items() if signal.group == "patterns"
    }


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_a_signal_says_what_its_definition_says(name: str, eurusd_hours_csv: Path) -> None:
    told: set[bool] = set()
    for kind, (columns, tape) in tapes(eurusd_hours_csv).items():
        found, sure = compared(name, default_params(SIGNALS[name]), columns, tape)
        told |= set(found[sure].tolist())
        assert sure.mean() >= SURE_SHARE[kind], f"{name}: {kind} candles are mostly ties"

    assert told == {True, False}, f"{name} is always {told}"


@pytest.mark.parametrize("name", sorted(name for name, signal in SIGNALS.items() if signal.knobs))
def test_so_it_does_with_other_params_up_to_their_bounds(name: str, eurusd_hours_csv: Path) -> None:
    signal, chance = SIGNALS[name], Random(name)
    for params in (ends(signal, low=True), ends(signal, low=False), at_random(signal, chance)):
        for columns, tape in tapes(eurusd_hours_csv).values():
            compared(name, params, columns, tape)


def ends(signal: Signal, *, low: bool) -> dict[str, Any]:
    """Return params that are all at one end of their bounds, but for those that must differ."""
    return apart(signal, {knob.name: end(knob, low=low) for knob in signal.knobs})


def end(knob: Knob, *, low: bool) -> Any:
    bound = knob.low if low else knob.high
    match knob.kind:
        case "flag":
            return low
        case "direction":
            return "Bearish" if low else "BULLISH"
        case "timeframe":
            return "1H" if low else "1D"
        case "windows":
            return [2, 3] if low else [500, 1_000]
        case "whole":
            return int(bound or 0)
        case _:
            return bound


def at_random(signal: Signal, chance: Random) -> dict[str, Any]:
    """Return params from within their bounds."""
    params = ends(signal, low=True)
    for knob in signal.knobs:
        low, high = knob.low or 0.0, knob.high or 0.0
        if knob.kind == "whole":
            params[knob.name] = chance.randint(int(low), int(high))
        elif knob.kind == "number":
            params[knob.name] = chance.uniform(low, high)
        elif knob.kind == "windows":
            params[knob.name] = sorted(chance.sample(range(2, 100), 4))
        elif knob.kind == "timeframe":
            params[knob.name] = chance.choice(["4h", "1d", *(name for name in PERIODS if name.endswith("w"))])
    return apart(signal, params)


def apart(signal: Signal, params: dict[str, Any]) -> dict[str, Any]:
    """Return params whose fast windows are shorter than the slow ones."""
    for fast, slow in FAST_AND_SLOW:
        if fast in params and params[fast] >= params[slow]:
            knobs = signal.knob
            params[fast] = min(params[fast], int(knobs[slow].high or 0) - 1)
            params[slow] = max(params[slow], params[fast] + 1)
    return params


@pytest.mark.parametrize("higher_tf", ["1h", "4h", "1d"])
@pytest.mark.parametrize("threshold", [0.0005, 0.005, 0.02])
def test_a_slope_is_told_by_the_usual_height_of_its_average(
    higher_tf: str, threshold: float, eurusd_hours_csv: Path
) -> None:
    params = {"higher_tf": higher_tf, "window": 30, "slope_threshold": threshold}
    for name in ("multi_tf_trend_bullish", "multi_tf_trend_bearish"):
        for columns, tape in tapes(eurusd_hours_csv).values():
            compared(name, params, columns, tape)
