"""What came before the history that a signal wants changes nothing that it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.signals.catalogue.lookup import rule
from pipaid.signals.columns import Columns
from pipaid.signals.memory import history
from pipaid.signals.series import Condition, Feature
from tests.signals.candles import eurusd_hours
from tests.signals.drawn import default_rules

# Nothing is anchored anew within so many candles.
WHOLE = 2**20
LAST = 60


def test_what_came_before_the_wanted_history_changes_no_signal(eurusd_hours_csv: Path) -> None:
    candles = Candles.from_candles(eurusd_hours(eurusd_hours_csv))
    rules = default_rules(Timeframe.H1, anchor=1.1)
    whole = Columns(candles, block=WHOLE)
    for name, asked in rules.items():
        wanted = history(asked.condition, Timeframe.H1)
        said = whole.holds(asked.condition)
        for end in (3_000, 5_000):
            first = max(0, end - LAST - wanted)
            part = candles.between(candles.time_ms.item(first), candles.time_ms.item(end - 1) + 1)
            found = Columns(part, block=WHOLE).holds(asked.condition)
            assert np.array_equal(found[-LAST:], said[end - LAST : end]), name


def test_the_wanted_history_is_as_published() -> None:
    assert history(Condition("below", Feature("rsi", (14,)), 30.0), Timeframe.H1) >= 300
    assert history(Condition("above", Feature("close"), Feature("smma", (50,))), Timeframe.H1) >= 1_050
    assert history(Condition("above", Feature("close"), Feature("sma", (200,))), Timeframe.H1) == 201
    assert history(Condition("above", Feature("hammer", (2.0, 0.1)), 0.0), Timeframe.H1) == 2
    week = rule("multi_tf_trend_bullish", timeframe=Timeframe.H1)
    assert history(week.condition, week.timeframe) >= 11 * 7
    assert history(rule("nvi_bullish", timeframe=Timeframe.H1).condition, Timeframe.H1) >= 2_816
