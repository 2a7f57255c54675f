"""Momentum, mean reversion and breakout enter where they say, protected and sized by risk, and leave where they say."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from pipaid.sdk import CloseReason, Direction, Enter, Exit, Template
from templates.breakout import Breakout
from templates.meanrev import MeanReversion
from templates.momentum import Momentum
from tests.signals.candles import candles_of
from tests.templates.driver import Driver
from tests.templates.test_wakes import make_template

FALL = [100, 99, 98, 97, 96, 95, 94, 93]
RISE = [95, 98, 101, 104]
QUICK: dict[str, Any] = {"fast": 2, "slow": 4, "rsi_period": 3, "rsi_min": "50", "atr_period": 3}
CALM = [100, 101, 100, 99, 100, 101, 100, 99, 100, 101]


def play(kind: type[Template], raw: dict[str, Any], closes: Iterable[Any]) -> Driver:
    """Return a strategy that was deployed before the first of the closes."""
    driver = Driver(make_template(kind, raw))
    driver.deploy()
    return driver.run(candles_of(closes))


def entries(driver: Driver) -> list[Enter]:
    """Return the entries wished for."""
    return driver.wished(Enter)


def test_momentum_goes_long_where_the_fast_average_crosses_above() -> None:
    driver = play(Momentum, {**QUICK, "take_atr": "3"}, [*FALL, *RISE])

    (entry,) = entries(driver)
    assert entry.direction is Direction.LONG
    assert (entry.risk, entry.quantity, entry.notional) == (Decimal("0.01"), None, None)
    # Decided at the close of 95 or 98; distances are 2 and 3 average true ranges.
    wish = next(wish for wish in driver.wishes if wish.intent is entry)
    close = Decimal([*FALL, *RISE][wish.index])
    assert entry.stop_price is not None
    assert entry.take_profit_price is not None
    assert (entry.take_profit_price - close) / (close - entry.stop_price) == pytest.approx(
        Decimal("1.5"), rel=Decimal("1e-4")
    )


def test_momentum_needs_strength() -> None:
    assert entries(play(Momentum, {**QUICK, "rsi_min": "100"}, [*FALL, *RISE])) == []


def test_momentum_without_a_target_sets_none() -> None:
    (entry,) = entries(play(Momentum, {**QUICK, "take_atr": "0"}, [*FALL, *RISE]))

    assert entry.take_profit_price is None


def test_momentum_leaves_at_the_opposite_crossing() -> None:
    driver = play(Momentum, {**QUICK, "take_atr": "0", "stop_atr": "20"}, [*FALL, *RISE, 103, 100, 96, 92])

    (trade,) = driver.trades
    assert (trade.direction, trade.reason) == (Direction.LONG, CloseReason.EXIT_RULE)
    assert driver.positions == []


def test_momentum_turns_around_when_it_may_go_short() -> None:
    wide = {**QUICK, "take_atr": "0", "stop_atr": "20", "allow_short": True}
    driver = play(Momentum, wide, [*FALL, *RISE, 103, 100, 96, 92])

    assert [entry.direction for entry in entries(driver)] == [Direction.LONG, Direction.SHORT]
    assert [lot.direction for lot in driver.positions] == [Direction.SHORT]
    short = entries(driver)[1]
    assert short.stop_price is not None
    assert short.stop_price > 100


def test_mean_reversion_buys_a_stretch_and_leaves_when_it_is_gone() -> None:
    driver = play(MeanReversion, {"window": 8}, [*CALM, 96, 97, 100, 100])

    (entry,) = entries(driver)
    assert entry.direction is Direction.LONG
    assert entry.stop_price is not None
    assert entry.stop_price < 96
    (trade,) = driver.trades
    assert trade.reason is CloseReason.EXIT_RULE
    assert trade.pnl > 0


def test_mean_reversion_places_its_stop_in_deviations_from_the_mean() -> None:
    driver = play(MeanReversion, {"window": 8, "stop_z": "3"}, [*CALM, 96])

    closes = [float(close) for close in [*CALM, 96][-8:]]
    mean = sum(closes) / 8
    deviation = (sum((close - mean) ** 2 for close in closes) / 8) ** 0.5
    (entry,) = entries(driver)
    assert entry.stop_price is not None
    assert float(entry.stop_price) == pytest.approx(mean - 3 * deviation, abs=1e-5)


def test_mean_reversion_sells_a_stretch_only_if_allowed() -> None:
    spike = [*CALM, 104]

    assert entries(play(MeanReversion, {"window": 8}, spike)) == []
    (entry,) = entries(play(MeanReversion, {"window": 8, "allow_short": True}, spike))
    assert entry.direction is Direction.SHORT


def test_mean_reversion_gives_up_after_a_while() -> None:
    sinking = [*CALM, 96, 95, 94, 93, 92, 91, 90]
    driver = play(MeanReversion, {"window": 8, "stop_z": "12", "max_hold_bars": 3, "exit_z": "0"}, sinking)

    first = driver.trades[0]
    assert first.reason is CloseReason.TIME_EXIT
    # Three candles held, and out at the open of the next one.
    assert first.closed_at_ms - first.opened_at_ms == 3 * driver.timeframe.ms


def test_mean_reversion_does_not_enter_beyond_its_stop() -> None:
    # A single close far out lies at most sqrt(window - 1) deviations away, here 2.6.
    assert entries(play(MeanReversion, {"window": 8, "entry_z": "2", "stop_z": "2.1"}, [*CALM, 50])) == []


def test_a_stop_that_is_not_beyond_the_entry_is_measured_from_the_close() -> None:
    closes = [*CALM, 96]
    (entry,) = entries(play(MeanReversion, {"window": 8, "entry_z": "2", "stop_z": "1"}, closes))

    window = [float(close) for close in closes[-8:]]
    mean = sum(window) / 8
    deviation = (sum((close - mean) ** 2 for close in window) / 8) ** 0.5
    assert entry.stop_price is not None
    assert float(entry.stop_price) == pytest.approx(96 - deviation, abs=1e-5)


def test_mean_reversion_without_a_stop_is_sized_by_four_deviations() -> None:
    closes = [*CALM, 96]
    (entry,) = entries(play(MeanReversion, {"window": 8, "stop_z": "0"}, closes))

    window = [float(close) for close in closes[-8:]]
    mean = sum(window) / 8
    deviation = (sum((close - mean) ** 2 for close in window) / 8) ** 0.5
    assert entry.stop_price is None
    assert entry.notional is not None
    assert float(entry.notional) == pytest.approx(10_000 * 0.01 / (4 * deviation) * 96, rel=1e-9)


def test_breakout_enters_above_the_candles_before_and_not_at_their_high() -> None:
    wide = {"lookback": 5, "exit_lookback": 3, "atr_period": 3}

    assert entries(play(Breakout, wide, [*CALM, 101, 101])) == []
    (entry,) = entries(play(Breakout, wide, [*CALM, 102]))
    assert entry.direction is Direction.LONG
    assert entry.stop_price is not None
    assert entry.stop_price < 102
    assert entry.take_profit_price is None


def test_breakout_leaves_below_the_shorter_channel() -> None:
    driver = play(
        Breakout,
        {"lookback": 5, "exit_lookback": 3, "atr_period": 3, "stop_atr": "20"},
        [*CALM, 102, 104, 106, 103, 101, 99],
    )

    wish = driver.wished(Exit)
    assert [one.reason for one in wish] == [CloseReason.EXIT_RULE]
    (trade,) = driver.trades
    assert trade.exit_price == Decimal(99)


def test_breakout_goes_short_only_if_allowed() -> None:
    falling = [*CALM, 98]

    assert entries(play(Breakout, {"lookback": 5}, [*CALM[:5], *falling])) == []
    (entry,) = entries(play(Breakout, {"lookback": 5, "atr_period": 3, "allow_short": True}, falling))
    assert entry.direction is Direction.SHORT


@pytest.mark.parametrize("kind", [Momentum, MeanReversion, Breakout])
def test_a_price_that_never_moves_makes_nobody_trade(kind: type[Template]) -> None:
    assert play(kind, {"allow_short": True}, [100] * 200).wishes == []


def test_a_stop_at_or_below_zero_is_no_entry() -> None:
    # Prices of a few ticks, with a range so wide that the stop would be negative.
    crash = ["0.00009", "0.00001", "0.00009", "0.00001", "0.00009", "0.00010"]

    assert entries(play(Breakout, {"lookback": 2, "atr_period": 2, "stop_atr": "20"}, crash)) == []
