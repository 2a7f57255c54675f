"""Averaging buys at deployment and at each interval of venue time, and treats all its lots as one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipaid.sdk import Alarm, CloseReason, Enter, ExitAll, Protect
from templates.dca import Dca
from tests.signals.candles import candles_of, make_candle
from tests.templates.driver import Driver
from tests.templates.test_wakes import make_template


def make_dca(closes: list[Any], **changes: Any) -> Driver:
    """Return a strategy deployed at 100 at the end of the hour that closes at 2 o'clock, which has then seen hours."""
    trouble = {name: changes.pop(name) for name in ("capital", "closed_by_hand") if name in changes}
    params = {"interval": "4h", "buy_amount": "1000", **changes}
    driver = Driver(make_template(Dca, params), **trouble)
    driver.know(candles_of([100, 100]))
    driver.deploy()
    return driver.run(candles_of(closes, start=2))


def buys(driver: Driver) -> list[tuple[int, str, int]]:
    """Return when, under which tag and for how much was bought; the hour is that of the deciding candle's close."""
    return [
        (wish.index + 1, wish.intent.tag, int(wish.intent.notional or 0))
        for wish in driver.wishes
        if isinstance(wish.intent, Enter)
    ]


def test_it_buys_at_deployment_and_at_each_boundary() -> None:
    driver = make_dca([100] * 11)

    assert buys(driver) == [(2, "B0", 1000), (4, "B1", 1000), (8, "B2", 1000), (12, "B3", 1000)]
    assert driver.calls == 3


def test_a_boundary_without_a_candle_is_made_up_for_by_the_next_one() -> None:
    driver = make_dca([])

    driver.run(candles_of([100, 100], start=5))

    assert buys(driver) == [(2, "B0", 1000), (6, "B1", 1000)]


def test_weeks_begin_on_monday() -> None:
    # The epoch was a Thursday, so the hour that closes at the end of Sunday is the 96th.
    driver = make_dca([100] * 100, interval="1w")

    assert [hour for hour, _, _ in buys(driver)] == [2, 96]


def test_it_holds_no_more_lots_than_told() -> None:
    driver = make_dca([100] * 30, max_buys=3)

    assert len(buys(driver)) == len(driver.positions) == 3


def test_the_last_buy_takes_what_is_left_down_to_half() -> None:
    last = make_dca([100] * 30, capital=Decimal(2600))
    short = make_dca([100] * 30, capital=Decimal(2400))

    assert [round(lot.entry_value) for lot in last.positions] == [1000, 1000, 600]
    assert [round(lot.entry_value) for lot in short.positions] == [1000, 1000]


def test_the_buy_for_which_nothing_is_left_is_wished_for_once_so_that_its_refusal_tells_why() -> None:
    driver = make_dca([100] * 30, capital=Decimal(2400))
    again = Driver(driver.template, capital=Decimal(0))
    again.know(candles_of([100, 100]))
    again.deploy()

    assert buys(driver) == [(2, "B0", 1000), (4, "B1", 1000), (8, "B2", 400)]
    assert [(wish.notional, wish.notional_min) for wish in again.wished(Enter)] == [(Decimal("0.01"), Decimal(500))]
    assert again.positions == []


def test_one_alarm_follows_the_average_of_all_lots() -> None:
    driver = make_dca([100, 80, 80, 80], take_profit_pct="0.1", stop_loss_pct="0.5")

    first, second = driver.positions
    average = (first.entry_value + second.entry_value) / (first.quantity + second.quantity)
    assert Decimal(88) < average < Decimal(90)
    assert driver.alarm is not None
    assert driver.alarm.above == average * Decimal("1.1")
    assert driver.alarm.below == average / 2
    assert driver.wished(Protect) == []


def test_a_buy_costs_the_same_however_many_lots_there_are() -> None:
    driver = make_dca([100] * 200, interval="1h", buy_amount="10", take_profit_pct="0.1", stop_loss_pct="0.5")

    assert len(driver.positions) == 200
    assert len(driver.wished(Enter)) == 201
    assert len(driver.wished(Alarm)) == 201


def test_all_lots_leave_together_and_buying_goes_on() -> None:
    driver = make_dca([100, 80, 80, 80, 99, 99, 99, 99], take_profit_pct="0.1")

    assert [trade.reason for trade in driver.trades] == [CloseReason.TAKE_PROFIT] * 2
    assert sum(trade.pnl for trade in driver.trades) > 0
    assert [lot.tag for lot in driver.positions] == ["B2"]


def test_all_lots_leave_at_the_stop_too() -> None:
    driver = make_dca([100, 100, 90, 90, 90, 90], stop_loss_pct="0.1", take_profit_pct="0.1", interval="1d")

    assert [trade.reason for trade in driver.trades] == [CloseReason.STOP_LOSS]
    assert driver.alarm is None


def test_a_level_within_a_candle_is_enough() -> None:
    driver = make_dca([100], take_profit_pct="0.1", interval="1d")

    driver.run([make_candle("100", index=3, high="111"), make_candle("100", index=4)])

    assert [wish.callback for wish in driver.wishes if isinstance(wish.intent, ExitAll)] == ["on_price"]
    assert [(trade.exit_price, trade.reason) for trade in driver.trades] == [(Decimal(100), CloseReason.TAKE_PROFIT)]


def test_an_alarm_without_lots_sells_nothing() -> None:
    driver = make_dca([100, 100, 100, 120, 120], take_profit_pct="0.1", interval="1d", closed_by_hand=[3])

    assert [trade.reason for trade in driver.trades] == [CloseReason.MANUAL]
    assert driver.wished(ExitAll) == []


def test_a_stop_of_all_the_price_is_no_stop() -> None:
    driver = make_dca([100, 100], stop_loss_pct="1", take_profit_pct="0.2")

    assert driver.alarm is not None
    assert (driver.alarm.below, driver.alarm.above) == (None, Decimal(120))


def test_without_target_and_stop_there_is_no_alarm() -> None:
    driver = make_dca([100] * 11)

    assert driver.alarm is None
    assert [wish.callback for wish in driver.wishes if isinstance(wish.intent, Alarm)] == ["on_start"]


def test_a_new_deployment_looks_after_what_is_held() -> None:
    driver = make_dca([100], take_profit_pct="0.1")
    driver.template = make_template(Dca, {"interval": "4h", "buy_amount": "1000", "stop_loss_pct": "0.25"})

    driver.deploy()

    assert driver.alarm is not None
    assert (driver.alarm.below, driver.alarm.above) == (Decimal(75), None)


def test_a_second_deployment_within_the_interval_does_not_buy_again() -> None:
    driver = make_dca([100])

    driver.deploy()
    driver.run(candles_of([100], start=3))

    assert [lot.tag for lot in driver.positions] == ["B0"]
