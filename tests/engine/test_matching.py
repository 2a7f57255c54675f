"""The matching book of the simulated venue: which price, which order first, what expires, what is charged."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipaid.engine.matching import ORDERS_MAX, MatchingBook, Terms
from pipaid.model.order import Execution, FundingPaid, OrderFact, OrderType, Side, TimeInForce, market_step
from tests.engine.paper import (
    INSTRUMENT,
    SYMBOL,
    fills_of,
    holding,
    make_book,
    make_candle,
    make_exit,
    make_order,
    make_trade,
    opened,
    play,
    ranged,
    told,
)

D = Decimal


def test_a_market_order_is_filled_at_the_next_open() -> None:
    book = make_book()
    book.place(make_order(1))

    (fill,) = fills_of(play(book, make_candle(0, "101 105 95 99")))

    assert (fill.price, fill.quantity, fill.maker) == (D(101), D(1), False)
    assert (fill.fee, fill.fee_asset) == (D("0.0505"), "USDT")
    assert fill.market_step == market_step(make_candle(0, "1 1 1 1").open_time_ms, 0)


@pytest.mark.parametrize(("side", "price"), [(Side.BUY, "100.1"), (Side.SELL, "99.9")])
def test_slippage_goes_against_a_market_order_and_ends_on_the_tick(side: Side, price: str) -> None:
    book = make_book(slippage_bps=D(3))
    book.place(make_order(1, side=side))

    assert told(opened(book, make_candle(0, "100 100 100 100"))) == [f"pp0001 complete 1@{price}"]


@pytest.mark.parametrize(
    ("order", "candle", "price"),
    [
        (make_order(2, type=OrderType.LIMIT, price=D(98)), "100 101 97 99", "98"),
        (make_order(2, type=OrderType.LIMIT, price=D(98)), "100 101 98 99", "98"),
        (make_order(2, type=OrderType.LIMIT, price=D(98)), "96 101 95 99", "96"),
        (make_order(2, type=OrderType.LIMIT, side=Side.SELL, price=D(102)), "100 103 99 99", "102"),
        (make_order(2, type=OrderType.LIMIT, side=Side.SELL, price=D(102)), "104 105 103 104", "104"),
        (make_exit(2, 1, type=OrderType.STOP, price=D(98)), "100 101 97 99", "98"),
        (make_exit(2, 1, type=OrderType.STOP, price=D(98)), "96 101 95 99", "96"),
        (make_exit(2, 1, type=OrderType.TAKE_PROFIT, price=D(103)), "100 103 99 99", "103"),
        (make_exit(2, 1, type=OrderType.TAKE_PROFIT, price=D(103)), "105 106 99 99", "105"),
    ],
)
def test_what_rests_is_filled_at_its_price_or_at_an_open_beyond_it(order: object, candle: str, price: str) -> None:
    book = holding(make_book())
    assert book.place(order) is None  # type: ignore[arg-type]  # The parameter list is of orders only.

    assert [fill.price for fill in fills_of(play(book, make_candle(1, candle)))] == [D(price)]


def test_a_short_lots_stop_lies_above_and_its_target_below() -> None:
    for kind, price, candle in (
        (OrderType.STOP, "103", "100 103 99 100"),
        (OrderType.TAKE_PROFIT, "97", "100 102 97 98"),
    ):
        book = holding(make_book(), side=Side.SELL)
        book.place(make_exit(2, 1, side=Side.BUY, type=kind, price=D(price)))

        assert told(play(book, make_candle(1, candle))) == [f"pp0002 complete 1@{price}"]
        assert book.net() == {}


def test_a_level_not_reached_waits() -> None:
    book = make_book()
    book.place(make_order(1, type=OrderType.LIMIT, price=D(98)))

    assert play(book, make_candle(0, "100 101 98.1 99")) == []
    assert told(play(book, make_candle(1, "99 99 97 98"))) == ["pp0001 complete 1@98"]


def test_the_stop_goes_before_the_target_and_the_target_expires() -> None:
    book = holding(make_book())
    book.place(make_exit(2, 1, type=OrderType.TAKE_PROFIT, price=D("100.5")))
    book.place(make_exit(3, 1, type=OrderType.STOP, price=D(95)))

    reports = play(book, make_candle(1, "100 101 94 100"))

    assert told(reports) == ["pp0003 complete 1@95", "pp0002 expire"]
    assert book.net() == {}
    assert list(book.orders()) == []


def test_limits_nearest_to_the_open_go_first_and_equals_by_age() -> None:
    book = make_book()
    for number, price, placed in ((1, 95, 0), (2, 99, 9), (3, 99, 5), (4, 103, 0)):
        side = Side.SELL if price > 100 else Side.BUY
        book.place(make_order(number, type=OrderType.LIMIT, side=side, price=D(price), placed_at_ms=placed))

    filled = [fill.client_order_id for fill in fills_of(play(book, make_candle(0, "100 104 94 100")))]

    assert filled == ["pp0003", "pp0002", "pp0004", "pp0001"]


def test_what_the_opening_caused_is_active_in_the_same_candle_and_what_the_range_caused_in_the_next() -> None:
    candle = make_candle(0, "100 101 94 95")
    book = make_book()
    book.place(make_order(1))
    (entry,) = fills_of(opened(book, candle))
    book.place(make_exit(2, 1, type=OrderType.STOP, price=D(97), market_step=entry.market_step))
    (stopped,) = fills_of(ranged(book, candle))
    book.place(make_order(3, type=OrderType.LIMIT, price=D(96), market_step=stopped.market_step))

    assert stopped.price == D(97)
    assert ranged(book, candle) == []
    assert told(opened(book, make_candle(1, "95 95 95 95"))) == ["pp0003 complete 1@95"]


def test_an_order_decided_on_a_close_is_matched_at_the_opening_of_the_same_moment() -> None:
    book = make_book()
    following = make_candle(1, "101 101 101 101")
    book.place(make_order(1, market_step=market_step(following.open_time_ms, 2)))

    assert told(opened(book, following)) == ["pp0001 complete 1@101"]


def test_going_through_a_phase_again_changes_nothing() -> None:
    book = make_book(fill_ratio_max=D("0.01"))
    candle = make_candle(0, "100 101 97 99")
    book.place(make_order(1, type=OrderType.LIMIT, price=D(98)))

    assert told(play(book, candle)) == ["pp0001 fill 0.1@98"]
    assert play(book, candle) == []


def test_a_limit_that_waited_pays_the_maker_fee_and_one_that_takes_the_taker_fee() -> None:
    book = make_book()
    play(book, make_candle(0, "100 100 100 100"))
    book.place(make_order(1, type=OrderType.LIMIT, price=D(98)))
    book.place(make_order(2, type=OrderType.LIMIT, price=D(103)))

    taken, waited = fills_of(play(book, make_candle(1, "100 101 97 99")))

    assert (taken.client_order_id, taken.price, taken.maker, taken.fee) == ("pp0002", D(100), False, D("0.05"))
    assert (waited.client_order_id, waited.price, waited.maker, waited.fee) == ("pp0001", D(98), True, D("0.0196"))


def test_stops_and_targets_pay_the_taker_fee() -> None:
    book = holding(make_book())
    book.place(make_exit(2, 1, type=OrderType.TAKE_PROFIT, price=D(102)))

    (fill,) = fills_of(play(book, make_candle(1, "100 102 100 101")))

    assert (fill.maker, fill.fee) == (False, D("0.051"))


def test_a_market_trade_fills_what_waited_at_its_own_price_and_the_rest_at_the_trades() -> None:
    book = holding(make_book())
    book.traded(make_trade(100, "100"))
    book.place(make_order(2, type=OrderType.LIMIT, price=D(99)))
    book.place(make_order(3, type=OrderType.LIMIT, price=D(105)))
    book.place(make_order(4))
    book.place(make_exit(5, 1, type=OrderType.STOP, price=D("98.5")))

    assert told(book.traded(make_trade(101, "98"))) == [
        "pp0004 complete 1@98",
        "pp0005 complete 1@98",
        "pp0003 complete 1@98",
        "pp0002 complete 1@99",
    ]


def test_a_market_trade_that_touches_nothing_changes_nothing() -> None:
    book = holding(make_book())
    book.place(make_order(2, type=OrderType.LIMIT, price=D(99)))
    book.place(make_exit(3, 1, type=OrderType.TAKE_PROFIT, price=D(101)))

    assert [book.traded(make_trade(100 + n, p)) for n, p in enumerate(["99.1", "100", "100.9"])] == [[], [], []]
    assert told(book.traded(make_trade(110, "101"))) == ["pp0003 complete 1@101"]


def test_a_share_of_the_volume_fills_limits_in_parts() -> None:
    book = make_book(fill_ratio_max=D("0.05"))
    book.place(make_order(1, type=OrderType.LIMIT, price=D(98)))

    first = play(book, make_candle(0, "100 100 97 97", volume="8"))
    second = play(book, make_candle(1, "97 97 97 97", volume="8"))
    third = play(book, make_candle(2, "97 97 97 97", volume="8"))

    assert told(first) == ["pp0001 fill 0.4@98"]
    assert told(second) == ["pp0001 fill 0.4@97"]
    assert told(third) == ["pp0001 complete 0.2@97"]
    assert [fill.id for fill in fills_of(first + second + third)] == ["pp0001-0.4", "pp0001-0.8", "pp0001-1"]
    assert all(fill.maker for fill in fills_of(first + second + third))


def test_a_share_smaller_than_a_lot_is_one_lot() -> None:
    book = make_book(fill_ratio_max=D("0.05"))
    book.place(make_order(1, type=OrderType.LIMIT, price=D(98)))

    assert told(play(book, make_candle(0, "100 100 97 97", volume="0"))) == ["pp0001 fill 0.001@98"]


def test_what_an_immediate_order_cannot_take_expires() -> None:
    book = make_book(fill_ratio_max=D("0.05"))
    book.place(make_order(1, type=OrderType.LIMIT, price=D(101), time_in_force=TimeInForce.IOC))
    book.place(make_order(2, type=OrderType.LIMIT, price=D(90), time_in_force=TimeInForce.IOC))

    assert told(play(book, make_candle(0, "100 100 97 97"))) == [
        "pp0001 fill 0.5@100",
        "pp0001 expire",
        "pp0002 expire",
    ]
    assert list(book.orders()) == []


def test_a_reducing_order_never_exceeds_its_lot() -> None:
    book = holding(make_book())
    book.place(make_exit(2, 1, type=OrderType.TAKE_PROFIT, price=D(102), quantity=D("0.7")))
    book.place(make_exit(3, 1, type=OrderType.STOP, price=D(95), quantity=D(1)))
    play(book, make_candle(1, "100 102 100 101"))

    reports = play(book, make_candle(2, "101 101 94 95"))

    assert told(reports) == ["pp0003 fill 0.3@95", "pp0003 expire"]
    assert book.net() == {}


def test_an_entry_that_is_still_filling_expires_with_its_lot() -> None:
    book = make_book(fill_ratio_max=D("0.05"))
    book.place(make_order(1, type=OrderType.LIMIT, price=D(100)))
    play(book, make_candle(0, "100 100 100 100"))
    book.place(make_exit(2, 1, quantity=D("0.5")))

    assert told(play(book, make_candle(1, "101 101 101 101"))) == ["pp0002 complete 0.5@101", "pp0001 expire"]


def test_two_market_exits_of_one_lot_close_it_once() -> None:
    book = holding(make_book())
    book.place(make_exit(2, 1))
    book.place(make_exit(3, 1))

    assert told(play(book, make_candle(1, "101 101 101 101"))) == ["pp0002 complete 1@101", "pp0003 expire"]


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (make_order(2, symbol="NOSUCH"), "UNKNOWN_SYMBOL"),
        (make_order(2, quantity=D("0.0005")), "LOT_SIZE"),
        (make_order(2, type=OrderType.LIMIT, price=D("99.95")), "PRICE_FILTER"),
        (make_order(2, quantity=D("0.01")), "MIN_NOTIONAL"),
        (make_exit(2, 7), "REDUCE_ONLY"),
        (make_exit(2, 1, side=Side.BUY), "REDUCE_ONLY"),
        (make_order(2, side=Side.SELL, position_id="pos_1"), "REDUCE_ONLY"),
    ],
)
def test_what_the_filters_or_the_lot_forbid_is_refused_with_the_reason(order: object, reason: str) -> None:
    book = holding(make_book())

    refusal = book.place(order)  # type: ignore[arg-type]  # The parameter list is of orders only.

    assert refusal is not None
    assert refusal.startswith(reason)
    assert list(book.orders()) == []


def test_the_book_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ORDERS_MAX == 200_000
    monkeypatch.setattr("pipaid.engine.matching.ORDERS_MAX", 2)
    book = make_book()

    assert [book.place(make_order(n)) is None for n in range(3)] == [True, True, False]


def test_placing_a_working_order_again_changes_nothing() -> None:
    book = make_book()

    assert [book.place(make_order(1)), book.place(make_order(1))] == [None, None]
    assert len(fills_of(play(book, make_candle(0, "100 100 100 100")))) == 1


def test_a_cancelled_order_is_not_matched() -> None:
    book = make_book()
    book.place(make_order(1, type=OrderType.LIMIT, price=D(99)))

    assert told(book.cancel("pp0001", 5)) == ["pp0001 cancel"]
    assert book.cancel("pp0001", 6) == []
    assert play(book, make_candle(0, "100 100 90 95")) == []


@pytest.mark.parametrize(
    ("side", "leverage", "candle", "price"),
    [
        (Side.BUY, 10, "100 100 90.4 95", "90.4"),
        (Side.BUY, 10, "89 92 88 90", "89"),
        (Side.SELL, 10, "100 109.5 100 101", "109.5"),
        (Side.SELL, 1, "100 200 100 101", "199.1"),
    ],
)
def test_a_lot_is_liquidated_where_its_margin_is_used_up(side: Side, leverage: int, candle: str, price: str) -> None:
    book = holding(make_book(), side=side, leverage=leverage)
    exit_side = side.opposite
    book.place(make_exit(2, 1, side=exit_side, type=OrderType.LIMIT, price=D(150) if side is Side.BUY else D(50)))

    reports = play(book, make_candle(1, candle))

    closing, expired = reports
    assert isinstance(closing, Execution)
    assert isinstance(expired, Execution)
    assert closing.fill is not None
    assert (closing.client_order_id, closing.position_id, closing.fact) == (
        "autoclose-pos_1",
        "pos_1",
        OrderFact.COMPLETE,
    )
    assert (closing.fill.price, closing.fill.liquidation, closing.fill.side) == (D(price), True, exit_side)
    assert (expired.client_order_id, expired.fact) == ("pp0002", OrderFact.EXPIRE)
    assert book.net() == {}


@pytest.mark.parametrize(("side", "leverage"), [(Side.BUY, 2), (Side.BUY, 20), (Side.SELL, 1), (Side.SELL, 20)])
def test_the_liquidation_price_is_the_first_tick_at_which_the_margin_is_gone(side: Side, leverage: int) -> None:
    book = holding(make_book(), side=side, leverage=leverage)

    def margin_left(price: Decimal) -> Decimal:
        return D(100) / leverage + side.sign * (price - 100) - INSTRUMENT.maintenance_rate * price

    (fill,) = fills_of(play(book, make_candle(1, "100 1000 0.1 100")))

    assert margin_left(fill.price) <= 0 < margin_left(fill.price + side.sign * INSTRUMENT.tick_size)


def test_a_long_lot_without_leverage_is_never_liquidated() -> None:
    assert play(holding(make_book()), make_candle(1, "100 100 0.1 0.1")) == []


def test_a_stop_in_front_of_the_liquidation_price_saves_the_rest() -> None:
    book = holding(make_book(), leverage=10)
    book.place(make_exit(2, 1, type=OrderType.STOP, price=D(95)))

    assert told(play(book, make_candle(1, "100 100 80 85"))) == ["pp0002 complete 1@95"]


def test_longs_pay_a_positive_funding_rate_and_shorts_receive_it_once() -> None:
    for side, amount in ((Side.BUY, "-0.0505"), (Side.SELL, "0.0505")):
        book = holding(make_book(), side=side)
        moment = make_candle(9, "1 1 1 1").open_time_ms

        (paid,) = book.funding(SYMBOL, D("0.0005"), D(101), moment)

        assert isinstance(paid, FundingPaid)
        assert (paid.position_id, paid.amount, paid.time_ms) == ("pos_1", D(amount), moment)
        assert book.funding(SYMBOL, D("0.0005"), D(101), moment) == []


def test_a_lot_opened_at_the_funding_time_or_later_does_not_pay() -> None:
    book = holding(make_book())

    assert book.funding(SYMBOL, D("0.0005"), D(101), make_candle(0, "1 1 1 1").open_time_ms) == []


def test_net_positions_are_the_signed_sum_of_the_lots() -> None:
    book = make_book()
    book.place(make_order(1, quantity=D("0.5")))
    book.place(make_order(2, quantity=D("0.7"), side=Side.SELL))
    play(book, make_candle(0, "100 100 100 100"))

    assert book.net() == {SYMBOL: D("-0.2")}


def test_restoring_tells_the_end_of_orders_whose_lot_is_gone() -> None:
    book = MatchingBook({SYMBOL: INSTRUMENT}, Terms())
    orphans = [make_exit(2, 1), make_order(3, filled=D("0.2")), make_order(4, symbol="NOSUCH"), make_order(5)]

    reports = book.restore(orphans, [], {}, 7)

    assert told(reports) == ["pp0002 expire", "pp0003 expire", "pp0004 expire"]
    assert [working.order.client_order_id for working in book.orders()] == ["pp0005"]
