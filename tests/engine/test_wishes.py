"""Entries: sized, judged by every cap at its moment, placed, or refused and told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipaid.engine.book import Book, Caps
from pipaid.model.event import RiskBlocked
from pipaid.model.order import OrderStatus, OrderType, Side
from pipaid.model.position import Direction
from pipaid.model.strategy import Status
from tests.builders import (
    MINUTE_MS,
    OTHER,
    START_MS,
    SYMBOL,
    Bench,
    enter,
    held,
    held_of,
    limit,
    make_bench,
    make_instrument,
    make_strategy,
    opened,
    plan,
    refusal,
    scripted,
    wishing,
)

# Entries.


def test_a_market_entry_is_placed_at_the_mark() -> None:
    bench = wishing(enter(quantity=Decimal("1.2345")))

    (order,) = bench.placed
    assert (order.type, order.side, order.quantity, order.price) == (
        OrderType.MARKET,
        Side.BUY,
        Decimal("1.234"),
        Decimal(100),
    )
    assert (order.status, order.reduce_only, order.leverage) == (OrderStatus.INTENDED, False, 1)
    assert order.placed_at_ms == bench.quotes.now_ms
    assert order.market_step == bench.quotes.step


def test_a_limit_entry_is_placed_on_the_tick_with_its_levels() -> None:
    bench = wishing(
        limit("95.04", direction=Direction.SHORT, stop_price=Decimal("105.07"), take_profit_price=Decimal("80.01"))
    )

    (order,) = bench.placed
    assert (order.side, order.price) == (Side.SELL, Decimal("95.0"))
    assert (order.stop_price, order.take_profit_price) == (Decimal("105.1"), Decimal("80.0"))


def test_orders_are_numbered_without_holes_and_refused_ones_take_no_number() -> None:
    bench = wishing(limit("95"), limit("94", quantity=Decimal(10**6)), limit("93"))

    first, second = (order.client_order_id for order in bench.placed)
    assert int(second[-10:], 16) - int(first[-10:], 16) == 1
    assert len({order.id for order in bench.placed} | {order.position_id for order in bench.placed}) == 4


def test_a_tag_is_entered_once_while_it_is_alive() -> None:
    bench = make_bench(scripted(on_candle=lambda view: [limit("95", tag="a"), limit("96", tag="a"), limit("97")]))

    bench.close()
    bench.close()

    assert [order.tag for order in bench.placed] == ["a", "", ""]
    bench.fill(bench.placed[0])
    bench.close()
    assert [order.tag for order in bench.placed].count("a") == 1


def test_without_a_price_nothing_is_entered_at_the_market() -> None:
    bench = make_bench(scripted(on_start=plan([enter()])))
    bench.quotes.prices.clear()

    bench.settle(bench.session.on_start())

    assert not bench.placed
    assert refusal(bench) == ("stale_data", "fresh prices", "none yet")


def test_a_price_below_the_tick_is_a_refusal_and_no_division_by_zero() -> None:
    bench = wishing(limit("0.01", notional=Decimal(10)))

    assert not bench.placed
    assert refusal(bench)[:2] == ("venue_filter", "PRICE_FILTER")


@pytest.mark.parametrize(
    ("entry", "limit_told", "value"),
    [
        (enter(stop_price=Decimal(100)), "stop below 100", "100"),
        (enter(stop_price=Decimal(101)), "stop below 100", "101"),
        (enter(take_profit_price=Decimal(99)), "target above 100", "99"),
        (limit("95", stop_price=Decimal(96)), "stop below 95", "96"),
        (enter(direction=Direction.SHORT, stop_price=Decimal(99)), "stop above 100", "99"),
        (enter(direction=Direction.SHORT, take_profit_price=Decimal(101)), "target below 100", "101"),
    ],
)
def test_an_entry_whose_price_has_passed_its_stop_or_target_is_refused(entry: Any, limit_told: str, value: str) -> None:
    bench = wishing(entry)

    assert not bench.placed
    assert refusal(bench) == ("protection", limit_told, value)


def test_a_level_below_the_tick_is_none() -> None:
    assert wishing(enter(stop_price=Decimal("0.01"))).placed[0].stop_price is None


def test_no_room_is_told_as_a_size_of_nothing() -> None:
    bench = wishing(enter(notional=Decimal("0.05")))

    assert refusal(bench) == ("size", "at least 0.001 on the lot", "0")


def test_entries_of_one_decision_share_the_capital() -> None:
    bench = wishing(*(limit(str(99 - level), quantity=Decimal(4)) for level in range(4)))

    assert [order.price for order in bench.placed] == [99, 98]
    assert refusal(bench) == ("allocation", "212", "388")  # 1000 - 4 x 99 - 4 x 98


def test_each_symbol_has_its_share_of_the_capital() -> None:
    bench = wishing(enter(quantity=Decimal(5)), enter(symbol=OTHER, quantity=Decimal("4.9")), symbols=(SYMBOL, OTHER))

    assert [order.symbol for order in bench.placed] == [OTHER]  # Five at a hundred are 505 with the reserve.
    assert refusal(bench) == ("allocation", "500", "505")


def test_leverage_multiplies_the_room() -> None:
    bench = wishing(limit("100", notional=Decimal(5000)), leverage=3)

    assert bench.placed[0].quantity == 30
    assert bench.placed[0].leverage == 3


def test_the_rest_of_the_capital_is_what_a_clamped_entry_gets() -> None:
    bench = wishing(limit("100", notional=Decimal(700)), limit("100", notional=Decimal(700)))

    assert [order.quantity for order in bench.placed] == [7, 3]


def test_a_paused_strategy_only_reduces() -> None:
    bench = opened(None, [enter(), held_of()])
    bench.settle(bench.session.become(msgspec.structs.replace(bench.session.strategy, status=Status.PAUSED)))

    bench.close()

    assert [order.reduce_only for order in bench.placed] == [False, True]
    assert refusal(bench) == ("status", "deployed", "paused")


def test_what_closes_down_enters_nothing_though_it_is_deployed() -> None:
    bench = make_bench(scripted(on_candle=lambda view: [enter()]))
    bench.session.entries_closed = "pausing"

    bench.close()

    assert refusal(bench) == ("status", "deployed", "pausing")
    assert bench.session.may_not_enter() == "pausing"


def test_the_kill_switch_stops_entries_and_lets_exits_through() -> None:
    bench = opened(None, [enter(), held_of()])
    bench.book.blocked = "kill switch: drill"

    bench.close()

    assert [order.reduce_only for order in bench.placed] == [False, True]
    assert refusal(bench) == ("kill_switch", "off", "kill switch: drill")


def test_nothing_is_entered_on_stale_prices() -> None:
    bench = make_bench(scripted(on_candle=plan([enter()], [enter()])))
    bench.quotes.stale.add(SYMBOL)

    bench.close()
    assert refusal(bench)[0] == "stale_data"

    bench.quotes.stale.clear()
    bench.close()
    assert len(bench.placed) == 1


def test_what_is_too_small_is_told_once_until_something_is_entered() -> None:
    small, large = enter(quantity=Decimal("0.0004")), enter(quantity=Decimal(1))
    least = enter(notional=Decimal(10), notional_min=Decimal(20))
    bench = make_bench(scripted(on_candle=plan([small, least], [small, least], [large], [small], [small])))

    told: list[list[str]] = []
    for _ in range(5):
        before = len(bench.said(RiskBlocked))
        bench.close()
        told.append([blocked.rule for blocked in bench.said(RiskBlocked)[before:]])

    assert told == [["size", "min_trade_amount"], [], [], ["size"], []]
    # Each evaluation that wished for it is a run of its own all the same.
    assert bench.book.refusals == {"size": 4, "min_trade_amount": 2}


def test_a_refusal_is_told_once_a_candle_for_each_rule_and_symbol() -> None:
    greedy = [enter(quantity=Decimal(100)), enter(quantity=Decimal(100)), enter(notional=Decimal("0.01"))]
    bench = make_bench(scripted(on_candle=plan(greedy, greedy)))

    bench.close()
    assert [blocked.rule for blocked in bench.said(RiskBlocked)] == ["allocation", "size"]

    bench.close()
    assert [blocked.rule for blocked in bench.said(RiskBlocked)] == ["allocation", "size", "allocation"]


# Caps over time.


def round_trip(bench: Bench, price: str) -> None:
    """Open a lot of one at a hundred and leave it at a price, by itself."""
    before = len(bench.placed)
    bench.close()
    bench.fill(bench.placed[before])
    bench.close()
    bench.fill(bench.placed[before + 1], price=price)


def trading(**more: Any) -> Bench:
    """Make a bench that enters when it holds nothing and leaves when it holds something."""
    return make_bench(scripted(on_candle=lambda view: [held(lot) for lot in view.positions] or [enter()]), **more)


def test_the_cooldown_runs_from_the_closing_on() -> None:
    bench = trading(risk={"cooldown_bars": 2})
    round_trip(bench, "101")
    closed_ms = bench.quotes.now_ms

    bench.close()
    assert refusal(bench) == ("cooldown", str(closed_ms + 2 * MINUTE_MS), str(closed_ms + MINUTE_MS))

    bench.close()
    assert len(bench.placed) == 3


def test_the_trades_of_a_day_are_counted_until_midnight_utc() -> None:
    bench = trading(risk={"max_trades_per_day": 2})
    round_trip(bench, "101")
    round_trip(bench, "101")

    bench.close()
    assert refusal(bench) == ("daily_limit", "2", "3")

    bench.quotes.now_ms = START_MS + 86_400_000
    bench.close()
    assert len(bench.placed) == 5


def test_the_loss_of_a_day_is_forgotten_at_midnight_utc() -> None:
    bench = trading(risk={"max_daily_loss": "10"})
    round_trip(bench, "90")
    round_trip(bench, "99")

    bench.close()
    assert refusal(bench) == ("daily_loss", "10", "11")

    bench.quotes.now_ms = START_MS + 86_400_000 - MINUTE_MS
    bench.close()  # This candle closes at midnight and belongs to the new day.
    assert len(bench.placed) == 5


def test_a_fall_from_the_peak_stops_entries() -> None:
    bench = trading(risk={"max_drawdown_pct": "0.05"})
    round_trip(bench, "150")  # The equity peaks at 1050; the next trade brings it to 997.
    round_trip(bench, "47")

    bench.close()

    rule, cap, value = refusal(bench)
    assert (rule, cap) == ("max_drawdown", "0.05")
    assert Decimal(value) == Decimal(53) / 1050


def test_the_fall_of_what_is_open_counts_and_its_rise_does_not() -> None:
    bench = opened(None, [enter()], [enter()], risk={"max_drawdown_pct": "0.02"})

    bench.close("79")
    assert refusal(bench)[0] == "max_drawdown"

    bench.close("150")
    assert len(bench.placed) == 2


def test_the_entries_of_a_minute_are_counted_and_exits_are_not() -> None:
    bench = opened(None, [held_of(), limit("90"), limit("89"), limit("88")], [limit("87")], risk={"max_order_rate": 2})

    bench.close()
    assert [order.price for order in bench.placed] == [100, 100, 90, 89]
    assert refusal(bench) == ("order_rate", "2", "3")

    bench.close()
    assert bench.placed[-1].price == 87
    assert len(bench.session.brain.order_times_ms) == 1


def test_the_number_of_lots_and_working_entries_is_capped() -> None:
    bench = opened(None, [limit("90"), limit("89")], risk={"max_open_positions": 2})

    bench.close()

    assert len(bench.placed) == 2
    assert refusal(bench) == ("max_positions", "2", "3")


def test_account_caps_see_the_neighbours() -> None:
    book = Book(caps=Caps(exposure_max=Decimal(150)))
    wishing(limit("100"), book=book)
    neighbour = make_bench(scripted(on_candle=plan([limit("100")])), book=book, strategy=make_strategy(id="strat_2"))

    neighbour.close()

    assert refusal(neighbour) == ("account_exposure", "150", "200")


def test_an_account_without_hedging_takes_one_direction_a_symbol() -> None:
    book = Book(caps=Caps(hedging_allowed=False))
    first = wishing(limit("90"), limit("110", direction=Direction.SHORT), book=book)
    neighbour = make_bench(
        scripted(on_candle=plan([enter(direction=Direction.SHORT)], [enter(direction=Direction.SHORT)])),
        book=book,
        strategy=make_strategy(id="strat_2"),
    )

    neighbour.close()
    assert (refusal(first)[0], refusal(neighbour)[0]) == ("hedging", "hedging")

    first.end(first.placed[0])
    neighbour.close()
    assert len(neighbour.placed) == 1


def test_the_trade_rate_outlives_the_trades() -> None:
    bench = trading(caps=Caps(rate_limit_max_trades=2, rate_limit_window_hours=Decimal("0.1")))
    round_trip(bench, "101")
    round_trip(bench, "101")

    bench.close()
    assert refusal(bench) == ("trade_rate", "2", "3")

    bench.wait(5 * MINUTE_MS)
    bench.close()
    assert len(bench.placed) == 5


def test_the_entries_of_an_account_s_day_are_capped_and_counted_after_a_crash() -> None:
    bench = trading(caps=Caps(orders_per_day_max=2))
    round_trip(bench, "101")
    round_trip(bench, "101")
    bench.book = Book(caps=bench.book.caps)
    bench.rebuild()

    bench.close()

    assert refusal(bench) == ("orders_per_day", "2", "3")


def test_a_coarse_lot_and_tick_are_kept_to() -> None:
    coarse = make_instrument(tick_size=Decimal("10"), lot_size=Decimal("1E+1"))

    bench = wishing(limit("96", notional=Decimal(2990)), instruments=[coarse], capital=Decimal(10_000))

    assert bench.placed[0].price == 100
    assert bench.placed[0].quantity == 20
