"""The venue's filters: what passes, and which one an order fails first."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipaid.model.instrument import MINUTE_MS, Timeframe
from tests.builders import make_instrument

FILTERS = make_instrument(
    quantity_min=Decimal("0.002"),
    quantity_max=Decimal(100),
    market_quantity_max=Decimal(10),
    price_min=Decimal(1),
    price_max=Decimal(1000),
    notional_min=Decimal(2),
)


def objection(quantity: str, price: str, *, reduce_only: bool = False, market: bool = False) -> str | None:
    return FILTERS.objection(quantity=Decimal(quantity), price=Decimal(price), reduce_only=reduce_only, market=market)


@pytest.mark.parametrize(
    ("quantity", "price"), [("0.05", "100"), ("0.002", "1000"), ("100", "1"), ("5", "1"), ("1", "99.9")]
)
def test_an_order_at_or_inside_every_limit_passes(quantity: str, price: str) -> None:
    assert objection(quantity, price) is None


@pytest.mark.parametrize(
    ("quantity", "price", "told"),
    [
        ("0", "100", "LOT_SIZE: quantity 0 is not a positive multiple of 0.001"),
        ("-1", "100", "LOT_SIZE: quantity -1 is not"),
        ("0.0025", "100", "LOT_SIZE: quantity 0.0025 is not"),
        ("0.001", "1000", "LOT_SIZE: quantity 0.001 is outside"),
        ("100.001", "100", "LOT_SIZE: quantity 100.001 is outside"),
        ("1", "0", "PRICE_FILTER: price 0 is not"),
        ("1", "-5", "PRICE_FILTER: price -5 is not"),
        ("1", "100.05", "PRICE_FILTER: price 100.05 is not a positive multiple of 0.1"),
        ("10", "0.9", "PRICE_FILTER: price 0.9 is outside"),
        ("1", "1000.1", "PRICE_FILTER: price 1000.1 is outside"),
        ("0.019", "100", "MIN_NOTIONAL: 1.9 is below 2"),
        ("NaN", "100", "LOT_SIZE: quantity NaN is not a number"),
        ("Infinity", "100", "LOT_SIZE: quantity Infinity is not a number"),
        ("1", "NaN", "PRICE_FILTER: price NaN is not a number"),
        ("1", "Infinity", "PRICE_FILTER: price Infinity is not a number"),
    ],
)
def test_the_first_filter_that_fails_is_named(quantity: str, price: str, told: str) -> None:
    assert (objection(quantity, price) or "").startswith(told)


def test_market_orders_have_a_limit_of_their_own_and_no_price_to_judge() -> None:
    assert objection("10", "100.05", market=True) is None
    assert (objection("10.001", "100", market=True) or "").startswith("LOT_SIZE")


def test_what_reduces_is_exempt_from_the_minimum_notional() -> None:
    assert objection("0.002", "100", reduce_only=True) is None


@pytest.mark.parametrize(
    ("wanted", "quantity"), [("0.0019", "0"), ("0.002", "0.002"), ("1.2349", "1.234"), ("0", "0"), ("-1", "0")]
)
def test_a_quantity_is_cut_to_the_lot_and_to_nothing_below_the_minimum(wanted: str, quantity: str) -> None:
    assert FILTERS.quantity(Decimal(wanted)) == Decimal(quantity)


def test_a_filter_of_zero_is_off() -> None:
    free = make_instrument(tick_size=Decimal(0), lot_size=Decimal(0))

    told = free.objection(
        quantity=Decimal("0.123456789"), price=Decimal("0.987654321"), reduce_only=False, market=False
    )

    assert told is None


def test_every_timeframe_is_a_whole_number_of_minutes_and_divides_a_day() -> None:
    for timeframe in Timeframe:
        assert timeframe.ms % MINUTE_MS == 0
        assert 86_400_000 % timeframe.ms == 0
