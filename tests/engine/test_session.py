"""A session's facts: fills booked as lots, ends told, reactions asked for once, and nobody halted ever asked."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipaid.engine.template import Enter, View
from pipaid.errors import InvariantBroken
from pipaid.model.event import OrderCancelled, OrderFilled, PositionClosed, PositionOpened
from pipaid.model.order import BookedFill, Execution, Order, OrderFact, OrderStatus, OrderType, Side
from pipaid.model.position import CloseReason, Position
from pipaid.model.stray import Stray
from tests.builders import (
    MINUTE_MS,
    START_MS,
    SYMBOL,
    Bench,
    Repeated,
    enter,
    execution,
    held,
    held_of,
    limit,
    make_bench,
    make_fill,
    make_order,
    opened,
    scripted,
)
from tests.engine.hearing import listening

# Entries filled.


def test_a_filled_entry_opens_a_lot() -> None:
    bench, heard = listening(enter(tag="a"), leverage=2)

    bench.fill(bench.placed[0], price="100.5", fee=Decimal("0.05"), market_step=17)

    (lot,) = bench.lots
    assert (lot.quantity, lot.entry_value, lot.fees) == (Decimal(1), Decimal("100.5"), Decimal("0.05"))
    assert (lot.tag, lot.leverage, lot.market_step, lot.run_id) == ("a", 2, 17, "run_1")
    assert bench.told == ["order_placed", "order_filled", "position_opened"]
    assert heard.said == [("opened", lot)]
    assert not bench.working


def test_an_opening_is_told_with_its_figures() -> None:
    bench = opened(enter(stop_price=Decimal(90)), leverage=3)

    (told,) = bench.said(PositionOpened)
    assert (told.side, told.qty, told.entry_price, told.notional) == ("long", 1, 100, Decimal("100.00"))
    assert (told.leverage, told.stop_price, told.take_profit_price) == (3, 90, None)


def test_two_filled_levels_are_two_positions_on_one_symbol() -> None:
    bench, heard = listening(limit("95", tag="a"), limit("94", tag="b"))

    for order in bench.placed:
        bench.fill(order)

    assert {lot.tag for lot in bench.lots} == {"a", "b"}
    assert len({lot.id for lot in bench.lots}) == 2
    assert heard.names == ["opened", "opened"]


def test_an_entry_filled_in_parts_is_one_lot_and_opened_once() -> None:
    bench, heard = listening(limit("95"))

    bench.fill(bench.placed[0], "0.4", "95")
    assert (bench.working[0].status, bench.working[0].filled) == (OrderStatus.OPEN, Decimal("0.4"))
    assert heard.names == []
    bench.fill(bench.placed[0], "0.6", "94")

    (lot,) = bench.lots
    assert (lot.quantity, lot.entry_value) == (Decimal(1), Decimal("94.4"))
    assert bench.told == ["order_placed", "order_filled", "position_opened", "order_filled"]
    assert heard.names == ["opened"]
    assert [told.is_complete for told in bench.said(OrderFilled)] == [False, True]
    assert [told.cum_qty for told in bench.said(OrderFilled)] == [Decimal("0.4"), Decimal("1.0")]


def test_an_entry_cancelled_after_a_part_is_opened_once() -> None:
    bench, heard = listening(limit("95"))
    bench.fill(bench.placed[0], "0.4")

    bench.settle(bench.session.withdraw("engine", entries_only=True))
    bench.end(bench.placed[0])

    assert heard.names == ["opened"]
    assert heard.said[0][1].quantity == Decimal("0.4")
    assert bench.said(OrderCancelled)[0].filled_qty == Decimal("0.4")


@pytest.mark.parametrize("fact", [OrderFact.REFUSE, OrderFact.DENY, OrderFact.EXPIRE, OrderFact.CANCEL])
def test_an_entry_that_is_lost_unfilled_is_told_to_the_template(fact: OrderFact) -> None:
    bench, heard = listening(limit("95", tag="a"))

    bench.end(bench.placed[0], fact)

    assert heard.said == [("lost", "a")]
    assert not bench.working


def test_an_entry_that_was_withdrawn_is_not_lost() -> None:
    bench, heard = listening(limit("95"))

    bench.settle(bench.session.withdraw("engine", entries_only=True))
    bench.end(bench.placed[0])

    assert heard.said == []


@pytest.mark.parametrize(
    ("fact", "asked", "reason"),
    [
        (OrderFact.REFUSE, "", "rejected"),
        (OrderFact.EXPIRE, "", "expired"),
        (OrderFact.DENY, "", "expired"),
        (OrderFact.CANCEL, "", "exchange"),
        (OrderFact.CANCEL, "engine", "engine"),
        (OrderFact.CANCEL, "pause", "pause"),
        (OrderFact.EXPIRE, "pause", "expired"),
    ],
)
def test_an_end_is_told_with_whose_doing_it_was(fact: OrderFact, asked: str, reason: str) -> None:
    bench, _ = listening(limit("95"))
    if asked:
        bench.settle(bench.session.withdraw(asked, entries_only=True))

    bench.end(bench.placed[0], fact, "said the venue")

    assert [told.reason for told in bench.said(OrderCancelled)] == [reason]


# Exits filled.


def test_an_exit_filled_in_parts_closes_at_the_last() -> None:
    bench = opened(None, [held_of()])
    bench.close()

    bench.fill(bench.placed[1], "0.5", "110", fee=Decimal("0.1"))
    assert bench.lots[0].quantity == Decimal("0.5")
    bench.fill(bench.placed[1], "0.5", "120", fee=Decimal("0.1"))

    assert bench.told[-3:] == ["order_filled", "order_filled", "position_closed"]
    (told,) = bench.said(PositionClosed)
    assert (told.qty, told.entry_price, told.exit_price, told.pnl, told.fee) == (
        Decimal("1.000"),
        Decimal(100),
        Decimal(115),
        Decimal("14.80"),
        Decimal("0.20"),
    )


def test_a_reversal_has_the_room_that_the_closed_lot_leaves() -> None:
    def turn(view: View, position: Position) -> list[Enter]:
        return [enter(notional=Decimal(900))]

    bench = make_bench(
        scripted(
            on_candle=lambda view: [held(lot) for lot in view.positions] or [enter(notional=Decimal(900))],
            on_closed=turn,
        )
    )
    bench.close()
    bench.fill(bench.placed[0])
    bench.close()

    bench.fill(bench.placed[1])

    assert bench.placed[2].quantity == bench.placed[0].quantity == 9


def test_a_lot_left_while_its_entry_works_is_closed_when_the_entry_ends() -> None:
    bench, heard = listening(limit("100", stop_price=Decimal(90)))
    entry = bench.placed[0]
    bench.fill(entry, "0.4")

    bench.fill(bench.placed[1], price="89")
    assert [order.id for order in bench.cancels] == [entry.id]
    assert bench.lots[0].quantity == 0
    assert "position_closed" not in bench.told

    bench.end(entry)
    assert bench.told[-1] == "position_closed"
    assert bench.trades[0].reason is CloseReason.STOP_LOSS
    assert heard.names == ["closed"]


def test_a_lot_that_grows_after_it_was_left_goes_on() -> None:
    bench, heard = listening(limit("100", stop_price=Decimal(90)))
    entry = bench.placed[0]
    bench.fill(entry, "0.4")
    bench.fill(bench.placed[1], price="89")

    bench.fill(entry, "0.6")

    assert heard.names == ["opened"]
    assert bench.lots[0].quantity == Decimal("0.6")
    bench.fill(bench.placed[2], price="88")
    assert bench.trades[0].pnl == Decimal("-11.6")


def test_a_liquidation_is_booked_as_an_order_of_the_venue_s_own() -> None:
    bench, heard = listening(enter(stop_price=Decimal(90)))
    bench.fill(bench.placed[0])
    (lot,) = bench.lots
    order = make_order(client_order_id=f"autoclose-{lot.id}", side=Side.SELL, type=OrderType.MARKET)
    fill = make_fill(order, price=Decimal(60), liquidation=True, time_ms=bench.quotes.now_ms)

    bench.settle(bench.session.on_execution(execution(fill, lot.id)))
    bench.end(bench.placed[1], OrderFact.EXPIRE)

    assert (bench.trades[0].reason, bench.trades[0].exit_value) == (CloseReason.LIQUIDATION, Decimal(60))
    assert heard.names == ["opened", "closed"]
    assert not bench.working
    closing = bench.journal.rows["fill", fill.id]
    assert b"autoclose-" in closing.data


def test_an_execution_of_an_order_nobody_knows_breaks_an_invariant() -> None:
    bench, _ = listening()
    stray = make_order(client_order_id="pp_stray")

    for told in (execution(make_fill(stray)), execution(make_fill(make_order(client_order_id="autoclose-x")), "x")):
        with pytest.raises(InvariantBroken, match="has no order"):
            bench.session.on_execution(told)


def test_a_fill_without_figures_breaks_an_invariant() -> None:
    bench, _ = listening(limit("95"))
    claim = Execution(client_order_id=bench.placed[0].client_order_id, fact=OrderFact.COMPLETE, time_ms=1)

    with pytest.raises(InvariantBroken, match="by no fill"):
        bench.session.on_execution(claim)


def test_a_fill_told_twice_is_refused_by_the_journal_and_booked_once() -> None:
    bench, _ = listening(limit("95"))
    order = bench.placed[0]
    bench.fill(order, "0.4", id="f1")

    with pytest.raises(Repeated):
        bench.fill(order, "0.4", id="f1")
    bench.rebuild()

    assert bench.lots[0].quantity == Decimal("0.4")
    assert bench.session.brain.tally.fills == 1
    assert bench.book.positions == 1


def test_a_trade_that_was_closed_in_vain_does_not_count_twice_in_the_account() -> None:
    bench = opened(None, [held_of()])
    bench.close()
    bench.fill(bench.placed[1], "0.5", "90", id="f1")
    with pytest.raises(Repeated):
        bench.fill(bench.placed[1], "0.5", "90", id="f1")

    bench.rebuild()
    assert (bench.book.day_pnl, bench.book.pnl) == (Decimal(0), Decimal(0))
    bench.fill(bench.placed[1], "0.5", "90", id="f2")

    assert bench.book.day_pnl == bench.book.pnl == -10


# Late and unknown.


def ended_order(bench: Bench, number: int = 0) -> Any:
    """Read an order's record as the shell does before it adopts it."""
    row = bench.journal.rows["order", bench.placed[number].id]
    return msgspec.json.decode(row.data, type=type(bench.placed[0]))


