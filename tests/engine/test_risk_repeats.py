"""The gate against runaways and for winding down: identical orders are counted, and reduce-only lets nothing in."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipaid.engine.book import Book, Caps
from pipaid.engine.risk import Approved, Refused, likeness_of
from pipaid.model.order import OrderType, Side
from tests.builders import OTHER, START_MS, make_order
from tests.engine.test_risk import ENTRY, EXIT, judged, verdict


def test_reduce_only_lets_nothing_in_and_everything_out() -> None:
    book = Book(caps=Caps(reduce_only=True))

    assert judged(ENTRY, book) == Refused("reduce_only", "off", "on")
    assert isinstance(judged(EXIT, book), Approved)


@pytest.mark.parametrize(
    ("changed", "counts"),
    [
        ({}, True),
        ({"quantity": Decimal(2)}, False),
        ({"price": Decimal(101)}, False),
        ({"side": Side.SELL}, False),
        ({"symbol": OTHER}, False),
        ({"strategy_id": "strat_2"}, False),
        ({"placed_at_ms": START_MS - 60_000}, False),
    ],
)
def test_who_asks_for_just_the_same_again_and_again_is_held_up(changed: dict[str, Any], counts: bool) -> None:
    book = Book(caps=Caps(identical_orders_per_minute_max=3))
    for number in range(1, 4):
        placed = make_order(number, **{"placed_at_ms": START_MS - 1_000, **changed})
        book.rates.add(placed.client_order_id, placed.placed_at_ms, Decimal(100), likeness_of(placed))

    assert verdict(ENTRY, book) == (Refused("identical_orders", "3", "4") if counts else None)


def test_at_the_market_the_price_makes_no_difference() -> None:
    first, second = (make_order(n, type=OrderType.MARKET, price=Decimal(100 + n)) for n in (1, 2))
    assert likeness_of(first) == likeness_of(second)
