"""Moments of a window are the floats nearest to the exact ones, whatever else was ever in it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.signals.window import WindowMoments


def price_of(digits: int, exponent: int) -> Decimal:
    return Decimal(digits).scaleb(exponent)


PRICES = st.builds(price_of, st.integers(1, 10**15 - 1), st.integers(-20, 2))


def moments(prices: Sequence[Decimal | float], window: int) -> tuple[float, float]:
    found = WindowMoments(window)
    full = [found.push(float(price)) for price in prices]
    assert full == [number >= window for number in range(1, len(prices) + 1)]
    return found.mean, found.variance


@given(st.lists(PRICES, min_size=1, max_size=30), st.integers(1, 30))
def test_mean_and_variance_are_the_floats_nearest_to_the_exact_ones(prices: list[Decimal], window: int) -> None:
    window = min(window, len(prices))
    last = [Fraction(price) for price in prices[-window:]]
    mean = sum(last, Fraction()) / window
    variance = sum(((price - mean) ** 2 for price in last), Fraction()) / window

    assert moments(prices, window) == (float(mean), float(variance))


@given(st.lists(PRICES, max_size=20), st.lists(st.floats(1e-6, 1e18), min_size=1, max_size=10))
def test_neither_order_nor_past_shows(past: list[Decimal], last: list[float]) -> None:
    assert moments([*past, *last], len(last)) == moments(sorted(last), len(last))


def test_a_price_finer_than_any_float_of_a_power_of_ten_is_rounded_to_that() -> None:
    assert moments([1e-30, 3e-22], 2) == (1.5e-22, 2.25e-44)


@pytest.mark.parametrize("price", [0.1, 0.07, 1.005, 123_456.78, 4_503_599_627_370_496.0, 0.000_012_34])
def test_a_price_that_stays_is_its_own_mean_without_deviation(price: float) -> None:
    assert moments([1e9, 1e-9, *[price] * 7], 7) == (price, 0.0)
