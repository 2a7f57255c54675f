"""Sweeps to try things on: a crossover over made-up candles, and two windows to judge it by."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from pipaid.backtesting import Backtest
from pipaid.optimising.scoring import Candidate, ranked, windows
from pipaid.optimising.sweeping import Alone, Exam, Listed, swept
from tests.oracles.crossover import Crossover, synthetic

SETS = [{"fast": fast, "slow": 20} for fast in (3, 5, 1, 8)]


def made() -> Backtest:
    return Backtest(template=Crossover, candles={"BTCUSDT": synthetic(8_000)}, capital=1_000_000)


def exam(backtest: Backtest | None = None, *, count: int = 2, metric: str = "sharpe") -> Exam:
    plan = (backtest or made()).plan()
    return Exam(tuple(windows(plan.begin_ms, plan.end_ms, count=count, held_out=Decimal("0.3"))), metric)


def alone(sets: Sequence[dict[str, Any]] = SETS) -> list[Candidate]:
    return ranked(list(swept(Listed(sets), Alone(made, exam()))))
