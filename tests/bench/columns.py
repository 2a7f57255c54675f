"""Indicators and conditions over columns: CPU for a year of minutes, and the memory that five years take."""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable
from operator import methodcaller
from typing import Final

import msgspec
import numpy as np

from pipaid.model.columns import Candles
from pipaid.model.instrument import MINUTE_MS, Timeframe
from pipaid.signals.columns import Columns
from pipaid.signals.series import BLOCK, Condition, Feature
from tests.bench.child import answer, in_child
from tests.bench.figure import Figure, Goal, Size

CROSSING_GOAL: Final = Goal(15e6)
FILTERED_GOAL: Final = Goal(5e6)
MEMORY_GOAL: Final = Goal(200, at_most=True)
# The goals are for a year of minutes.
GOAL_CANDLES: Final = 525_600
YEARS: Final = 5
SEED: Final = 1
FEATURES: Final = (
    Feature("sma", (10,)),
    Feature("sma", (50,)),
    Feature("ema", (50,)),
    Feature("rsi", (14,)),
    Feature("atr", (14,)),
    Feature("stddev", (20,)),
    Feature("zscore", (20,)),
    Feature("highest", (55,)),
    Feature("channel_low", (55,)),
    Feature("true_range"),
)


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """How many candles one child computes over."""

    candles: int


def measure(size: Size) -> list[Figure]:
    """Compute each feature, and the conditions of two backtests, in fresh processes."""
    runs = [in_child("columns", Work(candles=size.column_candles)) for _ in range(size.runs)]
    whole = size.column_candles == GOAL_CANDLES
    candles = f"{size.column_candles} candles"

    def rate(name: str, key: str, goal: Goal) -> Figure:
        values = tuple(size.column_candles / run[key] for run in runs)
        return Figure(name=name, unit="candles/s CPU", values=values, goal=goal if whole else None, note=candles)

    figures = [
        Figure(
            name=_name(feature), unit="ms CPU", values=tuple(1e3 * run[_name(feature)] for run in runs), note=candles
        )
        for feature in FEATURES
    ]
    memory = tuple(run["peak_bytes"] / 1e6 for run in runs)
    return [
        rate("SMA(10) crosses SMA(50)", "crossing", CROSSING_GOAL),
        rate("RSI(14) < 30, close < SMA(50), with ATR(14)", "filtered", FILTERED_GOAL),
        *figures,
        Figure(
            name="memory of the five features of these two beyond the candles",
            unit="MB",
            values=memory,
            goal=MEMORY_GOAL if whole else None,
            note=f"at its peak, {YEARS * size.column_candles} candles",
        ),
    ]


def main(arguments: str) -> None:
    """Compute, and answer with the numbers."""
    work = msgspec.json.decode(arguments, type=Work)
    _filtered(Columns(made(BLOCK)))
    candles = made(work.candles)
    numbers = {_name(feature): _cpu_s(candles, methodcaller("feature", feature)) for feature in FEATURES}
    numbers["crossing"] = _cpu_s(candles, _crossing)
    numbers["filtered"] = _cpu_s(candles, _filtered)
    candles = made(YEARS * work.candles)
    columns = Columns(candles)
    tracemalloc.start()
    _crossing(columns)
    _filtered(columns)
    numbers["peak_bytes"] = tracemalloc.get_traced_memory()[1]
    answer(numbers)


def made(count: int) -> Candles:
    """Return a random walk of minutes that begins amid a block."""
    chance = np.random.default_rng(SEED)
    close = np.round(100 * np.exp(np.cumsum(chance.normal(0, 5e-4, count))), 2)
    opened = np.append(100.0, close[:-1])
    return Candles.from_rows(
        "BTCUSDT",
        Timeframe.M1,
        time_ms=(7_000 * BLOCK + 1_300 + np.arange(count)) * MINUTE_MS,
        open=opened,
        high=np.round(np.maximum(opened, close) + 0.05, 2),
        low=np.round(np.minimum(opened, close) - 0.05, 2),
        close=close,
    )


def _cpu_s(candles: Candles, ask: Callable[[Columns], object]) -> float:
    begun_s = time.process_time()
    ask(Columns(candles))
    return time.process_time() - begun_s


def _crossing(columns: Columns) -> None:
    columns.holds(Condition("cross_above", Feature("sma", (10,)), Feature("sma", (50,))))


def _filtered(columns: Columns) -> None:
    columns.holds(Condition("below", Feature("rsi", (14,)), 30.0))
    columns.holds(Condition("below", Feature("close"), Feature("sma", (50,))))
    columns.feature(Feature("atr", (14,)))


def _name(feature: Feature) -> str:
    return f"{feature.name}({', '.join(map(str, feature.params))})"


if __name__ == "__main__":
    main(sys.argv[1])
