"""The benches run from end to end on sizes that take no time; how fast anything is, is not for a test to judge."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from tests.bench.__main__ import BENCHES, run
from tests.bench.figure import Figure, Goal, Size, percentile, short

TINY = Size(
    runs=1, strategies=10, strategies_many=10, symbols=5, candles=20, calls=500, trades=500, resting=10, waiting=5,
    commits=8, pings=5, clients=(1, 3), deliveries=600, kills=2,
    kills_full=1, column_candles=5_000, requests=40, windows=1, window_s=0.5,
)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in BENCHES if name != "daemons"])
def test_a_bench_measures_something(name: str) -> None:
    shown = io.StringIO()

    report = run([name], TINY, Console(file=shown, width=160))

    figures = report.figures[name]
    assert figures
    assert all(math.isfinite(value) and value > 0 for figure in figures for value in figure.values)
    assert all(figure.name in shown.getvalue() for figure in figures)


def test_a_goal_tells_by_how_much_it_is_missed_on_either_side() -> None:
    assert Goal(5e6).ratio(1e6) == pytest.approx(0.2)
    assert Goal(2.0, at_most=True).ratio(4.0) == pytest.approx(0.5)


def test_a_figure_is_the_median_of_its_runs() -> None:
    assert Figure(name="a", unit="s", values=(9.0, 1.0, 2.0)).median == 2.0


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(value) for value in range(100, 0, -1)]

    assert percentile(values, 0.5) == 51.0
    assert percentile(values, 0.99) == 100.0


@pytest.mark.parametrize(
    ("value", "shown"), [(0.1234, "0.123"), (1234.5, "1234"), (56_789.0, "56.8 k"), (4.2e6, "4.2 M")]
)
def test_numbers_are_shown_with_three_digits(value: float, shown: str) -> None:
    assert short(value) == shown
