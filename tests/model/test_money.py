"""Money as text and on its steps: what is accepted, how it is rounded, how it is shown."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.errors import InvalidParameter
from pipaid.model.money import (
    average,
    exact_text,
    floor_to_step,
    nearest_tick,
    parse_decimal,
    plain,
    price_on_tick,
    quote_text,
    ratio_text,
)

LARGEST = "999999999999999999.999999999999999999"
STEPS = ("10", "1", "0.5", "0.25", "0.1", "0.001", "0.00001", "0.000000000000000001", "1E+1", "1E-5")

amounts = st.decimals(
    min_value=0, max_value=10**18 - 1, allow_nan=False, allow_infinity=False, places=18
) | st.decimals(min_value=0, max_value=1000, allow_nan=False, allow_infinity=False)
steps = st.sampled_from([Decimal(step) for step in STEPS])


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("12.50", "12.50"),
        ("-3", "-3"),
        ("007", "7"),
        (LARGEST, LARGEST),
        ("-" + LARGEST, "-" + LARGEST),
        (42, "42"),
        (-1, "-1"),
        (10**18 - 1, "999999999999999999"),
        (Decimal("1.5"), "1.5"),
    ],
)
def test_decimal_strings_and_integers_are_taken(sent: object, meant: str) -> None:
    assert parse_decimal(sent, field="capital") == Decimal(meant)


@pytest.mark.parametrize(
    "sent",
    [
        "NaN", "nan", "sNaN", "Infinity", "-inf", "1e3", "1E3", "1e999999", "0x10", "1_000", "1,5", "1.", ".5", "",
        " 1", "1 ", "1\n", "+1", "--1", "1.2.3", "١٢", "１２", "9" * 19, "0." + "0" * 19, 1.5, 0.0, float("nan"), True,
        False, None, 10**18, -(10**18), [], {}, b"1", Decimal("NaN"), Decimal("Infinity"), Decimal(10**18),
    ],
)  # fmt: skip
def test_everything_else_is_refused_by_name(sent: object) -> None:
    with pytest.raises(InvalidParameter, match=r"^capital must be a decimal string") as refused:
        parse_decimal(sent, field="capital")

    assert refused.value.details[0][0] == "capital"


def test_a_refusal_does_not_repeat_a_long_text() -> None:
    with pytest.raises(InvalidParameter) as refused:
        parse_decimal("9" * 100_000, field="capital")

    assert len(refused.value.message) < 300


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1E+2", "100"),
        ("1.50", "1.5"),
        ("0.00", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("100", "100"),
        ("1E-8", "0.00000001"),
        ("-2.10", "-2.1"),
        (LARGEST, LARGEST),
    ],
)
def test_plain_text_has_neither_exponent_nor_trailing_zeros(value: str, text: str) -> None:
    assert plain(Decimal(value)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0.00"),
        ("-0.001", "0.00"),
        ("0.005", "0.01"),
        ("-0.005", "-0.01"),
        ("2.675", "2.68"),
        ("1E+3", "1000.00"),
        (LARGEST, "1000000000000000000.00"),
        ("1E+40", "1" + "0" * 40 + ".00"),
    ],
)
def test_quote_amounts_show_two_decimals_half_away_from_zero(value: str, text: str) -> None:
    assert quote_text(Decimal(value)) == text


@pytest.mark.parametrize(
    ("value", "text"), [("0", "0.000"), ("1", "1.000"), ("0.5555", "0.556"), ("0.0005", "0.000"), ("0.0015", "0.002")]
)
def test_ratios_show_three_decimals_half_to_even(value: str, text: str) -> None:
    assert ratio_text(Decimal(value)) == text


@pytest.mark.parametrize(
    ("value", "step", "floored"),
    [
        ("129.9", "10", "120"),
        ("1.234567", "0.00001", "1.23456"),
        ("0.3", "0.1", "0.3"),
        ("0.30000000000000000000000000001", "0.1", "0.3"),
        ("0.99999999999999999999999999999", "1", "0"),
        ("-1.27", "0.1", "-1.2"),
        ("5", "0", "5"),
        (LARGEST, "0.000000000000000001", LARGEST),
        ("0.0009", "0.001", "0"),
    ],
)
def test_quantities_are_cut_to_the_lot(value: str, step: str, floored: str) -> None:
    assert floor_to_step(Decimal(value), Decimal(step)) == Decimal(floored)


@pytest.mark.parametrize(
    ("price", "tick", "nearest", "down", "up"),
    [
        ("100.26", "0.1", "100.3", "100.2", "100.3"),
        ("100.25", "0.1", "100.2", "100.2", "100.3"),
        ("100.35", "0.1", "100.4", "100.3", "100.4"),
        ("1234", "10", "1230", "1230", "1240"),
        ("1235", "10", "1240", "1230", "1240"),
        ("0.000014", "0.00001", "0.00001", "0.00001", "0.00002"),
        ("0.7", "0", "0.7", "0.7", "0.7"),
        ("0.30000000000000000000000000001", "0.1", "0.3", "0.3", "0.4"),
    ],
)
def test_prices_are_put_on_the_tick(price: str, tick: str, nearest: str, down: str, up: str) -> None:
    value, step = Decimal(price), Decimal(tick)

    assert nearest_tick(value, step) == Decimal(nearest)
    assert price_on_tick(value, step, up=False) == Decimal(down)
    assert price_on_tick(value, step, up=True) == Decimal(up)


@given(amounts, steps)
def test_a_floor_is_the_largest_multiple_that_is_not_above(value: Decimal, step: Decimal) -> None:
    floored = floor_to_step(value, step)

    exact = _fraction(floored), _fraction(value), _fraction(step)
    assert exact[0] <= exact[1] < exact[0] + exact[2]
    assert exact[0] % exact[2] == 0
    assert floor_to_step(floored, step) == floored


@given(amounts, steps)
def test_a_price_on_the_tick_is_between_floor_and_ceiling(value: Decimal, step: Decimal) -> None:
    down, near = price_on_tick(value, step, up=False), nearest_tick(value, step)
    up = price_on_tick(value, step, up=True)

    assert _fraction(down) <= _fraction(value) <= _fraction(up)
    assert near in (down, up)
    assert abs(_fraction(near) - _fraction(value)) * 2 <= _fraction(step)
    assert nearest_tick(near, step) == near


@given(amounts)
def test_plain_text_means_the_same_number(value: Decimal) -> None:
    assert Decimal(plain(value)) == value


def _fraction(value: Decimal) -> Fraction:
    return Fraction(*value.as_integer_ratio())


@pytest.mark.parametrize(
    ("fills", "expected"),
    [
        ([("0.007", "86813.6")], "86813.6"),
        ([("1.20", "158.40"), ("3.00", "158.41")], "158.4071"),
        ([("10", "100"), ("20", "200")], "166.67"),
        ([("7824.0", "2.5270")], "2.5270"),
    ],
)
def test_an_average_shows_the_decimals_of_its_prices(fills: list[tuple[str, str]], expected: str) -> None:
    bought = [(Decimal(quantity), Decimal(price)) for quantity, price in fills]

    mean = average(sum(q * p for q, p in bought) + Decimal(0), sum(q for q, _ in bought) + Decimal(0))

    assert exact_text(mean) == expected
