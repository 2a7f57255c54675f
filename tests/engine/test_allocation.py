"""How much: shares of the capital, and the quantity of an entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest

from pipaid.engine.allocation import Room, capital_by_symbol, entry_quantity, reserve_price
from pipaid.engine.template import Enter, Template
from tests.builders import OTHER, SYMBOL, NoParams, enter, make_instrument, scripted


def quantity(intent: Enter, *, room: str = "1000", equity: str = "1000", market: bool = False, **filters: Any) -> str:
    wanted = entry_quantity(
        intent,
        price=Decimal(100),
        instrument=make_instrument(**filters),
        room=Room(Decimal(room), Decimal(equity)),
        market=market,
    )
    return str(wanted)


def shares(**given: str | Decimal) -> Callable[..., dict[str, Decimal]]:
    """Return the allocation of a template, by symbol."""

    def allocation(_: Template, symbols: Sequence[str]) -> dict[str, Decimal]:
        return {symbol: Decimal(share) for symbol, share in given.items()}

    return allocation


def test_capital_is_split_evenly_unless_the_template_says_otherwise() -> None:
    even, uneven = scripted(), scripted(allocation=shares(**{SYMBOL: "0.7", OTHER: "0"}))

    assert capital_by_symbol(even(NoParams()), [SYMBOL, OTHER], Decimal(1000)) == {SYMBOL: 500, OTHER: 500}
    assert capital_by_symbol(uneven(NoParams()), [SYMBOL, OTHER], Decimal(1000)) == {SYMBOL: 700, OTHER: 0}


@pytest.mark.parametrize("count", range(1, 11))
def test_equal_shares_of_any_number_of_symbols_are_accepted(count: int) -> None:
    symbols = [f"S{number}" for number in range(count)]

    shares = capital_by_symbol(scripted()(NoParams()), symbols, Decimal(1000))

    assert sum(shares.values(), Decimal(0)).quantize(Decimal("1e-20")) == 1000


@pytest.mark.parametrize(
    "wrong",
    [
        {SYMBOL: Decimal("0.6"), OTHER: Decimal("0.5")},
        {SYMBOL: Decimal("-0.1"), OTHER: Decimal("0.5")},
        {SYMBOL: Decimal(1)},
        {SYMBOL: Decimal("0.5"), OTHER: Decimal("0.2"), "XRPUSDT": Decimal("0.1")},
    ],
)
def test_a_wrong_split_is_refused(wrong: dict[str, Decimal]) -> None:
    template = scripted(allocation=shares(**wrong))

    with pytest.raises(ValueError, match="allocation must give each"):
        capital_by_symbol(template(NoParams()), [SYMBOL, OTHER], Decimal(1000))


def test_market_entries_are_reserved_at_a_worse_price() -> None:
    assert reserve_price(Decimal(100), market=True) == 101
    assert reserve_price(Decimal(100), market=False) == 100


@pytest.mark.parametrize(
    ("intent", "expected"),
    [
        (enter(quantity=Decimal("1.23456")), "1.234"),
        (enter(quantity=Decimal(50)), "50.000"),  # Judged by the gate, not clamped.
        (enter(notional=Decimal(250)), "2.500"),
        (enter(notional=Decimal(5000)), "10.000"),
        (enter(risk=Decimal("0.01"), stop_price=Decimal(98)), "5.000"),
        (enter(risk=Decimal("0.01"), stop_price=Decimal(102)), "5.000"),
        (enter(risk=Decimal("0.01"), stop_price=Decimal("99.9")), "10.000"),
        (enter(risk=Decimal("0.01"), stop_price=Decimal(100)), "0"),
    ],
)
def test_an_entry_is_sized_by_what_it_says(intent: Enter, expected: str) -> None:
    assert Decimal(quantity(intent)) == Decimal(expected)


def test_a_market_entry_leaves_room_for_its_worse_price() -> None:
    assert quantity(enter(notional=Decimal(1000)), market=True) == "9.900"


@pytest.mark.parametrize("room", ["0", "-50"])
def test_without_room_nothing_is_left(room: str) -> None:
    assert Decimal(quantity(enter(notional=Decimal(100)), room=room)) == 0


def test_lost_equity_risks_nothing_more() -> None:
    assert Decimal(quantity(enter(risk=Decimal("0.01"), stop_price=Decimal(90)), equity="-5")) == 0


def test_sizes_stop_at_what_one_market_order_can_close() -> None:
    assert quantity(enter(notional=Decimal(900)), market_quantity_max=Decimal(2)) == "2.000"
    assert quantity(enter(notional=Decimal(900)), quantity_max=Decimal(3)) == "3.000"


def test_below_the_smallest_quantity_there_is_none() -> None:
    assert Decimal(quantity(enter(notional=Decimal(1)), quantity_min=Decimal("0.02"))) == 0
