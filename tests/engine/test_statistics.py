"""The figures of closed trades, per mode, and what they are when there is nothing to divide by."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from pipaid.engine.statistics import Mode, Share, figures_of, strategy_statistics, tally_of
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
    return strategy_statistics(STRATEGY_ID, [mode], [share(positions, tally=tally)], marks=MARKS)


def share(positions: list[Position], number: int = 1, *, tally: Tally | None = None, **fields: Any) -> Share:
    closed = sorted((each for each in positions if not each.is_open), key=lambda each: each.closed_at_ms)
    given: dict[str, Any] = {"strategy_id": f"strat_{number}", "account": f"acct_{number}", **fields}
    return Share(positions=positions, tally=tally or tally_of(closed), **given)


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
    told = strategy_statistics(STRATEGY_ID, ["all"], [share([make_position()])], marks={SYMBOL: Decimal(0)})

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


# Several accounts and modes.


def test_what_accounts_come_to_together_is_reckoned_from_all_their_trades() -> None:
    # Closed in the order of their numbers: +10, -4, +6 on one account, -12 and +5 on the other in between.
    one = [trade(1, "10", fees=Decimal("0.1")), trade(3, "-4"), trade(5, "6")]
    other = [trade(2, "-12", dry_run=False), trade(4, "5", dry_run=False), make_position(6, dry_run=False)]

    told = strategy_statistics(STRATEGY_ID, ["all"], [share(one), share(other, 2)], marks=MARKS)

    # 9.9, -2.1, -6.1, -1.1, 4.9: the deepest fall is from 9.9 to -6.1.
    assert (told.total_trades, told.winning_trades, told.losing_trades) == (5, 3, 2)
    assert (told.realised_pnl, told.unrealised_pnl, told.total_pnl) == ("4.90", "10.00", "14.90")
    assert (told.gross_profit, told.gross_loss, told.profit_factor) == ("20.90", "16.00", "1.306")
    assert (told.win_rate, told.max_drawdown, told.expected_value) == ("0.600", "16.00", "0.98")
    assert (told.fees, told.open_positions, told.account_id) == ("0.10", 1, UNSET)
    assert told.bindings is not UNSET
    first, second = told.bindings
    assert (first.account_id, first.strategy_ids, first.realised_pnl, first.max_drawdown) == (
        "acct_1", ("strat_1",), "11.90", "4.00",
    )  # fmt: skip
    assert (second.account_id, second.realised_pnl, second.total_pnl, second.max_drawdown) == (
        "acct_2", "-7.00", "3.00", "12.00",
    )  # fmt: skip


def test_who_followed_on_an_account_before_counts_there_with_who_does_now() -> None:
    gone, now = share([trade(1, "3")], 2, strategy_id="strat_gone"), share([trade(2, "4")], 2)

    told = strategy_statistics(STRATEGY_ID, ["all"], [share([trade(3, "1")]), now, gone], marks={})

    assert told.bindings is not UNSET
    assert [(each.account_id, each.strategy_ids, each.realised_pnl) for each in told.bindings] == [
        ("acct_1", ("strat_1",), "1.00"),
        ("acct_2", ("strat_2", "strat_gone"), "7.00"),
    ]


def test_several_modes_are_told_one_by_one_and_together() -> None:
    positions = [trade(1, "10", dry_run=True), trade(2, "-3", dry_run=False)]

    told = strategy_statistics(STRATEGY_ID, ["live", "paper", "live"], [share(positions)], marks={})

    assert (told.mode, told.realised_pnl, told.bindings) == ("live,paper", "7.00", UNSET)
    assert told.modes is not UNSET
    assert [(each.mode, each.realised_pnl, each.total_trades) for each in told.modes] == [
        ("live", "-3.00", 1),
        ("paper", "10.00", 1),
    ]
    assert stats(positions, "live").modes is UNSET


def test_of_one_account_nothing_is_told_apart() -> None:
    told = strategy_statistics(STRATEGY_ID, ["all"], [share([trade(1, "3")], 2)], marks={}, account="acct_2")

    assert (told.account_id, told.bindings, told.realised_pnl) == ("acct_2", UNSET, "3.00")
    both = [share([trade(1, "3")], 2), share([trade(2, "4")], 2, strategy_id="strat_gone")]
    told = strategy_statistics(STRATEGY_ID, ["all"], both, marks={}, account="acct_2")
    assert (told.bindings, told.realised_pnl) == (UNSET, "7.00")
    assert strategy_statistics(STRATEGY_ID, ["all"], [], marks={}, account="acct_3").total_trades == 0


@given(st.lists(st.tuples(st.integers(-10_000, 10_000), st.integers(1, 3), st.booleans()), max_size=25))
def test_the_accounts_add_up_to_the_whole_and_so_do_the_modes(drawn: list[tuple[int, int, bool]]) -> None:
    held: dict[int, list[Position]] = {1: [], 2: [], 3: []}
    for number, (cents, account, dry) in enumerate(drawn):
        open_one = cents % 7 == 0
        fields: dict[str, Any] = {"fees": Decimal(1), "funding": Decimal(abs(cents) % 3), "dry_run": dry}
        held[account].append(make_position(number, **fields) if open_one else trade(number, str(cents), **fields))
    shares = [
        share(
            positions,
            account,
            tally=msgspec.structs.replace(
                tally_of(each for each in positions if not each.is_open), fills=len(positions)
            ),
            paper_fills=sum(each.dry_run for each in positions),
        )
        for account, positions in held.items()
    ]

    told = strategy_statistics(STRATEGY_ID, ["live", "paper"], shares, marks=MARKS)

    assert told.modes is not UNSET
    assert told.bindings is not UNSET
    for parts in (told.modes, told.bindings):
        for name in ("total_trades", "winning_trades", "losing_trades", "open_positions", "fills"):
            assert sum(getattr(part, name) for part in parts) == getattr(told, name)
        for name in ("realised_pnl", "unrealised_pnl", "total_pnl", "gross_profit", "gross_loss", "fees", "funding"):
            assert sum(Decimal(getattr(part, name)) for part in parts) == Decimal(getattr(told, name))
    assert told.fills == len(drawn)
    assert told.modes[1].fills == sum(dry for _, _, dry in drawn)