def test_a_fill_after_the_cancellation_opens_a_lot_all_the_same() -> None:
    bench, heard = listening(limit("95", tag="a"))
    bench.end(bench.placed[0])

    bench.session.adopt(ended_order(bench))
    assert not bench.working
    bench.fill(bench.placed[0], "0.4")

    assert bench.lots[0].quantity == Decimal("0.4")
    assert ended_order(bench).status is OrderStatus.CANCELLED
    assert heard.names == ["lost", "opened"]
    assert not bench.working


def test_a_fill_after_its_lot_was_closed_is_a_lot_of_its_own() -> None:
    bench, _ = listening(limit("95", stop_price=Decimal(90)))
    bench.fill(bench.placed[0], "0.4")
    bench.end(bench.placed[0])
    bench.fill(bench.placed[1], price="90")
    (closed,) = bench.trades

    bench.session.adopt(ended_order(bench))
    bench.fill(bench.placed[0], "0.6", "95", id="late")

    (lot,) = bench.lots
    assert lot.id != closed.id
    assert bench.trades == [closed]
    assert (lot.quantity, bench.working[0].type) == (Decimal("0.6"), OrderType.STOP)


def test_a_lot_that_a_late_fill_opened_in_the_other_mode_is_left_in_its_own() -> None:
    bench, _ = listening(limit("95", stop_price=Decimal(90)))
    bench.end(bench.placed[0])
    before = ended_order(bench)

    # Since then the strategy was deployed in the other mode.
    bench.session.adopt(msgspec.structs.replace(before, dry_run=not before.dry_run))
    bench.fill(bench.placed[0], id="late")

    (lot,) = bench.lots
    assert [(order.type, order.dry_run) for order in bench.working] == [(OrderType.STOP, lot.dry_run)]
    assert lot.dry_run is not bench.session.dry_run


