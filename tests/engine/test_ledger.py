"""Fills become positions: exact sums, and what cannot be true is an invariant broken."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.engine import ledger
from pipaid.errors import InvariantBroken
from pipaid.model.money import average
from pipaid.model.order import OrderStatus, Side
from pipaid.model.position import CloseReason, Direction
from pipaid.model.strategy import Tally
from tests.builders import OTHER, make_fill, make_order, make_position

prices = st.integers(1, 10**9).map(lambda cents: Decimal(cents) / 100)
parts = st.lists(st.tuples(st.integers(1, 10**6), prices, st.integers(-100, 1000)), min_size=1, max_size=8)


@given(parts, st.sampled_from(Direction))
def test_an_order_and_its_lot_are_the_sum_of_their_fills(drawn: list[Any], direction: Direction) -> None:
    fills = [(Decimal(lots) / 1000, price, Decimal(fee) / 10_000) for lots, price, fee in drawn]
    total = sum(quantity for quantity, _, _ in fills)
    order = make_order(side=direction.entry_side, quantity=total)
    lot = ledger.opened_position(order, 7)

    for number, (quantity, price, fee) in enumerate(fills):
        fill = make_fill(order, id=str(number), quantity=quantity, price=price, fee=fee, market_step=number)
        order, lot = ledger.filled_order(order, fill), ledger.entered(lot, fill)

    assert order.status is OrderStatus.FILLED
    assert (order.filled, lot.quantity, lot.direction) == (total, total, direction)
    exact = sum(Fraction(quantity) * Fraction(price) for quantity, price, _ in fills)
    assert Fraction(order.filled_value) == Fraction(lot.entry_value) == exact
    assert Fraction(order.fee) == Fraction(lot.fees) == sum(Fraction(fee) for _, _, fee in fills)
    assert order.market_step == lot.market_step == len(fills) - 1


@given(parts, parts)
def test_the_profit_of_a_closed_lot_is_the_difference_of_its_cash(entered: list[Any], left: list[Any]) -> None:
    lots = max(sum(count for count, _, _ in entered), sum(count for count, _, _ in left))
    position = ledger.opened_position(make_order(), 0)
    cash = Fraction(0)
    for drawn, booked, side in ((entered, ledger.entered, 1), (left, ledger.left, -1)):
        rest = lots - sum(count for count, _, _ in drawn)
        for count, price, fee in [*drawn, *([(rest, Decimal("0.01"), 0)] if rest else [])]:
            fill = make_fill(make_order(), quantity=Decimal(count) / 1000, price=price, fee=Decimal(fee) / 10_000)
            position = booked(position, fill)
            cash -= side * Fraction(fill.quantity) * Fraction(fill.price) + Fraction(fill.fee)

    assert position.quantity == 0
    assert Fraction(position.pnl) == cash


@pytest.mark.parametrize("direction", Direction)
def test_sums_of_more_digits_than_usual_are_exact_as_well(direction: Direction) -> None:
    quantity, price = Decimal("12345678.123456789123456789"), Decimal("987654321.123456789123456789")
    fee = Decimal("0.000000000000000001")
    order = make_order(side=direction.entry_side, quantity=3 * quantity)
    lot = ledger.opened_position(order, 7)

    for number in range(3):
        fill = make_fill(order, id=str(number), quantity=quantity, price=price, fee=fee)
        order, lot = ledger.filled_order(order, fill), ledger.entered(lot, fill)
    exit_order = make_order(2, side=direction.exit_side, quantity=3 * quantity, reduce_only=True)
    lot = ledger.left(lot, make_fill(exit_order, quantity=3 * quantity, price=2 * price, fee=fee))
    tally = Tally().with_trade(lot.pnl).with_trade(fee)

    exact = direction.sign * Fraction(3 * quantity) * Fraction(price) - 4 * Fraction(fee)
    assert Fraction(order.filled_value) == Fraction(3 * quantity) * Fraction(price)
    assert Fraction(lot.pnl) == exact
    assert Fraction(tally.pnl) == exact + Fraction(fee)
    assert average(order.filled_value, order.filled) == price


def test_a_partial_fill_leaves_an_order_open() -> None:
    order = ledger.filled_order(make_order(), make_fill(make_order(), quantity=Decimal("0.4"), time_ms=9))

    assert (order.status, order.remaining, order.ended_at_ms) == (OrderStatus.OPEN, Decimal("0.6"), 0)
    assert ledger.filled_order(order, make_fill(order, time_ms=11)).ended_at_ms == 11


@pytest.mark.parametrize(
    "fields",
    [
        {"quantity": Decimal("1.001")},
        {"quantity": Decimal(0)},
        {"quantity": Decimal(-1)},
        {"quantity": Decimal("NaN")},
        {"price": Decimal(0)},
        {"price": Decimal("NaN")},
        {"price": Decimal("Infinity")},
        {"fee": Decimal("NaN")},
        {"symbol": OTHER},
        {"side": Side.SELL},
    ],
)
def test_a_fill_that_cannot_be_true_is_an_invariant_broken(fields: dict[str, Any]) -> None:
    with pytest.raises(InvariantBroken, match="ord_1"):
        ledger.filled_order(make_order(), make_fill(make_order(), **fields))


def test_a_lot_is_never_turned_around() -> None:
    with pytest.raises(InvariantBroken, match=r"pos_1 of 1 was left by 1\.5"):
        ledger.left(make_position(), make_fill(make_order(), quantity=Decimal("1.5")))


@pytest.mark.parametrize(("lot", "part", "beyond"), [("1.5", "1.5", "0"), ("1", "1", "0.5"), (None, None, "1.5")])
def test_what_leaves_more_than_there_is_goes_beyond_its_lot(lot: str | None, part: str | None, beyond: str) -> None:
    position = None if lot is None else make_position(entry_quantity=Decimal(lot))
    fill = make_fill(make_order(), quantity=Decimal("1.5"), fee=Decimal("0.3"))

    fits, rest = ledger.fitting(position, fill)

    assert rest == Decimal(beyond)
    assert (fits and fits.quantity) == (part and Decimal(part))
    assert fits is None or fits.fee == Decimal("0.3")


def test_funding_is_added_and_its_time_kept() -> None:
    paid = ledger.funded(ledger.funded(make_position(), Decimal("-0.3"), 5), Decimal("0.1"), 9)

    assert (paid.funding, paid.funded_at_ms, paid.pnl) == (Decimal("-0.2"), 9, Decimal("-0.2"))


def test_funding_that_is_not_a_number_is_an_invariant_broken() -> None:
    with pytest.raises(InvariantBroken, match="funding of position pos_1"):
        ledger.funded(make_position(), Decimal("NaN"), 5)


def test_a_closed_lot_knows_when_and_why() -> None:
    closed = ledger.closed(make_position(), CloseReason.STOP_LOSS, 77)

    assert (closed.is_open, closed.closed_at_ms, closed.reason) == (False, 77, CloseReason.STOP_LOSS)
