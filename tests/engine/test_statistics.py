"""The figures of closed trades, per mode, and what they are when there is nothing to divide by."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipaid.engine.statistics import Mode, figures_of, strategy_statistics, tally_of
from pipaid.model.position import Position
from pipaid.model.report import StrategyStatistics
from pipaid.model.strategy import Tally
from tests.builders import STRATEGY_ID, SYMBOL, make_position

MARKS = {SYMBOL: Decimal(110)}


def trade(number: int, profit: str, *, seconds: int = 60, **fields: Any) -> Position:
    """Make a closed lot of one at a hundred; trades are closed in the order of their numbers."""
    given: dict[str, Any] = {
        "exit_quantity": Decimal(1),
        "exit_value": Decimal(100) + Decimal(profit),
        "opened_at_ms": 1_000_000 + number * 1000 - seconds * 1000,
        "closed_at_ms": 1_000_000 + number * 1000,
    }
    return make_position(number, **{**given, **fields})


def stats(positions: list[Position], mode: Mode = "all", tally: Tally | None = None) -> StrategyStatistics:
    closed = sorted((each for each in positions if not each.is_open), key=lambda each: each.closed_at_ms)
    return strategy_statistics(STRATEGY_ID, mode, positions, tally or tally_of(closed), marks=MARKS)


def test_without_trades_everything_is_zero() -> None:
    figures = figures_of([])

    assert {figures.win_rate, figures.profit_factor, figures.drawdown, figures.expected_value} == {Decimal(0)}
    assert figures.duration_s == 0
    assert stats([]).win_rate == "0.000"
    assert stats([]).profit_factor == "0.000"


def test_trades_are_summed_up() -> None:
    closed = [trade(1, "10"), trade(2, "-4", seconds=30), trade(3, "0"), trade(4, "6", seconds=121)]

    told = stats(closed)

    assert (told.total_trades, told.winning_trades, told.losing_trades) == (4, 2, 1)
    assert (told.win_rate, told.profit_factor, told.expected_value) == ("0.500", "4.000", "3.00")
    assert (told.realised_pnl, told.gross_profit, told.gross_loss) == ("12.00", "16.00", "4.00")
    assert (told.max_drawdown, told.avg_trade_duration_seconds) == ("4.00", 68)


def test_profit_against_no_loss_at_all_has_no_factor() -> None:
    assert figures_of([trade(1, "10")]).profit_factor is None
    assert figures_of([trade(1, "0")]).profit_factor == 0
    assert figures_of([trade(1, "-1")]).profit_factor == 0


def test_fees_and_funding_are_taken_off() -> None:
    told = stats([trade(1, "1", fees=Decimal("0.7"), funding=Decimal("-0.4"))])

    assert (told.realised_pnl, told.fees, told.funding) == ("-0.10", "0.70", "-0.40")
    assert (told.winning_trades, told.losing_trades) == (0, 1)


def test_the_drawdown_is_the_deepest_fall_in_the_order_of_closing() -> None:
    closed = [trade(4, "50"), trade(1, "20"), trade(3, "-25"), trade(2, "-5")]

    assert figures_of(closed).drawdown == 30


def test_durations_are_rounded_to_whole_seconds() -> None:
    closed = [trade(1, "0", opened_at_ms=1_000_000, closed_at_ms=1_002_500)]

    assert figures_of(closed).duration_s == 2
    assert figures_of([*closed, trade(2, "0", opened_at_ms=1_000_000, closed_at_ms=1_002_502)]).duration_s == 3


def test_open_positions_count_at_the_mark() -> None:
    told = stats([trade(1, "5"), make_position(2, fees=Decimal(1))])

    assert (told.open_positions, told.total_trades) == (1, 1)
    assert (told.unrealised_pnl, told.realised_pnl, told.total_pnl) == ("9.00", "5.00", "14.00")


def test_an_open_position_without_a_mark_counts_at_its_entry() -> None:
    told = strategy_statistics(STRATEGY_ID, "all", [make_position()], Tally(), marks={SYMBOL: Decimal(0)})

    assert told.unrealised_pnl == "0.00"


def test_each_mode_sees_its_own_trades_only() -> None:
    positions = [
        trade(1, "10", dry_run=True),
        trade(2, "-3", dry_run=False),
        make_position(3, dry_run=True),
        make_position(4, dry_run=False),
        make_position(5, dry_run=False),
    ]

    told = {mode: stats(positions, mode) for mode in ("paper", "live", "all")}

    assert {mode: one.realised_pnl for mode, one in told.items()} == {"paper": "10.00", "live": "-3.00", "all": "7.00"}
    assert {mode: one.open_positions for mode, one in told.items()} == {"paper": 1, "live": 2, "all": 3}
    assert {mode: one.mode for mode, one in told.items()} == {"paper": "paper", "live": "live", "all": "all"}


def test_over_all_modes_the_tally_speaks_for_trades_no_longer_kept() -> None:
    tally = tally_of([trade(1, "10"), trade(2, "-4"), trade(3, "2")])

    told = stats([trade(3, "2")], tally=tally)

    assert (told.total_trades, told.realised_pnl, told.max_drawdown) == (3, "8.00", "4.00")
    assert stats([trade(3, "2")], "paper", tally).total_trades == 1


@given(st.lists(st.integers(-10_000, 10_000), max_size=25))
def test_the_figures_agree_with_each_other(cents: list[int]) -> None:
    closed = [trade(number, str(Decimal(cent) / 100)) for number, cent in enumerate(cents)]

    figures = figures_of(closed)

    tally = figures.tally
    assert tally.gross_profit - tally.gross_loss == tally.pnl == Decimal(sum(cents)) / 100
    assert figures.drawdown >= max(Decimal(0), -tally.pnl)
    assert 0 <= figures.win_rate <= 1
    if figures.profit_factor is not None and tally.gross_loss:
        assert (figures.profit_factor > 1) == (tally.pnl > 0)
