"""A grid rests entries on the right side, closes each lot one level further, places it again, ends at its edges."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipaid.sdk import CancelEntries, CloseReason, Direction, Enter, Exit, Instrument
from templates.grid import LOST_MAX, Grid
from tests.signals.candles import candles_of, make_candle
from tests.templates.driver import EURO, Driver
from tests.templates.test_wakes import make_template

RANGE: dict[str, Any] = {"grid_levels": 5, "lower_price": "100", "upper_price": "140"}  # 100, 110, 120, 130, 140.


def make_grid(closes: Iterable[Any] = (), *, start: Any, instrument: Instrument = EURO, **changes: Any) -> Driver:
    """Return a grid deployed at a price that has then seen the closes."""
    params = {**RANGE, **{name: value for name, value in changes.items() if name not in ("lost", "leverage")}}
    trouble = {name: value for name, value in changes.items() if name in ("lost", "leverage")}
    driver = Driver(make_template(Grid, params), instrument=instrument, **trouble)
    driver.know([make_candle(start)])
    driver.deploy()
    return driver.run(candles_of(closes, start=1))


def placed(driver: Driver) -> dict[str, tuple[str, str]]:
    """Return direction and price of the working entries by tag."""
    return {entry.tag: (entry.direction.value, f"{entry.price:f}".rstrip("0").rstrip(".")) for entry in driver.entries}


def test_a_long_grid_buys_below_the_price_only() -> None:
    driver = make_grid(start=125)

    assert placed(driver) == {"L0": ("long", "100"), "L1": ("long", "110"), "L2": ("long", "120")}
    # A quarter of the capital for each of the four intervals, the nearest level first.
    assert [(wish.tag, wish.notional) for wish in driver.wished()] == [("L2", 2500), ("L1", 2500), ("L0", 2500)]


def test_a_short_grid_sells_above_the_price_only() -> None:
    assert placed(make_grid(start=115, side="short")) == {
        "L2": ("short", "120"),
        "L3": ("short", "130"),
        "L4": ("short", "140"),
    }


def test_a_neutral_grid_buys_below_and_sells_above_its_start() -> None:
    driver = make_grid(start=115, side="neutral")

    assert placed(driver) == {
        "L0": ("long", "100"),
        "L1": ("long", "110"),
        "L2": ("short", "120"),
        "L3": ("short", "130"),
        "L4": ("short", "140"),
    }
    # Five entries rest at once, and together they may not exceed the capital.
    assert {wish.notional for wish in driver.wished()} == {Decimal(2000)}


def test_leverage_multiplies_what_each_level_buys() -> None:
    assert {wish.notional for wish in make_grid(start=145, leverage=3).wished(Enter)} == {Decimal(7500)}


def test_geometric_levels_stand_at_equal_ratios_on_the_tick() -> None:
    driver = make_grid(start=500, spacing="geometric", lower_price="100", upper_price="400", grid_levels=3)

    assert placed(driver) == {"L0": ("long", "100"), "L1": ("long", "200")}


def test_a_filled_level_is_closed_one_level_up_and_bought_again() -> None:
    driver = make_grid([119, 128, 131], start=125)

    exits = [wish for wish in driver.wished(Exit) if wish.position_id == "pos_1"]
    assert [(wish.price, wish.reason) for wish in exits] == [(130, CloseReason.TAKE_PROFIT)]
    (trade,) = driver.trades
    assert (trade.tag, trade.reason, trade.exit_price) == ("L2", CloseReason.TAKE_PROFIT, Decimal(131))
    assert "L2" in placed(driver)


def test_two_filled_levels_are_two_positions() -> None:
    driver = make_grid([109], start=125)

    assert [(lot.tag, lot.direction) for lot in driver.positions] == [("L2", Direction.LONG), ("L1", Direction.LONG)]


def test_a_short_level_is_bought_back_one_level_down() -> None:
    driver = make_grid([121, 109], start=115, side="short")

    (trade,) = driver.trades
    assert (trade.tag, trade.direction, trade.reason) == ("L2", Direction.SHORT, CloseReason.TAKE_PROFIT)
    assert "L2" in placed(driver)


def test_a_level_above_the_price_is_placed_once_the_price_has_left_it() -> None:
    # The mark of level 3 stands at 130 + 0.5 x 10.
    driver = make_grid([134], start=125, rebalance_threshold="0.5")
    assert "L3" not in placed(driver)

    driver.run(candles_of([136], start=2))
    assert "L3" in placed(driver)


def test_candles_between_two_levels_wake_nobody() -> None:
    driver = make_grid([126, 124, 127, 129, 123, 121], start=125)

    assert driver.calls == 0


def test_a_lost_entry_is_tried_again_a_few_times() -> None:
    driver = make_grid(start=115, lost=range(1, 100))

    assert [wish.tag for wish in driver.wished()] == ["L1"] * (LOST_MAX + 1) + ["L0"] * (LOST_MAX + 1)
    assert placed(driver) == {}


def test_a_level_given_up_is_placed_when_the_price_comes_by_again() -> None:
    driver = make_grid([109, 111], start=115, lost=range(1, 2 * (LOST_MAX + 1) + 1))

    assert "L1" in placed(driver)


def test_a_position_closed_by_hand_is_not_entered_at_once() -> None:
    driver = make_grid(start=125)
    driver.closed_by_hand = {1}

    driver.run(candles_of([119], start=1))

    assert [trade.reason for trade in driver.trades] == [CloseReason.MANUAL]
    assert "L2" not in placed(driver)


def test_every_entry_of_a_grid_with_a_stop_carries_it() -> None:
    driver = make_grid(start=125, stop_loss_pct="0.05")

    assert {wish.stop_price for wish in driver.wished(Enter)} == {Decimal(95)}


def test_the_stop_closes_everything_and_ends_the_grid() -> None:
    driver = make_grid([105, 96, 94, 125, 135, 105], start=125, stop_loss_pct="0.05")

    assert {trade.tag for trade in driver.trades} == {"L1", "L2", "L0"}
    assert {trade.reason for trade in driver.trades} == {CloseReason.STOP_LOSS}
    assert (driver.positions, driver.entries) == ([], [])


def test_a_close_beyond_the_edge_ends_a_grid_that_holds_nothing() -> None:
    driver = make_grid([147, 125, 115], start=125, take_profit_pct="0.05")

    assert driver.wished(CancelEntries) == [CancelEntries(symbol="EURUSD")]
    assert (driver.trades, driver.positions, driver.entries) == ([], [], [])


def test_a_short_grid_has_its_stop_above_and_its_target_below() -> None:
    stopped = make_grid([141, 148], start=115, side="short", stop_loss_pct="0.05")
    assert {trade.reason for trade in stopped.trades} == {CloseReason.STOP_LOSS}
    assert stopped.positions == []

    done = make_grid([94, 115, 125], start=115, side="short", take_profit_pct="0.05")
    assert (done.trades, done.positions, done.entries) == ([], [], [])


@pytest.mark.parametrize("edge", [94, 148])
def test_a_neutral_grid_is_stopped_beyond_either_edge(edge: int) -> None:
    driver = make_grid([edge], start=120, side="neutral", stop_loss_pct="0.05")
    driver.run(candles_of([edge, 120], start=2))

    assert (driver.positions, driver.entries) == ([], [])
    assert {trade.reason for trade in driver.trades} == {CloseReason.STOP_LOSS}


def test_a_new_deployment_begins_anew_and_keeps_what_it_holds() -> None:
    driver = make_grid([109], start=125)
    held = driver.positions

    driver.deploy()

    assert driver.positions == held
    assert placed(driver) == {"L0": ("long", "100")}


def test_lots_of_earlier_params_still_find_an_exit_beyond_their_entry() -> None:
    driver = make_grid([109], start=125)
    driver.template = make_template(Grid, {**RANGE, "lower_price": "50", "upper_price": "90"})
    for lot in driver.positions:
        driver._exiting.pop(lot.id)

    driver.deploy()

    exits = {wish.position_id: wish.price for wish in driver.wished(Exit)[-2:]}
    assert all(exits[lot.id] > lot.entry_price for lot in driver.positions)


def test_levels_that_the_tick_merges_are_left_out() -> None:
    coarse = msgspec.structs.replace(EURO, tick_size=Decimal(10))
    driver = make_grid(start=200, instrument=coarse, grid_levels=9)

    prices = [entry.price for entry in driver.entries]
    assert len(prices) == len(set(prices)) == 4


def test_a_grid_deployed_before_the_first_price_begins_where_a_close_leaves_a_level() -> None:
    for every in (True, False):
        driver = Driver(make_template(Grid, RANGE), every=every)
        driver.deploy()
        assert driver.wishes == []

        driver.run(candles_of([115, 116, 121]))

        assert [wish.index for wish in driver.wishes] == [2, 2, 2]
        assert set(placed(driver)) == {"L0", "L1", "L2"}


def test_an_exit_that_got_lost_is_rested_again_at_the_next_level() -> None:
    driver = make_grid([109], start=125)
    driver._exiting.clear()

    driver.run(candles_of([111], start=2))

    assert {wish.price for wish in driver.wished(Exit)[-2:]} == {Decimal(120), Decimal(130)}
    assert all(driver.exiting(lot.id) for lot in driver.positions)
