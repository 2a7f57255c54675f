"""The trades that a report lists: all of few, the weightiest of many, with candles as long as there is room."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipaid.reporting import listing
from pipaid.reporting.listing import PIECE_CANDLES, PIECES_MAX, Listing, TradeRow, listing_of
from tests.builders import OTHER, START_MS
from tests.reporting.test_charting import rows_of, unpacked
from tests.results import make_columns, make_level, make_result, make_trade

MINUTE_MS = 60_000


def candles_of(told: Listing, row: TradeRow) -> list[tuple[int, int, int, int, int]]:
    """Return the candles that the page draws around a trade."""
    return [candle for number in row.pieces for candle in unpacked(told.blocks[number])]


def test_trades_are_listed_exactly_and_in_their_order() -> None:
    trades = (make_trade(1, "-0.005"), make_trade(2, "12.345", qty=Decimal("0.00010"), fee=Decimal("0.1")))

    rows = listing_of(make_result(trades=trades), {}).rows

    assert [(row.id, row.pnl, row.pieces) for row in rows] == [(1, "-0.01", []), (2, "12.35", [])]
    assert (rows[1].qty, rows[1].fee, rows[1].exit_price, rows[1].reason) == ("0.00010", "0.10", "112.345", "exit_rule")


def test_of_too_many_trades_the_weightiest_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "LISTED_TRADES_MAX", 3)
    trades = tuple(make_trade(number, pnl) for number, pnl in enumerate(("1", "-9", "2", "-1", "7", "-2")))

    told = listing_of(make_result(trades=trades), {})

    assert [row.id for row in told.rows] == [1, 2, 4]
    assert told.note.startswith("3 of 6 trades are left out here: those with the smallest profits and losses.")
    assert listing_of(make_result(trades=trades[:3]), {}).note == ""


def test_a_trade_comes_with_the_true_candles_around_it() -> None:
    candles = make_columns(2_000)
    trade = make_trade(1, entry_time_ms=START_MS + 610 * MINUTE_MS, exit_time_ms=START_MS + 700 * MINUTE_MS)

    told = listing_of(make_result(trades=(trade,)), {trade.symbol: candles})

    drawn = candles_of(told, told.rows[0])
    assert {block.timeframe for block in told.blocks} == {"1m"}
    assert (drawn[0][0], drawn[-1][0]) == (START_MS + 540 * MINUTE_MS, START_MS + 779 * MINUTE_MS)
    assert drawn == rows_of(candles.between(drawn[0][0], drawn[-1][0] + 1))


def test_a_long_trade_has_larger_candles() -> None:
    candles = make_columns(20_000)
    trade = make_trade(1, entry_time_ms=START_MS + MINUTE_MS, exit_time_ms=START_MS + 19_000 * MINUTE_MS)

    told = listing_of(make_result(trades=(trade,)), {trade.symbol: candles})

    drawn = candles_of(told, told.rows[0])
    assert [block.timeframe for block in told.blocks] == ["1h"]
    assert len(drawn) <= PIECE_CANDLES * PIECES_MAX
    assert drawn[-1][0] >= trade.exit_time_ms


def test_trades_close_to_each_other_share_their_candles() -> None:
    trades = tuple(
        make_trade(number, entry_time_ms=START_MS + (300 + number) * MINUTE_MS, exit_time_ms=START_MS + 500 * MINUTE_MS)
        for number in range(100)
    )

    told = listing_of(make_result(trades=trades), {trades[0].symbol: make_columns()})

    assert len(told.blocks) == 6
    assert candles_of(told, told.rows[0]) == candles_of(told, told.rows[30])


def test_the_weightiest_trades_get_the_room_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "CARRIED_CANDLES_MAX", 400)
    monkeypatch.setattr(listing, "CARRIED_LEVELS_MAX", 2)
    starts = [START_MS + number * 1_000 * MINUTE_MS for number in range(1, 5)]
    trades = tuple(
        make_trade(number, str(number), entry_time_ms=at, exit_time_ms=at + MINUTE_MS)
        for number, at in enumerate(starts)
    )
    levels = tuple(make_level(position_id=trade.position_id) for trade in trades)

    told = listing_of(make_result(trades=trades, levels=levels), {trades[0].symbol: make_columns(6_000)})

    assert [len(row.pieces) for row in told.rows] == [0, 0, 3, 3]
    assert [len(row.levels) for row in told.rows] == [0, 0, 1, 1]


def test_a_trade_outside_of_its_candles_has_none() -> None:
    far = make_trade(1, entry_time_ms=START_MS - 10**10, exit_time_ms=START_MS - 10**10 + MINUTE_MS)

    told = listing_of(make_result(trades=(far, make_trade(2, symbol=OTHER))), {far.symbol: make_columns()})

    assert [row.pieces for row in told.rows] == [[], []]


def test_a_trade_has_the_levels_of_its_own_lot() -> None:
    levels = (make_level("95"), make_level("96", 60_000, 90_000), make_level("90", position_id="pos_2"))

    (row,) = listing_of(make_result(trades=(make_trade(1),), levels=levels), {}).rows

    assert [(level.kind, level.price) for level in row.levels] == [("stop", 95.0), ("stop", 96.0)]
