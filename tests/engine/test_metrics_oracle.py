"""What an independent library says of the same returns, where its definitions are ours; where not, the test says how.

empyrical-reloaded counts years in returns over days per year, as we do on a gapless curve of days; its drawdown is
taken on those days, so that it is handed over as the one of every candle. Of trades it tells nothing: numpy does.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from importlib import import_module
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipaid.engine.metrics import CALENDAR_DAYS, daily_returns, measure, sharpe, sortino
from pipaid.model.columns import Floats
from tests.builders import DAY_MS, START_MS
from tests.results import make_trade

empyrical: Final[Any] = import_module("empyrical")  # It comes without types.

CAPITAL = Decimal(1_000_000)
# Basis points by which the equity moves from day to day; it stays far from nothing, where floats would divide by zero.
STEPS = st.lists(st.integers(-200, 200), min_size=3, max_size=400).filter(lambda steps: len(set(steps)) > 2)


def curve_of(steps: Sequence[int]) -> list[tuple[int, Decimal]]:
    """Return a curve of days whose returns are so many basis points, in cents."""
    equity = [CAPITAL]
    for step in steps:
        equity.append((equity[-1] * (10_000 + step) / 10_000).quantize(Decimal("0.01")))
    return [(START_MS + number * DAY_MS, each) for number, each in enumerate(equity)]


def returns_of(curve: Sequence[tuple[int, Decimal]]) -> Floats:
    """Return the daily returns in floats."""
    equity: Floats = np.array([float(each) for _, each in curve])
    return np.diff(equity) / equity[:-1]


@given(STEPS)
def test_daily_returns_are_those_of_floats(steps: list[int]) -> None:
    curve = curve_of(steps)

    assert [float(each) for each in daily_returns(curve)] == pytest.approx(list(returns_of(curve)), abs=1e-12)


@given(STEPS, st.sampled_from([252, 365]))
def test_the_sharpe_ratio_is_theirs(steps: list[int], days_per_year: int) -> None:
    curve = curve_of(steps)

    theirs = empyrical.sharpe_ratio(returns_of(curve), annualization=days_per_year)

    assert float(sharpe(daily_returns(curve), days_per_year) or 0) == pytest.approx(float(theirs), rel=1e-6, abs=1e-9)


@given(STEPS)
def test_the_sortino_ratio_is_their_sharpe_ratio_with_the_deviation_of_losing_days(steps: list[int]) -> None:
    # Theirs divides by the root mean square of all days with gains as zero; the published formula takes the sample
    # deviation of the negative days alone. So it is put together from parts of theirs.
    curve = curve_of(steps)
    returns = returns_of(curve)
    losses = returns[returns < 0]
    assume(len(losses) > 1 and losses.max() - losses.min() > 1e-6)

    theirs = returns.mean() / (empyrical.annual_volatility(losses, annualization=252) / np.sqrt(252)) * np.sqrt(252)

    assert float(sortino(daily_returns(curve)) or 0) == pytest.approx(float(theirs), rel=1e-6, abs=1e-9)


@given(STEPS)
def test_growth_drawdown_and_calmar_are_theirs(steps: list[int]) -> None:
    curve = curve_of(steps)
    returns = returns_of(curve)
    fall = float(empyrical.max_drawdown(returns))
    assume(fall < -0.01)
    growth = float(empyrical.annual_return(returns, annualization=365.25))
    assume(growth < 1e6)

    told = measure(curve, (), capital=CAPITAL, max_drawdown=Decimal(str(fall)))

    assert float(told.max_drawdown) == pytest.approx(fall, abs=5.1e-4)
    assert float(told.cagr or 0) == pytest.approx(growth, rel=1e-9, abs=5.1e-4)
    calmar = float(empyrical.calmar_ratio(returns, annualization=365.25))
    assert float(told.calmar or 0) == pytest.approx(calmar, rel=1e-6, abs=5.1e-3)


@given(STEPS)
def test_the_calendar_form_is_theirs(steps: list[int]) -> None:
    curve = curve_of(steps)

    told = measure(curve, (), capital=CAPITAL, max_drawdown=Decimal(0), days_per_year=CALENDAR_DAYS)

    theirs = float(empyrical.sharpe_ratio(returns_of(curve), annualization=365))
    assert float(told.sharpe or 0) == pytest.approx(theirs, rel=1e-6, abs=5.1e-3)


@given(st.lists(st.integers(-10_000, 10_000), min_size=1, max_size=60).filter(lambda cents: min(cents) < 0))
def test_figures_of_trades_are_those_of_numpy(cents: list[int]) -> None:
    trades = [make_trade(number, Decimal(each) / 100) for number, each in enumerate(cents)]
    gains = np.array(cents) / 100

    told = measure((), trades, capital=CAPITAL, max_drawdown=Decimal(0))

    assert float(told.win_rate) == pytest.approx(float((gains > 0).mean()), abs=5.1e-4)
    assert float(told.expected_value) == pytest.approx(float(gains.mean()), abs=5.1e-3)
    factor = float(gains[gains > 0].sum() / -gains[gains < 0].sum())
    assert float(told.profit_factor or 0) == pytest.approx(factor, rel=1e-9, abs=5.1e-3)
