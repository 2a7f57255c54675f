"""A lot's figures: prices, profit, margin."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipaid.model.order import Side
from pipaid.model.position import Direction
from tests.builders import make_position

PARTLY_LEFT = make_position(
    entry_quantity=Decimal(4),
    entry_value=Decimal(400),
    exit_quantity=Decimal(1),
    exit_value=Decimal(110),
    fees=Decimal("0.5"),
    funding=Decimal("-0.25"),
    leverage=2,
)


def test_directions_know_their_sides() -> None:
    assert (Direction.LONG.entry_side, Direction.LONG.exit_side) == (Side.BUY, Side.SELL)
    assert (Direction.SHORT.entry_side, Direction.SHORT.exit_side) == (Side.SELL, Side.BUY)


@pytest.mark.parametrize(
    ("direction", "pnl", "unrealised"), [(Direction.LONG, "9.25", "60"), (Direction.SHORT, "-10.75", "-60")]
)
def test_a_partly_left_lot_has_both_kinds_of_profit(direction: Direction, pnl: str, unrealised: str) -> None:
    lot = make_position(
        direction=direction,
        entry_quantity=Decimal(4),
        entry_value=Decimal(400),
        exit_quantity=Decimal(1),
        exit_value=Decimal(110),
        fees=Decimal("0.5"),
        funding=Decimal("-0.25"),
    )

    assert lot.pnl == Decimal(pnl)
    assert lot.unrealised(Decimal(120)) == Decimal(unrealised)


def test_the_open_part_binds_its_share() -> None:
    assert PARTLY_LEFT.quantity == 3
    assert PARTLY_LEFT.open_value == 300
    assert PARTLY_LEFT.margin() == 150
    assert PARTLY_LEFT.entry_price == 100
    assert PARTLY_LEFT.exit_price == 110


def test_a_closed_lot_has_the_exact_difference_of_its_cash() -> None:
    third = make_position(
        entry_quantity=Decimal(3), entry_value=Decimal(100), exit_quantity=Decimal(3), exit_value=Decimal("100.01")
    )

    assert third.pnl == Decimal("0.01")


def test_an_empty_lot_is_worth_nothing() -> None:
    empty = make_position(entry_quantity=Decimal(0), entry_value=Decimal(0))

    assert {empty.entry_price, empty.exit_price, empty.pnl, empty.open_value} == {Decimal(0)}


def test_an_untouched_lot_binds_exactly_what_it_cost() -> None:
    lot = make_position(entry_quantity=Decimal(3), entry_value=Decimal(100))

    assert lot.open_value == 100
