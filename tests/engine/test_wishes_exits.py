"""Exits, cancellations, stops and targets: replaced one after the other, and made up for when they are lost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipaid.engine.template import CancelEntries, Exit, Protect
from pipaid.model.event import OrderCancelled
from pipaid.model.order import OrderFact, OrderType, Side
from pipaid.model.position import CloseReason, Position
from tests.builders import (
    OTHER,
    SYMBOL,
    Bench,
    Wish,
    enter,
    held,
    held_of,
    limit,
    make_bench,
    opened,
    plan,
    scripted,
    wishing,
)

# Exits.


def test_a_market_exit_leaves_the_whole_lot() -> None:
    bench = opened(None, [held_of(reason=CloseReason.TIME_EXIT)])

    bench.close("110")
    order = bench.placed[1]
    bench.fill(order, price="110")

    assert (order.type, order.side, order.quantity, order.reduce_only) == (
        OrderType.MARKET,
        Side.SELL,
        Decimal(1),
        True,
    )
    assert bench.trades[0].pnl == 10
    assert bench.trades[0].reason is CloseReason.TIME_EXIT


def test_the_same_exit_is_not_wished_twice() -> None:
    bench = opened(None, [held_of(price=Decimal(120))], [held_of(price=Decimal("120.04"))], [held_of()], [held_of()])

    for _ in range(2):
        bench.close()
    assert (len(bench.placed), len(bench.cancels)) == (2, 0)


def test_an_exit_that_replaces_another_waits_for_its_cancellation() -> None:
    bench = opened(None, [held_of(price=Decimal(120))], [held_of(price=Decimal(115))])

    bench.close()
    bench.close()
    assert [order.price for order in bench.cancels] == [120]
    assert len(bench.placed) == 2

    bench.end(bench.placed[1])
    assert bench.placed[2].price == 115


def test_the_last_of_several_replacements_is_carried_out() -> None:
    prices = [held_of(price=Decimal(price)) for price in (120, 115, 120)]
    bench = opened(None, *([wish] for wish in prices))

    for _ in prices:
        bench.close()
    bench.end(bench.placed[1])

    assert [order.price for order in bench.placed[1:]] == [120, 120]
    assert len(bench.cancels) == 1


def test_a_waiting_exit_survives_a_crash() -> None:
    bench = opened(None, [held_of(price=Decimal(120))], [held_of(reason=CloseReason.TIME_EXIT)])
    bench.close()
    bench.close()

    bench.rebuild()
    bench.end(bench.placed[1])

    assert (bench.placed[2].type, bench.placed[2].reason) == (OrderType.MARKET, "time_exit")


def test_an_exit_filled_before_its_cancellation_needs_no_replacement() -> None:
    bench = opened(None, [held_of(price=Decimal(120))], [held_of(price=Decimal(115))])
    bench.close()
    bench.close()

    bench.fill(bench.placed[1])

    assert len(bench.placed) == 2
    assert not bench.lots
    assert not bench.session.brain.exits


def test_a_partly_filled_exit_is_replaced_for_the_rest() -> None:
    bench = opened(None, [held_of(price=Decimal(120))], [held_of()])
    bench.close()
    bench.fill(bench.placed[1], "0.4")
    bench.close()

    bench.end(bench.placed[1])

    assert bench.placed[2].quantity == Decimal("0.6")


def test_an_exit_at_the_market_is_never_called_back() -> None:
    bench = opened(None, [held_of()], [held_of(price=Decimal(120))])

    bench.close()
    bench.close()

    assert (len(bench.placed), bench.cancels) == (2, [])
    assert not bench.session.brain.exits


@pytest.mark.parametrize("fact", [OrderFact.REFUSE, OrderFact.DENY, OrderFact.CANCEL, OrderFact.EXPIRE])
@pytest.mark.parametrize("price", [None, Decimal(120)])
def test_a_lost_exit_is_wished_again_at_the_next_candle(fact: OrderFact, price: Decimal | None) -> None:
    bench = opened(None, [held_of(price=price, reason=CloseReason.TIME_EXIT)])
    bench.close()
    lost = bench.placed[1]

    bench.end(lost, fact)
    assert len(bench.placed) == 2
    assert bench.session.interest(SYMBOL)

    bench.rebuild()
    bench.close()
    again = bench.placed[2]
    assert (again.type, again.price, again.reason) == (lost.type, lost.price, "time_exit")
    assert not bench.session.brain.exits
    bench.fill(again)
    assert not bench.lots


def test_an_exit_while_the_entry_works_withdraws_the_entry() -> None:
    bench = make_bench(
        scripted(on_candle=lambda view: [held(lot) for lot in view.positions] or [limit("100", tag="a")])
    )
    bench.close()
    entry = bench.placed[0]
    bench.fill(entry, "0.4")

    bench.close()
    assert [order.id for order in bench.cancels] == [entry.id]
    assert bench.placed[1].quantity == Decimal("0.4")


def test_what_fills_beside_a_market_exit_is_left_after_it() -> None:
    bench = make_bench(
        scripted(on_candle=lambda view: [held(lot) for lot in view.positions] or [limit("100", tag="a")])
    )
    bench.close()
    entry = bench.placed[0]
    bench.fill(entry, "0.4")
    bench.close()
    bench.fill(entry, "0.5")  # The venue was quicker than the cancellation.
    bench.end(entry)

    bench.close()
    bench.fill(bench.placed[1])

    assert bench.placed[2].quantity == Decimal("0.5")
    bench.fill(bench.placed[2])
    assert not bench.lots
    assert bench.trades[0].entry_quantity == Decimal("0.9")


def test_leaving_what_is_gone_is_no_mistake() -> None:
    assert not wishing(Exit(position_id="pos_gone"), Protect(position_id="pos_gone")).placed


# Cancelling entries.


def test_entries_are_withdrawn_by_tag_or_all() -> None:
    entries = [limit("95", tag="a"), limit("94", tag="b"), limit("93", tag="c"), limit("90", symbol=OTHER, tag="a")]
    bench = make_bench(
        scripted(
            on_candle=plan(
                entries,
                [CancelEntries(symbol=SYMBOL, tags=frozenset({"a", "b", "z"}))],
                [CancelEntries(symbol=SYMBOL)],
            )
        ),
        symbols=(SYMBOL, OTHER),
    )

    bench.close()
    bench.close()
    assert [order.tag for order in bench.cancels] == ["a", "b"]
    bench.close()
    assert [order.tag for order in bench.cancels] == ["a", "b", "c"]
    bench.end(bench.placed[2])
    assert bench.said(OrderCancelled)[0].reason == "engine"


# Stops and targets.


def protecting(**levels: Any) -> Wish:
    """Wish, once it is known, to move the levels of the only open position."""

    def wish(position: Position) -> Protect:
        return Protect(position_id=position.id, **levels)

    return wish


def guarded(*later: Any) -> Bench:
    return opened(enter(stop_price=Decimal(90), take_profit_price=Decimal(120)), *later)


def levels(bench: Bench) -> list[tuple[str, Decimal, Decimal]]:
    """Return the protective orders that work and are not being cancelled: type, price, quantity."""
    return [
        (order.type.value, order.price, order.remaining)
        for order in bench.working
        if order.reduce_only and order.type is not OrderType.MARKET and not order.cancelling
    ]


def test_a_lot_is_guarded_as_soon_as_it_is_open() -> None:
    bench = guarded()

    assert levels(bench) == [("stop", Decimal(90), Decimal(1)), ("take_profit", Decimal(120), Decimal(1))]
    assert [order.position_id for order in bench.working] == [bench.lots[0].id] * 2


def test_each_part_of_an_entry_is_guarded() -> None:
    bench = make_bench(scripted(on_candle=plan([limit("100", stop_price=Decimal(90))])))
    bench.close()

    bench.fill(bench.placed[0], "0.3")
    bench.fill(bench.placed[0], "0.7")

    assert levels(bench) == [("stop", Decimal(90), Decimal("0.3")), ("stop", Decimal(90), Decimal("0.7"))]


def test_levels_are_moved_by_placing_them_anew() -> None:
    bench = guarded([protecting(stop_price=Decimal(95), take_profit_price=Decimal(120))])

    bench.close()

    assert [order.price for order in bench.cancels] == [90]
    assert levels(bench) == [("take_profit", Decimal(120), Decimal(1)), ("stop", Decimal(95), Decimal(1))]
    assert bench.lots[0].stop_price == 95


def test_a_level_moved_there_and_back_does_not_rely_on_what_is_being_withdrawn() -> None:
    bench = guarded(
        [protecting(stop_price=Decimal(95), take_profit_price=Decimal(120))],
        [protecting(stop_price=Decimal(90), take_profit_price=Decimal(120))],
    )

    bench.close()
    bench.close()

    assert [order.price for order in bench.cancels] == [90, 95]
    assert levels(bench) == [("take_profit", Decimal(120), Decimal(1)), ("stop", Decimal(90), Decimal(1))]


def test_levels_that_stay_cost_nothing() -> None:
    bench = guarded([protecting(stop_price=Decimal(90), take_profit_price=Decimal(120))])

    bench.close()

    assert (len(bench.placed), bench.cancels) == (3, [])


def test_levels_are_given_up() -> None:
    bench = guarded([protecting()])

    bench.close()

    assert levels(bench) == []
    assert (bench.lots[0].stop_price, bench.lots[0].take_profit_price) == (None, None)


def test_a_stop_that_is_filled_ends_its_lot() -> None:
    bench = guarded()

    bench.fill(bench.placed[1], price="89")
    bench.end(bench.placed[2], OrderFact.EXPIRE, "its lot is gone")

    assert bench.trades[0].pnl == -11
    assert bench.trades[0].reason is CloseReason.STOP_LOSS
    assert not bench.working
    assert bench.told[-2:] == ["position_closed", "order_cancelled"]


@pytest.mark.parametrize("fact", [OrderFact.DENY, OrderFact.CANCEL, OrderFact.EXPIRE])
def test_a_stop_that_is_lost_is_rested_again(fact: OrderFact) -> None:
    bench = guarded()

    bench.end(bench.placed[1], fact, "the venue does not know it")

    assert levels(bench) == [("take_profit", Decimal(120), Decimal(1)), ("stop", Decimal(90), Decimal(1))]


@pytest.mark.parametrize("facts", [[OrderFact.REFUSE], [OrderFact.DENY, OrderFact.DENY]])
def test_a_lot_whose_stop_the_venue_does_not_take_is_left_at_the_market(facts: list[OrderFact]) -> None:
    bench = guarded()

    for fact in facts:
        stop = next(order for order in bench.working if order.type is OrderType.STOP)
        bench.end(stop, fact, "because")

    way_out = bench.placed[-1]
    assert (way_out.type, way_out.reason) == (OrderType.MARKET, "stop_loss")


def test_a_lost_target_leaves_the_lot_to_its_stop() -> None:
    bench = guarded()

    bench.end(bench.placed[2], OrderFact.REFUSE)

    assert levels(bench) == [("stop", Decimal(90), Decimal(1))]
    assert len(bench.placed) == 3