def test_what_leaves_a_lot_that_is_gone_is_booked_and_belongs_to_nobody() -> None:
    bench, _ = listening(limit("95", stop_price=Decimal(90)))
    bench.fill(bench.placed[0])
    stop = bench.placed[1]
    bench.end(stop)
    bench.settle(bench.session.close_positions(CloseReason.MANUAL))
    bench.fill(bench.working[-1])
    (closed,) = bench.trades

    bench.session.adopt(bench.journal.read("order", Order, "ended")[1])
    effects = bench.fill(stop, "0.4", "90", id="late")

    booked = bench.journal.read("fill", BookedFill)[-1]
    assert (booked.fill.id, booked.order_id, booked.unassigned) == ("late", stop.id, Decimal("0.4"))
    (stray,) = bench.journal.read("stray", Stray)
    assert (stray.id, stray.quantity, stray.symbol) == ("late", Decimal("-0.4"), SYMBOL)
    assert effects.strays == [stray]
    assert (bench.trades, bench.lots) == ([closed], [])


def test_what_leaves_more_than_the_lot_closes_it_and_the_rest_belongs_to_nobody() -> None:
    bench, _ = listening(enter())
    bench.fill(bench.placed[0], "0.4")
    (lot,) = bench.lots
    fill = make_fill(make_order(client_order_id=f"autoclose-{lot.id}", side=Side.SELL), liquidation=True)

    bench.settle(bench.session.on_execution(execution(fill, lot.id)))
    bench.end(bench.placed[0])

    (trade,) = bench.trades
    assert (trade.exit_quantity, trade.reason) == (Decimal("0.4"), CloseReason.LIQUIDATION)
    assert [each.quantity for each in bench.journal.read("stray", Stray)] == [Decimal("-0.6")]
    assert bench.journal.read("fill", BookedFill)[-1].unassigned == Decimal("0.6")


