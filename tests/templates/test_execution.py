"""How long positions are held, and what holds entries back, by an `execution_config` alone."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipaid.model.instrument import Timeframe
from pipaid.model.position import Direction
from templates.execution import Execution, ExecutionConfig, settled
from tests.builders import make_candle, make_position


def execution(**told: Any) -> Execution:
    return Execution(config=settled(ExecutionConfig(**told), Decimal(2)), candle=Timeframe.M5)


@pytest.mark.parametrize(
    ("direction", "close", "over"),
    [(Direction.LONG, "99", True), (Direction.LONG, "101", False), (Direction.SHORT, "101", True),
     (Direction.SHORT, "99", False), (Direction.LONG, "100", False)],
)  # fmt: skip
def test_a_position_is_losing_by_its_own_direction(direction: Direction, close: str, over: bool) -> None:
    lot = make_position(direction=direction)

    assert execution(exit_on_loss_after_bars=1).is_over(lot, make_candle(0, close, timeframe=Timeframe.M5)) is over


@pytest.mark.parametrize(("close", "over"), [("100", False), ("100.1", True)])
def test_without_a_threshold_any_profit_is_one_and_none_is_not(close: str, over: bool) -> None:
    lot = make_position()
    told = execution(exit_on_profit_after_bars=1, profit_threshold_pct=Decimal(0))

    assert told.is_over(lot, make_candle(0, close, timeframe=Timeframe.M5)) is over


def test_a_pause_is_counted_in_candles_of_the_rules_whatever_those_of_the_strategy_are() -> None:
    config = execution(cooldown_bars=24)

    assert config.guards(Timeframe.M1).risk == execution(cooldown_bars=120).guards(Timeframe.M5).risk
