"""What is foretold of a strategy: how often its entry rules held together in the past, and what has no effect."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from pipaid.engine.foretelling import notes_on
from pipaid.foretelling import columns_of
from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.model.strategy import StrategyDefinition
from pipaid.signals.series import Series
from templates.momentum import Momentum
from templates.rules import Rules
from tests.signals.candles import candles_of

HOUR_MS = 3_600_000
WINDOWS = {"window_fast": 1, "window_slow": 2}
TURN = {"name": "sma_cross_up", "signal_type": "TRIGGER", "timeframe": "1h", "params": WINDOWS}
RISES = {"name": "price_above_ema", "signal_type": "FILTER", "timeframe": "1h", "params": {"window": 2}}


def defined(*entry: dict[str, Any], symbols: tuple[str, ...] = ("EURUSD",), **execution: Any) -> StrategyDefinition:
    return StrategyDefinition(
        name="told",
        template_id="tpl_rules",
        params={"entry": list(entry), "execution_config": execution},
        symbols=symbols,
        timeframe=Timeframe.H1,
        capital=Decimal(10_000),
        leverage=1,
    )


def past(closes: list[float]) -> dict[Timeframe, Candles]:
    hours = Candles.from_candles(candles_of(closes))
    return {timeframe: hours.larger(timeframe) for timeframe in (Timeframe.H1, Timeframe.H4)}


def test_it_is_told_how_often_the_entry_rules_came_to_hold_together() -> None:
    told, *_ = notes_on(defined(TURN, RISES), Rules, {"EURUSD": past([100, 99, 100, 99, 100, 101, 99])})

    assert told == (
        "EURUSD: the entry rules came to hold together 2 times in the 7 candles of 1h from 1970-01-01T00:00:00Z to "
        "1970-01-01T07:00:00Z; sma_cross_up (TRIGGER, 1h) 2 times, price_above_ema (FILTER, 1h) 2 times"
    )


def test_rules_that_never_held_together_are_told_to_be_so() -> None:
    oversold = {"name": "rsi_oversold", "signal_type": "TRIGGER", "timeframe": "1h", "params": {"window": 2}}

    told, *_ = notes_on(defined(oversold, RISES), Rules, {"EURUSD": past([100, 101, 102, 90, 80, 95])})

    assert "never held together in the 6 candles" in told
    assert "would not have entered once; rsi_oversold (TRIGGER, 1h) 1 times" in told


def test_a_rule_of_larger_candles_counts_as_of_the_last_that_had_closed() -> None:
    # The second four hours close higher, which is known to the hours after them only.
    above = {"name": "price_above_ema", "signal_type": "FILTER", "timeframe": "4h", "params": {"window": 2}}
    closes = [100.0, 99, 100, 99, 99, 100, 101, 103, 102, 103, 102, 101]

    told, *_ = notes_on(defined(TURN, above), Rules, {"EURUSD": past(closes)})

    assert "came to hold together once" in told


def test_what_has_no_effect_is_told() -> None:
    definition = defined(TURN, RISES, slippage_pct=0.01, initial_balance=5000, daily_momentum_limit=3)

    told = notes_on(definition, Rules, {})

    assert [note.split(" ")[0] for note in told] == [
        "execution_config.slippage_pct",
        "execution_config.initial_balance",
        "execution_config.daily_momentum_limit",
    ]


def test_too_few_candles_are_told_with_the_moment_at_which_there_are_enough() -> None:
    slow = {"name": "is_above_sma", "signal_type": "FILTER", "timeframe": "4h", "params": {"window": 5}}

    told = notes_on(defined(TURN, slow), Rules, {"EURUSD": past([100.0] * 20)})

    assert [note for note in told if "still to come" in note] == []
    short = notes_on(defined(TURN, slow), Rules, {"EURUSD": past([100.0] * 8)})
    begun = "EURUSD: it reads what takes"
    end = "are still to come: not all of it has a value before 1970-01-01T"
    assert [note for note in short if "still to come" in note] == [
        f"{begun} 14 candles of 1h, of which 6 {end}14:00:00Z",
        f"{begun} 5 candles of 4h, of which 3 {end}20:00:00Z",
    ]


def test_a_symbol_without_a_past_is_told_as_such() -> None:
    told = notes_on(defined(TURN, RISES, symbols=("EURUSD", "GBPUSD")), Rules, {"EURUSD": {}})

    assert told == ("EURUSD: there are no past candles to tell how often it would have entered",)


def test_of_other_templates_nothing_is_told() -> None:
    assert not Momentum.foretells
    assert notes_on(_momentum(), Momentum, {"EURUSD": past([1.0, 2.0, 3.0] * 20)}) == ()


def _momentum() -> StrategyDefinition:
    return StrategyDefinition(
        name="told",
        template_id="tpl_momentum",
        params={},
        symbols=("EURUSD",),
        timeframe=Timeframe.H1,
        capital=Decimal(10_000),
        leverage=1,
    )


def test_the_candles_that_a_series_keeps_are_those_it_was_given() -> None:
    given = candles_of([100.25, 99.5, 101.75])
    series = Series("EURUSD", Timeframe.H1)
    for candle in given:
        series.append(candle)

    columns = columns_of(series)

    assert list(columns) == given
    assert np.array_equal(columns.time_ms, [0, HOUR_MS, 2 * HOUR_MS])


def test_the_first_count_has_nothing_left_to_import() -> None:
    code = """
import sys
from pipaid.engine.foretelling import notes_on
from pipaid.engine.params import prepare
from tests.engine.test_foretelling import RISES, TURN, Rules, defined, past
given = defined(TURN, RISES), Rules, {"EURUSD": past([100, 99, 100, 99, 100, 101, 99])}
prepare([Rules])
before = set(sys.modules)
assert "came to hold together" in notes_on(*given)[0]
assert set(sys.modules) == before, set(sys.modules) - before
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