def test_an_exit_that_rises_after_its_lot_was_closed_is_withdrawn() -> None:
    bench, _ = listening(limit("95", stop_price=Decimal(90)))
    bench.fill(bench.placed[0])
    stop = bench.placed[1]
    bench.news(stop, OrderFact.DENY)
    for order in list(bench.working):
        bench.end(order)
    bench.settle(bench.session.close_positions(CloseReason.MANUAL))
    bench.fill(bench.working[-1])
    assert not bench.lots

    (absent,) = [each for each in bench.journal.read("order", Order, "ended") if each.status is OrderStatus.ABSENT]
    bench.session.adopt(absent)
    bench.end(stop, OrderFact.ACK)

    assert bench.cancels[-1].client_order_id == stop.client_order_id


def test_an_end_that_is_told_again_changes_nothing() -> None:
    bench, heard = listening(limit("95"))
    bench.end(bench.placed[0])
    before = list(bench.told)

    bench.session.adopt(ended_order(bench))
    effects = bench.end(bench.placed[0])

    assert effects.empty
    assert bench.told == before
    assert heard.names == ["lost"]


def test_only_what_has_ended_is_adopted() -> None:
    bench, _ = listening(limit("95"))

    with pytest.raises(AssertionError, match="never let go"):
        bench.session.adopt(bench.working[0])


