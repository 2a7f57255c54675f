"""What holds a rule strategy back: losses in a row, a deep fall, a balance that is nearly gone, and the caps of all."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

from pipaid.model.backtest import BacktestResult
from tests.templates.test_rules import FALLS, FREE, HOUR_MS, hours, played, rules, trial_of


def zigzag(count: int) -> list[object]:
    """Return closes that turn up at every other candle and fall deeper each time: every trade loses."""
    return [10_000 - 3 * index + (8 if index % 2 else 0) for index in range(count)]


def losing(**execution: Any) -> BacktestResult:
    """Play what always loses: it enters where the close turns up and leaves where it falls."""
    raw = rules(exit=[FALLS], execution={"stop_loss_pct": 0.9, "min_balance_threshold": 0, **execution})
    return played({**raw, "risk": FREE}, hours(zigzag(400)))


def entries(result: BacktestResult) -> list[int]:
    return [fill.time_ms // HOUR_MS for fill in result.fills if fill.side.value == "buy"]


def test_after_losses_in_a_row_it_pauses() -> None:
    pauses = {"1h": {"short_loss_limit": 3, "short_window_bars": 20, "long_loss_limit": 100}}

    told = entries(losing(cooldown_config=pauses, max_drawdown_limit=1))

    assert [later - earlier for earlier, later in pairwise(told)][:6] == [2, 2, 22, 2, 2, 22]


def test_a_legacy_limit_ends_the_day() -> None:
    never = {"1h": {"short_loss_limit": 100, "long_loss_limit": 100}}

    told = entries(losing(cooldown_config=never, daily_momentum_limit=3, max_drawdown_limit=1))
    week = entries(losing(cooldown_config=never, weekly_momentum_limit=3, max_drawdown_limit=1))

    by_day = [sum(hour // 24 == day for hour in told) for day in range(10)]
    assert by_day == [3] * 10
    assert [sum((hour + 72) // 168 == number for hour in week) for number in range(3)] == [3, 3, 3]


def test_a_deep_fall_is_waited_out_and_then_taken_as_the_new_peak() -> None:
    pauses = {"1h": {"short_loss_limit": 100, "long_loss_limit": 100, "long_window_bars": 50}}
    raw = rules(
        exit=[FALLS],
        execution={
            "stop_loss_pct": 0.9,
            "cooldown_config": pauses,
            "max_drawdown_limit": 0.01,
            "max_risk_per_trade": 1,
        },
    )
    trial = trial_of(raw, hours(zigzag(400)))
    told = [fill.time_ms // HOUR_MS for fill in trial.outcome.fills if fill.side.value == "buy"]
    apart = [later - earlier for earlier, later in pairwise(told)]

    # Each fall is met once, and the last one is still waited out at the end.
    assert set(apart) == {2, 52}
    assert trial.session.book.refusals["max_drawdown"] == apart.count(52) + 1
    assert trial.session.book.refusals["cooldown"] > 50


def test_nothing_is_entered_once_the_balance_is_nearly_gone() -> None:
    never = {"1h": {"short_loss_limit": 100, "long_loss_limit": 100}}
    raw = rules(
        exit=[FALLS],
        execution={
            "stop_loss_pct": 0.9,
            "max_risk_per_trade": 1,
            "min_balance_threshold": 0.95,
            "cooldown_config": never,
            "max_drawdown_limit": 1,
        },
    )

    trial = trial_of(raw, hours(zigzag(400)))

    lost = -sum(trade.pnl for trade in trial.outcome.result({}).trades)
    assert Decimal(500) < lost < Decimal(560)
    assert trial.session.book.refusals["min_balance"] > 10


def test_refusals_bear_the_names_that_rule_strategies_know() -> None:
    raw = rules(execution={"max_open_positions": 1, "max_trades_per_day": 2, "max_hold_bars": 3, "cooldown_bars": 3})

    trial = trial_of(raw, hours(zigzag(60)))

    assert set(trial.session.book.refusals) == {"max_positions", "daily_limit", "cooldown"}
