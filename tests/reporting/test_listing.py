"""The trades that a report lists: all of few, the weightiest of many, with candles as long as there is room."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipaid.reporting import listing
from pipaid.reporting.listing import WINDOW_CANDLES_MAX, listing_of
from tests.builders import OTHER, START_MS
from tests.reporting.test_charting import rows_of, unpacked
from tests.results import make_columns, make_level, make_result, make_trade

MINUTE_MS = 60_000


def test_trades_are_listed_exactly_and_in_their_order() -> None:
    trades = (make_trade(1, "-0.005"), make_trade(2, "12.345", qty=Decimal("0.00010"), fee=Decimal("0.1")))

    rows = listing_of(make_result(trades=trades), {}).rows

    assert [(row.id, row.pnl, row.window) for row in rows] == [(1, "-0.01", -1), (2, "12.35", -1)]
    assert (rows[1].qty, rows[1].fee, rows[1].exit_price, rows[1].reason) == ("0.00010", "0.10", "112.345", "exit_rule")


def test_of_too_many_trades_the_weightiest_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "LISTED_TRADES_MAX", 3)
    trades = tuple(make_trade(number, pnl) for number, pnl in enumerate(("1", "-9", "2", "-1", "7", "-2")))

    told = listing_of(make_result(trades=trades), {})

    assert [row.id for row in told.rows] == [1, 2, 4]
    assert told.note.startswith("3 of 6 trades are left out here: those with the smallest profits and losses.")
    assert listing_of(make_result(trades=trades[:3]), {}).note == ""


def test_a_window_holds_the_true_candles_around_its_trade() -> None:
    candles = make_columns(2_000)
    trade = make_trade(1, entry_time_ms=START_MS + 600 * MINUTE_MS, exit_time_ms=START_MS + 700 * MINUTE_MS)

    told = listing_of(make_result(trades=(trade,)), {trade.symbol: candles})

    drawn = unpacked(told.windows[told.rows[0].window])
    assert (told.windows[0].timeframe, drawn[0][0]) == ("1m", START_MS + 540 * MINUTE_MS)
    assert drawn[-1][0] >= START_MS + 760 * MINUTE_MS
    assert drawn == rows_of(candles.between(drawn[0][0], drawn[-1][0] + 1))


def test_a_window_of_a_long_trade_has_larger_candles() -> None:
    candles = make_columns(20_000)
    trade = make_trade(1, entry_time_ms=START_MS + MINUTE_MS, exit_time_ms=START_MS + 19_000 * MINUTE_MS)

    told = listing_of(make_result(trades=(trade,)), {trade.symbol: candles})

    assert told.windows[0].timeframe == "1h"
    assert len(told.windows[0].steps) <= WINDOW_CANDLES_MAX


def test_trades_close_to_each_other_share_a_window() -> None:
    trades = tuple(
        make_trade(number, entry_time_ms=START_MS + (300 + number) * MINUTE_MS, exit_time_ms=START_MS + 400 * MINUTE_MS)
        for number in range(10)
    )

    told = listing_of(make_result(trades=trades), {trades[0].symbol: make_columns()})

    assert (len(told.windows), {row.window for row in told.rows}) == (1, {0})


def test_the_weightiest_trades_get_the_room_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "CARRIED_CANDLES_MAX", 350)
    monkeypatch.setattr(listing, "CARRIED_LEVELS_MAX", 2)
    starts = [START_MS + number * 1_000 * MINUTE_MS for number in range(1, 5)]
    trades = tuple(
        make_trade(number, str(number), entry_time_ms=at, exit_time_ms=at + MINUTE_MS)
        for number, at in enumerate(starts)
    )
    levels = tuple(make_level(position_id=trade.position_id) for trade in trades)

    told = listing_of(make_result(trades=trades, levels=levels), {trades[0].symbol: make_columns(6_000)})

    assert [row.window >= 0 for row in told.rows] == [False, False, True, True]
    assert [len(row.levels) for row in told.rows] == [0, 0, 1, 1]


def test_a_trade_outside_of_its_candles_has_no_window() -> None:
    far = make_trade(1, entry_time_ms=START_MS - 10**10, exit_time_ms=START_MS - 10**10 + MINUTE_MS)

    told = listing_of(make_result(trades=(far, make_trade(2, symbol=OTHER))), {far.symbol: make_columns()})

    assert [row.window for row in told.rows] == [-1, -1]


def test_a_trade_has_the_levels_of_its_own_lot() -> None:
    levels = (make_level("95"), make_level("96", 60_000, 90_000), make_level("90", position_id="pos_2"))

    (row,) = listing_of(make_result(trades=(make_trade(1),), levels=levels), {}).rows

    assert [(level.kind, level.price) for level in row.levels] == [("stop", 95.0), ("stop", 96.0)]