def test_an_order_of_unknown_fate_keeps_its_place() -> None:
    bench, heard = listening(limit("95", quantity=Decimal(10)))

    bench.news(bench.placed[0], OrderFact.LOSE, "timed out")

    assert bench.working[0].status is OrderStatus.UNKNOWN
    assert bench.book.value == 950
    assert heard.said == []
    assert bench.told == ["order_placed"]
    bench.fill(bench.placed[0])
    assert bench.lots[0].quantity == 10


def test_an_entry_that_rises_after_it_was_proven_absent_is_taken_back_and_withdrawn() -> None:
    bench, _ = listening(limit("95"))
    bench.news(bench.placed[0], OrderFact.LOSE)
    bench.news(bench.placed[0], OrderFact.DENY)
    assert bench.book.value == 0

    bench.session.adopt(ended_order(bench))
    bench.fill(bench.placed[0], "0.4")

    assert [order.id for order in bench.cancels] == [bench.placed[0].id]
    assert bench.book.value == 95
    assert bench.lots[0].quantity == Decimal("0.4")


def test_an_answer_lost_after_a_fill_changes_nothing() -> None:
    bench, _ = listening(limit("95"))
    bench.fill(bench.placed[0], "0.4")

    bench.news(bench.placed[0], OrderFact.LOSE)

    assert bench.working[0].status is OrderStatus.OPEN


def test_an_acknowledgement_alone_is_not_worth_a_commit_and_comes_with_the_next() -> None:
    bench, _ = listening(limit("95"), limit("94"))

    assert bench.ack(bench.placed[0]).empty
    assert bench.working[0].status is OrderStatus.OPEN
    bench.fill(bench.placed[1])

    assert ended_order(bench).status is OrderStatus.OPEN


def test_news_of_orders_that_have_ended_meanwhile_is_passed_over() -> None:
    bench, _ = listening(enter())
    bench.fill(bench.placed[0])

    assert bench.ack(bench.placed[0]).empty


def test_an_impossible_fact_breaks_an_invariant() -> None:
    bench, _ = listening(limit("95"))
    bench.fill(bench.placed[0], "0.4")

    with pytest.raises(InvariantBroken, match="an order that is open cannot refuse"):
        bench.news(bench.placed[0], OrderFact.REFUSE)


def test_a_cancellation_that_was_lost_is_asked_for_again_until_the_order_ends() -> None:
    bench, _ = listening(limit("95"))
    order = bench.placed[0]
    assert bench.session.on_cancel_lost(order.client_order_id) is None
    bench.settle(bench.session.withdraw("engine", entries_only=True))
    bench.settle(bench.session.withdraw("engine", entries_only=True))
    assert len(bench.cancels) == 1

    bench.settle(bench.session.on_cancel_lost(order.client_order_id))
    bench.settle(bench.session.on_cancel_lost(order.client_order_id))
    assert len(bench.cancels) == 3

    bench.end(order)
    assert bench.session.on_cancel_lost(order.client_order_id) is None
    assert bench.session.on_cancel_lost("pp_gone") is None


# Funding.


def test_funding_is_booked_once_a_settlement_time() -> None:
    bench = opened(None, [held_of()])
    (lot,) = bench.lots

    bench.fund(lot, "-0.25", START_MS + MINUTE_MS)
    assert bench.fund(lot, "-0.25", START_MS + MINUTE_MS).empty
    assert bench.fund(lot, "-0.50", START_MS).empty
    bench.fund(lot, "0.10", START_MS + 2 * MINUTE_MS)
    bench.close()
    bench.fill(bench.placed[1])

    assert bench.trades[0].funding == bench.trades[0].pnl == Decimal("-0.15")
    assert bench.session.brain.tally.funding == Decimal("-0.15")
    assert bench.fund(lot, "9", START_MS + 5 * MINUTE_MS).empty
